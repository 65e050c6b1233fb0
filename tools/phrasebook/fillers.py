"""What can stand in a template's slot: each filler says itself in Russian and in English, in the form it is asked for.

The arguments written after a slot's name (``{x accs этот}``, ``{v past s}``) arrive here as strings (cases, tenses,
determiners) or as other fillers (what to agree with). A filler ignores arguments that mean nothing to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tools.phrasebook import english, russian
from tools.phrasebook.russian import CASES, Agreement, PhrasebookError


@dataclass(frozen=True)
class Speaker:
    """Who speaks: their own gender ("я купила"), whether they say вы or ты to the reader, and "it's" for "it is"."""

    name: str
    gender: str
    polite: bool
    contracts: bool = False
    author: bool = True


# The last two say what all say alike, in full and as it is spoken: their rows have no author.
SPEAKERS = (
    Speaker("guide", "femn", True),
    Speaker("friend", "masc", False, contracts=True),
    Speaker("clerk", "masc", True),
    Speaker("everyone", "masc", True, author=False),
    Speaker("spoken", "masc", True, contracts=True, author=False),
)


class Filler(Protocol):
    def russian(self, args: Sequence[Arg], speaker: Speaker) -> str: ...

    def english(self, args: Sequence[Arg], speaker: Speaker) -> str: ...

    def agreement(self, speaker: Speaker) -> Agreement: ...

    def subject(self) -> tuple[str, str]:
        """The English subject that verbs agree with and its number."""
        ...


Arg = str | Filler


def case_of(args: Sequence[Arg]) -> str:
    return next((arg for arg in args if isinstance(arg, str) and arg in CASES), "nomn")


def target_of(args: Sequence[Arg]) -> Filler | None:
    return next((arg for arg in args if not isinstance(arg, str)), None)


def is_cyrillic(text: str) -> bool:
    return "а" <= text[:1].lower() <= "я" or text[:1] in "ёЁ"


def contract(subject: str, key: str, number: str, args: Sequence[Arg]) -> str:
    """The subject with the verb asked for by +be, +have or +will, shortened as in speech: I'm, Anna's, we'll."""
    if "+will" in args:
        return f"{subject}'ll" if key in english.SUBJECTS else f"{subject} will"
    for verb, suffixes in english.SUFFIXES.items():
        if f"+{verb}" in args:
            full = english.present(verb, key, number)
            short = key in english.SUBJECTS or (number == "sing" and not english.hisses(subject))
            return subject + (suffixes[full] if short else f" {full}")
    return subject


class _Uninflected:
    """Defaults for fillers that nothing agrees with."""

    def agreement(self, speaker: Speaker) -> Agreement:
        raise PhrasebookError(f"nothing can agree with {self}")

    def subject(self) -> tuple[str, str]:
        raise PhrasebookError(f"{self} cannot be a subject")


@dataclass(frozen=True)
class Word(_Uninflected):
    """A fixed expression."""

    ru: str
    en: str

    def russian(self, args: Sequence[Arg], speaker: Speaker) -> str:
        return self.ru

    def english(self, args: Sequence[Arg], speaker: Speaker) -> str:
        return english.contracted(self.en) if speaker.contracts else self.en


@dataclass(frozen=True)
class Adjective(_Uninflected):
    """An adjective or ordinal on its own: agrees with a filler, or with a bare gender (``{o gent neut}``)."""

    ru: str
    en: str

    def russian(self, args: Sequence[Arg], speaker: Speaker) -> str:
        target = target_of(args)
        gender = next((arg for arg in args if isinstance(arg, str) and arg in {"masc", "femn", "neut"}), "masc")
        agreement = target.agreement(speaker) if target else Agreement("sing", gender)
        return russian.adjective(self.ru, case_of(args), agreement)

    def english(self, args: Sequence[Arg], speaker: Speaker) -> str:
        return self.en


@dataclass(frozen=True)
class Noun:
    """A lexicon entry; flags are explained in lexicon.yaml."""

    ru: str
    en: str
    flags: frozenset[str] = frozenset()
    many: str = ""

    @property
    def number(self) -> str:
        return "plur" if "pl" in self.flags else "sing"


