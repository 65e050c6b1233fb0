"""Rows as people really send them: dirty, and two at a time. What of their score is left?

The dirt is of the kinds that cleaning takes away (:mod:`model.text.cleaning`), two in each row, and of those that it
leaves to the model: typographic quotation marks for plain ones and the reverse, ``е`` for ``ё``, an emoji at the end.
Pairs of neighbouring rows are joined by a line break and by a space in turn, but where the first does not end like a
sentence, as the words on a button: only a line break tells it from the next. All of it comes from a seed: every variant
is given the same, and so is the next run.

    dirty = next(variations(["Кот спит.", "Ещё рано!"]))
    dirty.sources, dirty.expected(["The cat sleeps.", "It is early!"])
"""

import random
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from model.text.cleaning import CYRILLIC, LATIN, STRESS

Change = Callable[[str, random.Random], str]
_EMOJI = (" 🙂", " 👍🏽", "❤\ufe0f", " 😀😀")
_SPACE, _INSIDE, _VOWEL = re.compile(" "), re.compile(r"(?<=\w)(?=\w)"), re.compile("(?<=[аеиоуыэюя])")
_ALIKE = re.compile(f"(?<=[а-яё])[{CYRILLIC}](?=[а-яё])")
_ENDS = (".", "!", "?", "…")
_MARKS = {"'": "’", "’": "'", "«": '"', "»": '"', "“": '"', "”": '"', "—": "–", "ё": "е", "Ё": "Е"}


class Variation(NamedTuple):
    """Sources made of rows, and of which: (their indices, what follows) each."""

    name: str
    sources: list[str]
    rows: list[tuple[tuple[int, ...], str]]

    def expected(self, texts: Sequence[str]) -> list[str]:
        """What becomes of the rows' own texts, one each."""
        return [" ".join(texts[i] for i in indices) + tail for indices, tail in self.rows]


def variations(texts: Sequence[str]) -> Iterator[Variation]:
    """A dirty copy of the texts, and pairs of neighbours."""
    dice = random.Random(0)
    tails = ["" if dice.random() < 0.75 else dice.choice(_EMOJI) for _ in texts]
    dirt = [dirty(text, dice) + tail for text, tail in zip(texts, tails, strict=True)]
    if texts:
        yield Variation("dirty", dirt, [((i,), tail) for i, tail in enumerate(tails)])
    pairs = [(i, i + 1) for i in range(0, len(texts) - 1, 2)]
    joined = [
        (" " if n % 2 and texts[i].endswith(_ENDS) else "\n").join((texts[i], texts[j]))
        for n, (i, j) in enumerate(pairs)
    ]
    if pairs:
        yield Variation("in pairs", joined, [(pair, "") for pair in pairs])


def dirty(text: str, dice: random.Random) -> str:
    """The text with two kinds of dirt that cleaning takes away, and other marks than it had."""
    if '"' in text:
        opening = iter("“”" * text.count('"'))
        text = re.sub('"', lambda _: next(opening), text)
    else:
        text = "".join(_MARKS.get(character, character) for character in text)
    for change in dice.sample(_TAKEN_AWAY, 2):
        text = change(text, dice)
    return text


def _at(place: re.Pattern[str], put: Callable[[str], str]) -> Change:
    """Changes what a pattern matches in one of the places where it does, if there are any."""

    def change(text: str, dice: random.Random) -> str:
        found = list(place.finditer(text))
        if not found:
            return text
        match = dice.choice(found)
        return text[: match.start()] + put(match[0]) + text[match.end() :]

    return change


_TAKEN_AWAY: tuple[Change, ...] = (
    _at(_SPACE, lambda _: "\u00a0"),
    _at(_SPACE, lambda _: "\t"),
    _at(_SPACE, lambda _: "  "),
    _at(_INSIDE, lambda _: "\u00ad"),
    _at(_INSIDE, lambda _: "\u200b"),
    _at(_VOWEL, lambda _: STRESS),
    _at(_ALIKE, lambda letter: LATIN[CYRILLIC.index(letter)]),
    lambda text, _: "\ufeff" + text,
    lambda text, _: unicodedata.normalize("NFD", text),
)
