"""Which of a model's languages a text is written in, and how sure that is.

By its letters where the languages have scripts of their own. Languages that share one are told apart by py3langid: 139
languages, 5 MB without a download or a pickle. It is loaded when it is first needed (0.6 s, 60 MB), which is never for
Russian and English; :func:`load` does so beforehand.

    detect("Привет, Alice!", ["ru", "en"])  # [Detection("ru", 0.55), Detection("en", 0.45)]
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from model.languages import count_letters, primary, scripts
from model.unicode import nfc

CHARS = 2_000  # as much of a text as is read: more would not make it surer
# From here on a text counts as being in a language: one Latin name in five words of Russian is still Russian.
CONFIDENT = 0.75
LETTERS = 30  # a text of fewer is not called foreign: names and terms are alike in many languages
_LETTERS = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Detection:
    """A language, and the share of the evidence that speaks for it, 0 to 1."""

    language: str
    confidence: float


def detect(text: str, languages: Sequence[str]) -> list[Detection]:
    """How likely a text is in each of the languages, the likeliest first; the text is in none but these, or in nothing.

    The confidence is the share of the text's letters that are in the language's script, divided among the languages of
    one script by what they look like. Equal confidences say that nothing tells them apart; where a language's script is
    unknown, or no letter is of any of them, all are 0.
    """
    text = nfc(text[:CHARS])
    written = [scripts(code) for code in languages]
    # A language that has several scripts uses one at a time.
    counts = [max((count_letters(name, text) for name in names), default=0) for names in written]
    best = max(counts, default=0)
    if not best or not all(written):
        return [Detection(code, 0.0) for code in languages]
    letters = max(best, sum(map(len, _LETTERS.findall(text))))
    first = [code for code, count in zip(languages, counts, strict=True) if count == best]
    looks = _looks(text, first)
    found = [
        Detection(code, best * looks[code] / letters if code in looks else min(count, letters - best) / letters)
        for code, count in zip(languages, counts, strict=True)
    ]
    return sorted(found, key=lambda one: -one.confidence)


def detected(text: str, languages: Sequence[str]) -> Detection | None:
    """The language that a text is in; None where nothing says which."""
    first, *others = detect(text, languages)
    tied = any(one.confidence == first.confidence for one in others)
    return None if tied or not first.confidence else first


def foreign(text: str, language: str) -> float:
    """The probability that a text is in another language than it should be, of all that the detector knows.

    0 where it does not know the language, and where the text has too few letters to be judged.
    """
    if sum(map(len, _LETTERS.findall(text))) < LETTERS:
        return 0.0
    found = dict(_identifier().rank(nfc(text[:CHARS])))
    return 1 - found[primary(language)] if primary(language) in found else 0.0


def share_scripts(languages: Sequence[str]) -> bool:
    """Whether two of the languages may be written in the same script, so that letters do not tell them apart."""
    known = [name for code in languages for name in set(scripts(code))]
    return len(set(known)) < len(known)


def load(languages: Sequence[str]) -> None:
    """Load the detector now, where two of the languages share a script, so that no caller waits for it."""
    if share_scripts(languages):
        _identifier()


def _looks(text: str, languages: Sequence[str]) -> dict[str, float]:
    """The probability of each language by the sequences of letters in a text; equal where the detector lacks one."""
    equal = dict.fromkeys(languages, 1 / len(languages))
    if len(languages) == 1:
        return equal
    found = dict(_identifier().rank(text))
    looks = [found.get(primary(code), -1.0) for code in languages]
    total = sum(looks)
    if total <= 0 or min(looks) < 0:
        return equal
    return {code: look / total for code, look in zip(languages, looks, strict=True)}


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # here, as most models never need it

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
