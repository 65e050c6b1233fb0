"""Terms whose translation is given: found in a text in any of their forms, and looked for in its translation.

A word is a term's if both have one stem (Snowball's, where it knows the language; the word itself where not), so that
`сервер` is found in "на серверах". Forms that change their stem (`узел`, `узла`) want a pair each. Capitals of a term
must be capitals of the text; a term without any is found in every case, and its translation takes the text's case.

    Glossary([("сервер", "host")], "ru", "en").find("На серверах пусто")  # [Span(3, 11, "host")]
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from threading import Lock
from typing import NamedTuple

from model.errors import ProjectError
from model.languages import primary
from model.text.spans import Attempt, Span, attempts

MOST_WORDS = 8  # of a term
MOST_CHARS = 128
_WORD = re.compile(r"\w+")
_STEMMERS = {
    "ar": "arabic", "hy": "armenian", "eu": "basque", "ca": "catalan", "cs": "czech", "da": "danish", "nl": "dutch",
    "en": "english", "eo": "esperanto", "et": "estonian", "fi": "finnish", "fr": "french", "de": "german",
    "el": "greek", "hi": "hindi", "hu": "hungarian", "id": "indonesian", "ga": "irish", "it": "italian",
    "lt": "lithuanian", "ne": "nepali", "no": "norwegian", "nb": "norwegian", "fa": "persian", "pl": "polish",
    "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "es": "spanish", "sv": "swedish",
    "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
_STEMMING = Lock()  # a stemmer keeps the word that it works on


class GlossaryError(ProjectError, ValueError):
    """Terms that cannot be taken; the message says which, and why."""


class _Word(NamedTuple):
    start: int
    end: int
    stem: str


class Glossary:
    """Terms of one language and their translations.

    Args:
        pairs: term and translation; of two pairs with one term the last counts.
        source: the language of the terms.
        target: the language of the translations.

    Raises:
        GlossaryError: for a term without a word, a translation without a character, and either one too long.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], source: str, target: str) -> None:
        self._source, self._target = source, target
        self._terms: dict[tuple[str, ...], tuple[str, str]] = {}
        for term, translation in pairs:
            check_pair(term, translation)
            stems = tuple(word.stem for word in _words(term, source))
            self._terms[stems] = term, translation
        self._lengths = sorted({len(stems) for stems in self._terms}, reverse=True)

    def find(self, text: str) -> list[Span]:
        """The terms of a text, of overlapping ones the longest, and what their translation is there."""
        words = list(_words(text, self._source))
        found, at = list[Span](), 0
        while at < len(words):
            length = self._length_at(text, words, at)
            if length:
                start, end = words[at].start, words[at + length - 1].end
                term, translation = self._terms[tuple(word.stem for word in words[at : at + length])]
                found.append(Span(start, end, _in_case(translation, term, text[start:end])))
            at += length or 1
        return found

    def attempts(self, text: str) -> list[Attempt]:
        """The ways to translate a text so that it uses the terms, see :func:`model.text.spans.attempts`."""
        terms = self.find(text)
        return attempts(text, terms, lambda translation: self.count_used(terms, translation) == len(terms))

    def count_used(self, terms: Sequence[Span], translation: str) -> int:
        """For how many of a text's terms its translation has theirs, in any form."""
        has = Counter(word.stem for word in _words(translation, self._target))
        wanted = Counter(tuple(word.stem for word in _words(term.kept, self._target)) for term in terms)
        return sum(min(count, *(has[stem] for stem in stems)) for stems, count in wanted.items())

    def _length_at(self, text: str, words: list[_Word], at: int) -> int:
        """How many words the longest term that begins with word ``at`` has; 0 where there is none."""
        for length in self._lengths:
            part = words[at : at + length]
            known = self._terms.get(tuple(word.stem for word in part))
            if known and len(part) == length and _fits(known[0], text[part[0].start : part[-1].end]):
                return length
        return 0


def check_pair(term: str, translation: str) -> None:
    """Refuse a pair that cannot be used.

    Raises:
        GlossaryError: naming it.
    """
    for name, text in (("term", term), ("translation", translation)):
        if len(text) > MOST_CHARS or len(_WORD.findall(text)) > MOST_WORDS:
            raise GlossaryError(
                f"the {name} {text[:40]!r} is longer than {MOST_WORDS} words or {MOST_CHARS} characters"
            )
        if not _WORD.search(text) or "\n" in text:
            raise GlossaryError(f"the {name} {text[:40]!r} of {term[:40]!r} must have a word, on one line")


def _fits(term: str, text: str) -> bool:
    """Whether the marks between the words and the capitals of a term are those of a text that has its stems."""
    between, found = _WORD.split(term)[1:-1], _WORD.split(text)[1:-1]
    if [gap.split() for gap in between] != [gap.split() for gap in found]:
        return False
    words = zip(_WORD.findall(term), _WORD.findall(text), strict=True)
    return all(other.isupper() for word in words for one, other in zip(*word, strict=False) if one.isupper())


def _in_case(translation: str, term: str, text: str) -> str:
    if term != term.lower() or translation != translation.lower():
        return translation
    if len(text) > 1 and text.isupper():
        return translation.upper()
    return translation[:1].upper() + translation[1:] if text[:1].isupper() else translation


def _words(text: str, language: str) -> Iterator[_Word]:
    code = primary(language)
    for match in _WORD.finditer(text):
        yield _Word(*match.span(), _stem(match[0].casefold(), code))


@lru_cache(maxsize=1 << 14)
def _stem(word: str, language: str) -> str:
    stemmer = _stemmer(_STEMMERS.get(language))
    if stemmer is None or len(word) > MOST_CHARS:
        return word
    with _STEMMING:
        return stemmer.stemWord(word)


@lru_cache
def _stemmer(name: str | None):
    import snowballstemmer  # here, as few requests have a glossary

    return snowballstemmer.stemmer(name) if name else None
