"""Templates: what each author says, in both languages, with slots drawn from the lexicon.

A pattern is text with ``{name argument ...}`` pieces. When ``name`` is a slot, its filler is said in the form that the
arguments ask for; when it is a word, that word agrees with the slot in its arguments: ``{стоить x}``, ``{be s past}``.

    python -m model.corpus.phrasebook --pairs 20
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import yaml

from model.corpus.phrasebook import english, russian
from model.corpus.phrasebook.fillers import VOICES, Arg, Filler, NounPhrase, Pronoun, Voice, case_of, target_of
from model.corpus.phrasebook.lexicon import FOLDER, lexicon
from model.corpus.phrasebook.russian import PhrasebookError

_PIECE = re.compile(r"\{([^}]*)\}")
_SENTENCE_START = re.compile(r"(^|[.!?] )(\w)")
TENSES = {"past": "past", "fut": "futr"}


@dataclass(frozen=True)
class Template:
    """One thing to say: its slots and, by author, its Russian and English patterns."""

    name: str
    slots: dict[str, list[Filler]]
    patterns: dict[str, tuple[str, str]]

    @property
    def combinations(self) -> int:
        """Number of ways to fill the slots."""
        total = 1
        for choices in self.slots.values():
            total *= len(choices)
        return total

    def combination(self, index: int) -> dict[str, Filler] | None:
        """The fillers of one combination; None where one would stand in two slots ("the bank is by the bank")."""
        fillers = {}
        for name, choices in self.slots.items():
            index, position = divmod(index, len(choices))
            fillers[name] = choices[position]
        return fillers if len(set(map(str, fillers.values()))) == len(fillers) else None

    def say(self, fillers: dict[str, Filler]) -> list[tuple[str, str, str]]:
        """(author, Russian, English) for every author who says this."""
        return [
            (voice.author, _russian(ru, fillers, voice), _english(en, fillers, voice))
            for voice in VOICES
            if voice.author in self.patterns
            for ru, en in [self.patterns[voice.author]]
        ]


@cache
def _parsed(pattern: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The pattern cut into (literal text, following piece's words)."""
    parts = _PIECE.split(pattern)
    return tuple(zip(parts[::2], [tuple(piece.split()) for piece in parts[1::2]] + [()], strict=True))


def _finish(text: str) -> str:
    return _SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)


def _russian(pattern: str, fillers: dict[str, Filler], voice: Voice) -> str:
    text = ""
    for literal, piece in _parsed(pattern):
        text += literal
        if piece:
            args: list[Arg] = [_russian_argument(word, fillers) for word in piece[1:]]
            text += fillers[piece[0]].russian(args, voice) if piece[0] in fillers else _agree(piece[0], args, voice)
    return _finish(russian.prepositions(text))


def _russian_argument(word: str, fillers: dict[str, Filler]) -> Arg:
    if word in fillers:
        return fillers[word]
    if word in russian.PERSONS:
        return Pronoun("ты" if word == "вы" else word)
    nouns = lexicon().nouns
    return NounPhrase(nouns[word]) if word in nouns else word


def _agree(word: str, args: list[Arg], voice: Voice) -> str:
    target = target_of(args)
    if target is None:
        raise PhrasebookError(f"{{{word}}} is no slot and has nothing to agree with")
    tense = next((TENSES[arg] for arg in args if isinstance(arg, str) and arg in TENSES), "pres")
    return russian.literal(word, tense, case_of(args), target.agreement(voice))


def _english(pattern: str, fillers: dict[str, Filler], voice: Voice) -> str:
    text = ""
    for literal, piece in _parsed(pattern):
        text += literal
        if not piece:
            continue
        args: list[Arg] = [_english_argument(word, fillers) for word in piece[1:]]
        target = target_of(args)
        if piece[0] in fillers:
            text += fillers[piece[0]].english(args, voice)
        elif target is None:
            raise PhrasebookError(f"{{{piece[0]}}} is no slot and has nothing to agree with")
        elif piece[0] == "he":
            he = Pronoun("она" if target.agreement(voice).gender == "femn" else "он")
            text += he.english(args, voice)
        else:
            text += english.literal(piece[0], "past" if "past" in args else "pres", *target.subject())
    return _finish(text)


def _english_argument(word: str, fillers: dict[str, Filler]) -> Arg:
    if word in fillers:
        return fillers[word]
    nouns = lexicon().english_nouns
    return NounPhrase(nouns[word]) if word in nouns else word


@cache
def templates() -> tuple[Template, ...]:
    """All templates of phrases/*.yaml, in a fixed order.

    Raises:
        PhrasebookError: for an unknown author or class, or a pattern that leaves one of its slots out
            (two combinations would then make the same sentence).
    """
    found = []
    authors = [voice.author for voice in VOICES]
    for path in sorted((FOLDER / "phrases").glob("*.yaml")):
        for name, entry in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            where = f"{path.name}: {name}"
            slots = {slot: lexicon().choices(kinds) for slot, kinds in entry.pop("slots").items()}
            for author, patterns in entry.items():
                if author not in authors or len(patterns) != 2:
                    raise PhrasebookError(f"{where}: {author!r} must be one of {', '.join(authors)} with two patterns")
                for pattern in patterns:
                    missing = set(slots) - {word for _, piece in _parsed(pattern) for word in piece}
                    if missing:
                        raise PhrasebookError(f"{where}: {pattern!r} leaves out {', '.join(sorted(missing))}")
            found.append(Template(name, slots, {author: (ru, en) for author, (ru, en) in entry.items()}))
    if len({template.name for template in found}) != len(found):
        raise PhrasebookError("two templates have the same name")
    return tuple(found)
