"""The lexicon: lexicon.yaml read into fillers, and the classes that templates draw their slots from.

.venv-phrasebook/bin/python -c "from tools.phrasebook.lexicon import lexicon; print(len(lexicon().choices('goods')))"
"""

import calendar
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tools.phrasebook import english, russian
from tools.phrasebook.fillers import (
    Adjective,
    Filler,
    Noun,
    NounPhrase,
    Number,
    Predicate,
    Pronoun,
    Relation,
    Verb,
    Word,
)
from tools.phrasebook.russian import CASES, Agreement, PhrasebookError

FOLDER = Path(__file__).parent
BARE = "~"
NAMES = {"cities", "countries", "men", "women"}


def _entries(text: str) -> list[tuple[str, str, str]]:
    """("чай", "tea", "mass") for every "чай = tea (mass)"."""
    found = []
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        match = re.fullmatch(r"([^=]+?) = ([^(]+?)(?: \(([^)]*)\))?", entry)
        if not match:
            raise PhrasebookError(f"lexicon.yaml: {entry!r} is not of the form 'Russian = English (flags)'")
        found.append((match[1], match[2], match[3] or ""))
    return found


def _noun(ru: str, en: str, flags: str, kind: str) -> Noun:
    words = flags.split() + (["proper"] if kind in NAMES else [])
    many = next((word.removeprefix("many=") for word in words if word.startswith("many=")), "")
    return Noun(ru, en, frozenset(words), many)


def _verb(ru: str, en: str) -> Verb:
    imperfective, _, rest = ru.partition(" / ")
    words = (rest or imperfective).split()
    first = imperfective.split()[0]
    if words[-1] in CASES:
        return Verb(first, words[0] if rest else "", en, "", " ".join(words[1:-1]), words[-1])
    return Verb(first, words[0] if rest else "", en, " ".join(words[1:]))


def _relation(ru: str, en: str) -> Relation:
    preposition, _, case = ru.rpartition(" ")
    return Relation(preposition, case, en)


def _numbers(text: str | int) -> list[int]:
    found: list[int] = []
    for part in str(text).split():
        low, _, high = part.partition("-")
        found += range(int(low), int(high or low) + 1)
    return found


def _times() -> list[Word]:
    """One o'clock to twelve o'clock, and the same hours with minutes."""
    words = []
    for hour in range(1, 13):
        spoken = russian.numeral(hour, "nomn", Agreement("sing"))
        hours = russian.form("час", ("NOUN",), *russian.count_grammemes("NOUN", "час", hour, "nomn"))
        words.append(Word("час" if hour == 1 else f"{spoken} {hours}", f"{english.number(hour)} o'clock"))
        for minute in (10, 15, 20, 30, 40, 45, 50):
            if hour > 1:
                spoken_minute = russian.numeral(minute, "nomn", Agreement("sing"))
                words.append(Word(f"{spoken} {spoken_minute}", f"{english.number(hour)} {english.number(minute)}"))
    return words


def _dates(months: list[NounPhrase]) -> list[Word]:
    """Every day of a year, the twenty-ninth of February left out: 5 мая, May 5."""
    return [
        Word(f"{day} {russian.noun(month.noun.ru, 'gent', 'sing')}", f"{month.noun.en} {day}")
        for number, month in enumerate(months, 1)
        for day in range(1, calendar.monthrange(2001, number)[1] + 1)
    ]


def _marks(*marks: str) -> list[Word]:
    return [Word(mark, mark) for mark in marks]


class Lexicon:
    """Classes of fillers by name, and the expressions over them that lexicon.yaml explains under ``sets``."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.classes: dict[str, list[Any]] = {
            "times": _times(),
            "clock": _marks(*(f"{hour}:{minute:02}" for hour in range(24) for minute in range(0, 60, 5))),
            # How people end what they type: BARE stands for no mark, and no capital letter either.
            "stops": _marks(".", "!", "", BARE),
            "asks": _marks("?", "", BARE),
            "joins": _marks(",", "!", "."),
        }
        self.nouns: dict[str, Noun] = {}
        self.sets: dict[str, list[str]] = data["sets"]
        for kind, text in data["nouns"].items():
            nouns = [_noun(*entry, kind) for entry in _entries(text)]
            self.nouns |= {noun.ru: noun for noun in nouns}
            self._add(kind, [NounPhrase(noun) for noun in nouns])
        for kind, text in data["adjectives"].items():
            self._add(kind, [Adjective(ru, en) for ru, en, _ in _entries(text)])
        for kind, text in data["verbs"].items():
            self._add(kind, [_verb(ru, en) for ru, en, _ in _entries(text)])
        for kind, text in data["words"].items():
            self._add(kind, [Word(ru, en) for ru, en, _ in _entries(text)])
        for kind, text in data["relations"].items():
            self._add(kind, [_relation(ru, en) for ru, en, _ in _entries(text)])
        for kind, text in data["predicates"].items():
            self._add(kind, [Predicate(ru, en) for ru, en, _ in _entries(text)])
        self.classes["dates"] = _dates(self.classes["months"])
        self.english_nouns = {noun.en: noun for noun in self.nouns.values()}
        for section, digits in (("numbers", False), ("digits", True)):
            for kind, text in data[section].items():
                self._add(kind, [Number(count, digits) for count in _numbers(text)])

    def _add(self, kind: str, fillers: list[Any]) -> None:
        if kind in self.classes or kind in self.sets:
            raise PhrasebookError(f"lexicon.yaml: the class {kind!r} is defined twice")
        self.classes[kind] = fillers

    def choices(self, expression: str) -> list[Filler]:
        """Every filler of a class expression, without repeats.

        Raises:
            PhrasebookError: for an unknown class.
        """
        return list(dict.fromkeys(self._evaluate(expression)))

    def _evaluate(self, expression: str) -> list[Any]:
        expression = expression.strip()
        if " of " in expression:
            outer, inner = expression.split(" of ", 1)
            return [NounPhrase(a.noun, of=b) for a in self._evaluate(outer) for b in self._evaluate(inner.strip("()"))]
        if " × " in expression:
            left, right = expression.split(" × ", 1)
            adjectives, nouns = self._evaluate(left), self._evaluate(right)
            return [NounPhrase(n.noun, a) for a in dict.fromkeys(adjectives) for n in nouns]
        if "=" in expression:
            determiner, kind = expression.split(" ", 1)
            ru, en = determiner.split("=")
            return [NounPhrase(n.noun, determiner=(ru, en)) for n in self._evaluate(kind)]
        if " " in expression:
            return [filler for part in expression.split() for filler in self._evaluate(part)]
        if expression in russian.PERSONS:
            return [Pronoun(expression)]
        if expression in self.sets:
            return [filler for part in self.sets[expression] for filler in self._evaluate(part)]
        if expression in self.nouns:
            return [NounPhrase(self.nouns[expression])]
        if expression not in self.classes:
            raise PhrasebookError(
                f"unknown class {expression!r}; known: {', '.join(sorted([*self.classes, *self.sets]))}"
            )
        return self.classes[expression]


@cache
def lexicon() -> Lexicon:
    """The lexicon of this package."""
    return Lexicon(yaml.safe_load((FOLDER / "lexicon.yaml").read_text(encoding="utf-8")))
