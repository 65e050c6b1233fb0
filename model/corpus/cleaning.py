"""What makes a row fit for training: the reasons to reject a pair or a piece of its cleaned text.

Every check reads a string as a whole, in C, as :mod:`model.text.cleaning` does and for the same reason.
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from model.config import CorpusConfig
from model.languages import SCRIPTS, length, lengths, scripts
from model.text.cleaning import clean_line, clean_lines
from model.text.detect import foreign, share_scripts
from model.text.tables import CharacterTable, codes_of, counts_of

_NOT_IN_AUTHOR = re.compile(r"[\s<>]+")

MAX_AUTHORS = 256  # each one becomes a control token
MAX_AUTHOR_CHARS = 64
# In letters of an alphabet (model.languages.length). A shorter line may well occur twice by chance, and does not tell
# how long its translation is: "Да." is "Yes, of course."
SHORT = 30
_OWN, _FOREIGN = 1, 2  # letters


@lru_cache(4 * MAX_AUTHORS)
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
        self._own = re.compile(f"[{ranges}]")
        self._foreign = re.compile(rf"[^\W\d_{ranges}]")
        self._min_ratio = min_ratio
        self._kinds = CharacterTable(self._kind)

    def accepts(self, text: str) -> bool:
        """True as well for a text without letters: there is nothing to judge."""
        return self.accept([text])[0]

    def accept(self, texts: Sequence[str]) -> list[bool]:
        """What :meth:`accepts` says of each."""
        doubtful = [not (self._ascii and text.isascii()) for text in texts]
        if not any(doubtful):
            return [True] * len(texts)
        codes, ends = codes_of([*itertools.compress(texts, doubtful)])
        kinds = self._kinds[codes]
        own, foreign = (counts_of(kinds == kind, ends) for kind in (_OWN, _FOREIGN))
        found = iter(((foreign == 0) | (own >= self._min_ratio * (own + foreign))).tolist())
        return [not doubt or next(found) for doubt in doubtful]

    def _kind(self, character: str) -> int:
        return _OWN if self._own.match(character) else _FOREIGN if self._foreign.match(character) else 0


class TestText:
    """The text of the test sets, which must not be trained on: whole sides of pairs, and long lines of running text."""

    __test__ = False  # not a test for pytest to collect

    def __init__(self) -> None:
        self.sides: set[str] = set()
        self.lines: set[str] = set()

    def add(self, sides: Iterable[str]) -> None:
        """Add rows of a test set."""
        texts = [*sides]
        cleaned = clean_lines(texts)
        self.sides.update(cleaned)
        for text, line in zip(texts, cleaned, strict=True):
            self.lines.update(_long_lines(text) if "\n" in text else [line] * (length(line) >= SHORT))


class PairCleaner:
    """Cleans sentence pairs and says why one is rejected."""

    def __init__(self, config: CorpusConfig, tests: TestText) -> None:
        self._max_chars, self._max_ratio, self._tests = config.max_chars, config.max_length_ratio, tests.sides
        self._scripts = [Script([language], config.min_script_ratio) for language in config.languages]
        # Letters tell Russian from English at no cost; German from English they do not.
        self._identified = config.languages if config.max_foreign < 1 and share_scripts(config.languages) else []
        self._max_foreign = config.max_foreign

    def __call__(self, pairs: Sequence[tuple[str, ...]]) -> list[tuple[str, str, str]]:
        """Of each pair both sides cleaned, and the reason of the rejection or ``""``."""
        sides = [clean_lines([pair[side] for pair in pairs]) for side in (0, 1)]
        written = [script.accept(texts) for script, texts in zip(self._scripts, sides, strict=True)]
        tests = self._tests
        # Of most pairs all at once tells that nothing is wrong with them.
        return [
            (first, second, "")
            if fit and first != second and first not in tests and second not in tests
            else (first, second, self._reason(first, second, own))
            for first, second, fit, *own in zip(*sides, self._fit(sides, written), *written, strict=True)
        ]

    def _fit(self, sides: Sequence[Sequence[str]], written: Sequence[Sequence[bool]]) -> list[bool]:
        """Whether both sides of each pair are as long as they should be, and in their language."""
        if self._identified:
            return [False] * len(sides[0])  # each is looked at by itself
        counts = np.array([[*map(len, texts)] for texts in sides])
        one, other = np.array([lengths(texts) for texts in sides])
        short, long = np.minimum(one, other), np.maximum(one, other)
        fit = (short > 0) & (long <= np.maximum(SHORT, self._max_ratio * short)) & (counts <= self._max_chars).all(0)
        return (fit & np.array(written).all(0)).tolist()

    def _reason(self, first: str, second: str, own: Sequence[bool]) -> str:
        short, long = sorted((length(first), length(second)))
        if not short:
            return "empty"
        if len(first) > self._max_chars or len(second) > self._max_chars:
            return "too_long"
        if long > max(SHORT, self._max_ratio * short):
            return "length_ratio"
        if first == second:
            return "identical"
        if first in self._tests or second in self._tests:
            return "test_set"
        if not all(own):
            other_way = self._scripts[0].accepts(second) and self._scripts[1].accepts(first)
            return "swapped" if other_way else "script"
        if any(foreign(*side) > self._max_foreign for side in zip((first, second), self._identified, strict=False)):
            return "language"
        return ""


class PieceFilter:
    """Says why a piece of running text is rejected, which stays as it is."""

    def __init__(self, config: CorpusConfig, tests: TestText) -> None:
        self._script, self._tests = Script(config.languages, config.min_script_ratio), tests.lines

    def __call__(self, pieces: Sequence[tuple[str, ...]]) -> list[tuple[str, str]]:
        """Each piece, which is all of its row, and the reason of the rejection or ``""``."""
        written = self._script.accept([piece for (piece,) in pieces])
        return [(piece, self._reason(piece, own)) for (piece,), own in zip(pieces, written, strict=True)]

    def _reason(self, piece: str, own: bool) -> str:
        if not piece or piece.isspace():
            return "empty"
        if self._tests and not self._tests.isdisjoint(_long_lines(piece)):
            return "test_set"
        return "" if own else "script"


def _long_lines(text: str) -> Sequence[str]:
    return [line for line in map(clean_line, text.split("\n")) if length(line) >= SHORT]