@dataclass(frozen=True)
class NounPhrase:
    """[determiner] [adjective] noun [of another noun phrase]."""

    noun: Noun
    adjective: Adjective | None = None
    determiner: tuple[str, str] | None = None
    of: NounPhrase | None = None

    def agreement(self, speaker: Speaker) -> Agreement:
        return russian.noun_agreement(self.noun.ru, self.noun.number)

    def subject(self) -> tuple[str, str]:
        return "it", self.noun.number

    def russian(self, args: Sequence[Arg], speaker: Speaker) -> str:
        number = "plur" if "plur" in args else self.noun.number
        agreement = russian.noun_agreement(self.noun.ru, number)
        case, preposition = case_of(args), ""
        on = "на" in self.noun.flags
        if "where" in args:
            case, preposition = "loct", "на" if on else "в"
        elif "to" in args:
            case, preposition = "accs", "на" if on else "в"
        elif "from" in args:
            case, preposition = "gent", "с" if on else "из"
        modifiers = [arg for arg in args if isinstance(arg, str) and is_cyrillic(arg)]
        modifiers += [self.determiner[0]] if self.determiner else []
        modifiers += [self.adjective.ru] if self.adjective else []
        words = [russian.adjective(word, case, agreement) for word in modifiers]
        second = "where" in args and "loc2" in self.noun.flags
        words.append(russian.noun(self.noun.ru, "loc2" if second else case, number))
        return " ".join([preposition] * bool(preposition) + words + self._of_russian(speaker))

    def counted(self, count: int, case: str, speaker: Speaker) -> str:
        """The form after a numeral: (2) красные сумки, (5) красных сумок, (21) красная сумка."""
        wanted = russian.count_grammemes("NOUN", self.noun.ru, count, case)
        noun = russian.form(self.noun.ru, ("NOUN",), *wanted)
        if self.noun.many and wanted == ("gent", "plur"):
            noun = self.noun.many
        words = [noun]
        if self.adjective:
            singular = Agreement("sing", self.agreement(speaker).gender, "3per", self.agreement(speaker).animacy)
            wanted = russian.count_grammemes("ADJF", self.adjective.ru, count, case, singular.gender)
            to = singular if "sing" in wanted else Agreement("plur", singular.gender, "3per", singular.animacy)
            words.insert(0, russian.adjective(self.adjective.ru, next(c for c in CASES if c in wanted), to))
        return " ".join(words + self._of_russian(speaker))

    def _of_russian(self, speaker: Speaker) -> list[str]:
        return [self.of.russian(["gent"], speaker)] if self.of else []

    def english(self, args: Sequence[Arg], speaker: Speaker) -> str:
        number = "plur" if "plur" in args else self.noun.number
        noun = english.plural(self.noun.en) if number == "plur" else self.noun.en
        words = [self.adjective.en] if self.adjective else []
        words += [noun] + ([f"of {self.of.english([], speaker)}"] if self.of else [])
        text = " ".join(words)
        place = next((p for p in ("where", "to", "from") if p in args), "")
        determiners = [arg for arg in args if isinstance(arg, str) and arg in english.DETERMINERS]
        given = determiners[0] if determiners else "the" if place else ""
        text = f"{self._determiner(given, text, number)} {text}".strip()
        if place:
            at = next((flag for flag in ("at", "on") if flag in self.noun.flags), "in")
            text = f"{at if place == 'where' else place} {text}"
        if "poss" in args:
            text += "'s"
        return contract(text, "it", number, args)

    def _determiner(self, given: str, text: str, number: str) -> str:
        if self.determiner:
            return self.determiner[1]
        if "proper" in self.noun.flags:
            return ""
        if given == "a":
            return "" if number == "plur" or "mass" in self.noun.flags else english.article(text)
        if given in {"this", "that"} and number == "plur":
            return {"this": "these", "that": "those"}[given]
        return given


@dataclass(frozen=True)
class Pronoun:
    """A personal pronoun; "ты" stands for the reader and becomes вы for polite speakers."""

    ru: str

    def lemma(self, speaker: Speaker) -> str:
        return "вы" if self.ru == "ты" and speaker.polite else self.ru

    def agreement(self, speaker: Speaker) -> Agreement:
        lemma = self.lemma(speaker)
        if lemma in {"мы", "вы", "они"}:
            return Agreement("plur", "masc", {"мы": "1per", "вы": "2per", "они": "3per"}[lemma], "anim")
        gender = {"я": speaker.gender, "она": "femn"}.get(lemma, "masc")
        return Agreement("sing", gender, {"я": "1per", "ты": "2per"}.get(lemma, "3per"), "anim")

    def subject(self) -> tuple[str, str]:
        return english.PRONOUNS[self.ru][0], "sing" if self.ru in {"я", "ты", "он", "она"} else "plur"

    def russian(self, args: Sequence[Arg], speaker: Speaker) -> str:
        return russian.pronoun(self.lemma(speaker), case_of(args), "prep" in args)

    def english(self, args: Sequence[Arg], speaker: Speaker) -> str:
        subject, object_, possessive = english.PRONOUNS[self.ru]
        if "poss" in args:
            return possessive
        return object_ if "obj" in args else contract(subject, *self.subject(), args)


