"""What makes a row fit for training: the reasons to reject a pair or a piece of its cleaned text.

Every check reads a string as a whole, in C, as :mod:`model.text.cleaning` does and for the same reason.
"""

import re
from collections.abc import Iterable, Sequence

from model.config import CorpusConfig
from model.languages import SCRIPTS, length, scripts
from model.text.cleaning import clean_line
from model.text.detect import foreign, share_scripts

_NOT_IN_AUTHOR = re.compile(r"[\s<>]+")

MAX_AUTHORS = 256  # each one becomes a control token
MAX_AUTHOR_CHARS = 64
# In letters of an alphabet (model.languages.length). A shorter line may well occur twice by chance, and does not tell
# how long its translation is: "Да." is "Yes, of course."
SHORT = 30


def clean_author(author: str) -> str:
    """An author's name as it stands in a control token: white space and angle brackets become hyphens."""
    return _NOT_IN_AUTHOR.sub("-", clean_line(author)[:MAX_AUTHOR_CHARS])


class Script:
    """Whether enough of a text's letters belong to the scripts of its languages, as far as those are known."""

    def __init__(self, languages: Iterable[str], min_ratio: float) -> None:
        written = [scripts(code) for code in languages]
        names = {name for names in written for name in names} if all(written) else set[str]()
        ranges = "".join(SCRIPTS[name] for name in sorted(names)) or r"\w"  # no letter is foreign where none is known
        self._ascii = "Latin" in names
        self._own = re.compile(f"[{ranges}]+")
        self._foreign = re.compile(rf"[^\W\d_{ranges}]+")
        self._min_ratio = min_ratio

    def accepts(self, text: str) -> bool:
        """True as well for a text without letters: there is nothing to judge."""
        if self._ascii and text.isascii():
            return True
        foreign = sum(map(len, self._foreign.findall(text)))
        return not foreign or (own := sum(map(len, self._own.findall(text)))) >= self._min_ratio * (own + foreign)


class TestText:
    """The text of the test sets, which must not be trained on: whole sides of pairs, and long lines of running text."""

    __test__ = False  # not a test for pytest to collect

    def __init__(self) -> None:
        self.sides: set[str] = set()
        self.lines: set[str] = set()

    def add(self, sides: Iterable[str]) -> None:
        """Add one row of a test set."""
        for side in sides:
            self.sides.add(clean_line(side))
            self.lines.update(_long_lines(side))


class PairCleaner:
    """Cleans sentence pairs and says why one is rejected."""

    def __init__(self, config: CorpusConfig, tests: TestText) -> None:
        self._max_chars, self._max_ratio, self._tests = config.max_chars, config.max_length_ratio, tests.sides
        self._scripts = [Script([language], config.min_script_ratio) for language in config.languages]
        # Letters tell Russian from English at no cost; German from English they do not.
        self._identified = config.languages if config.max_foreign < 1 and share_scripts(config.languages) else []
        self._max_foreign = config.max_foreign

    def __call__(self, first: str, second: str) -> tuple[str, str, str]:
        """Both sides cleaned, and the reason of the rejection or ``""``."""
        first, second = clean_line(first), clean_line(second)
        short, long = sorted((length(first), length(second)))
        if not short:
            reason = "empty"
        elif len(first) > self._max_chars or len(second) > self._max_chars:
            reason = "too_long"
        elif long > max(SHORT, self._max_ratio * short):
            reason = "length_ratio"
        elif first == second:
            reason = "identical"
        elif first in self._tests or second in self._tests:
            reason = "test_set"
        elif not (self._scripts[0].accepts(first) and self._scripts[1].accepts(second)):
            other_way = self._scripts[0].accepts(second) and self._scripts[1].accepts(first)
            reason = "swapped" if other_way else "script"
        elif any(foreign(*side) > self._max_foreign for side in zip((first, second), self._identified, strict=False)):
            reason = "language"
        else:
            reason = ""
        return first, second, reason


class PieceFilter:
    """Says why a piece of running text is rejected, which stays as it is."""

    def __init__(self, config: CorpusConfig, tests: TestText) -> None:
        self._script, self._tests = Script(config.languages, config.min_script_ratio), tests.lines

    def __call__(self, piece: str) -> tuple[str, str]:
        """The piece, and the reason of the rejection or ``""``."""
        if not piece or piece.isspace():
            return piece, "empty"
        if self._tests and not self._tests.isdisjoint(_long_lines(piece)):
            return piece, "test_set"
        return piece, "" if self._script.accepts(piece) else "script"


def _long_lines(text: str) -> Sequence[str]:
    return [line for line in map(clean_line, text.split("\n")) if length(line) >= SHORT]