@dataclass(frozen=True)
class Number(_Uninflected):
    """A cardinal in words or digits; with a noun it governs it: {n x}."""

    count: int
    digits: bool = False

    def subject(self) -> tuple[str, str]:
        return "it", "sing" if self.count == 1 else "plur"

    def russian(self, args: Sequence[Arg], speaker: Speaker) -> str:
        thing = target_of(args)
        if not isinstance(thing, NounPhrase):
            return str(self.count) if self.digits else russian.numeral(self.count, "nomn", Agreement("sing"))
        case = case_of(args)
        numeral = str(self.count) if self.digits else russian.numeral(self.count, case, thing.agreement(speaker))
        return f"{numeral} {thing.counted(self.count, case, speaker)}"

    def english(self, args: Sequence[Arg], speaker: Speaker) -> str:
        thing = target_of(args)
        numeral = str(self.count) if self.digits else english.number(self.count)
        if not isinstance(thing, NounPhrase):
            return numeral
        if self.count == 1:
            return f"{numeral} {thing.english([], speaker)}"
        head = NounPhrase(thing.noun, thing.adjective)
        tail = f" of {thing.of.english([], speaker)}" if thing.of else ""
        return f"{numeral} {head.english(['plur'], speaker)}{tail}"


@dataclass(frozen=True)
class Verb(_Uninflected):
    """A verb with both aspects; Russian says its object's preposition and case through {v gov o}."""

    imperfective: str
    perfective: str
    en: str
    tail: str = ""
    preposition: str = ""
    case: str = "accs"

    def russian(self, args: Sequence[Arg], speaker: Speaker) -> str:
        target = target_of(args)
        if "gov" in args:
            assert target is not None
            return f"{self.preposition} {target.russian([self.case, 'prep'], speaker)}".strip()
        to = target.agreement(speaker) if target else None
        if "imp" in args:
            words = russian.verb(self.perfective, "impr", Agreement("plur" if speaker.polite else "sing"))
        elif "past" in args:
            words = russian.verb(self.perfective, "past", to)
        elif "pastimpf" in args:
            words = russian.verb(self.imperfective, "past", to)
        elif "fut" in args:
            words = russian.verb(self.perfective, "futr", to)
        elif "futimpf" in args:
            words = f"{russian.verb('быть', 'futr', to)} {self.imperfective}"
        elif "perf" in args:
            words = self.perfective
        else:
            words = russian.verb(self.imperfective, "pres", to) if to else self.imperfective
        return f"{words} {self.tail}".strip()

    def english(self, args: Sequence[Arg], speaker: Speaker) -> str:
        target = target_of(args)
        if "past" in args:
            return english.past(self.en)
        if "ing" in args:
            return english.gerund(self.en)
        return english.present(self.en, *target.subject()) if target else self.en


@dataclass(frozen=True)
class Predicate(_Uninflected):
    """What someone is, as a short form or a past tense that agrees: {a s} is "готова", "устали"."""

    ru: str
    en: str

    def russian(self, args: Sequence[Arg], speaker: Speaker) -> str:
        target = target_of(args)
        assert target is not None, f"{self.ru} needs somebody"
        return russian.literal(self.ru, "past", "nomn", target.agreement(speaker))

    def english(self, args: Sequence[Arg], speaker: Speaker) -> str:
        return self.en


@dataclass(frozen=True)
class Relation(_Uninflected):
    """A place relative to something: {r q} is "рядом с музеем", "next to the museum"."""

    ru: str
    case: str
    en: str

    def russian(self, args: Sequence[Arg], speaker: Speaker) -> str:
        target = target_of(args)
        assert target is not None, f"{self.ru} needs a noun"
        return f"{self.ru} {target.russian([self.case, 'prep'], speaker)}"

    def english(self, args: Sequence[Arg], speaker: Speaker) -> str:
        target = target_of(args)
        assert target is not None, f"{self.en} needs a noun"
        return f"{self.en} {target.english(['the'], speaker)}"
