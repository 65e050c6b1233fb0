"""Templates: what each speaker says, in both languages, with slots drawn from the lexicon.

A pattern is text with ``{name argument ...}`` pieces. When ``name`` is a slot, its filler is said in the form that the
arguments ask for; when it is a word, that word agrees with the slot in its arguments: ``{стоить x}``, ``{be s past}``.

    .venv-phrasebook/bin/python -m tools.phrasebook --show --pairs 20
"""

import re
from dataclasses import dataclass
from functools import cache

import yaml

from tools.phrasebook import english, russian
from tools.phrasebook.fillers import SPEAKERS, Arg, Filler, NounPhrase, Pronoun, Speaker, case_of, target_of
from tools.phrasebook.lexicon import BARE, FOLDER, lexicon
from tools.phrasebook.russian import PhrasebookError

_PIECE = re.compile(r"\{([^}]*)\}")
_SENTENCE_START = re.compile(r"(^|[.!?] )(\w)")
TENSES = {"past": "past", "fut": "futr"}

Saying = tuple[str, str, str]  # speaker, Russian, English


@dataclass(frozen=True)
class Template:
    """One thing to say: its slots, its Russian and English patterns by speaker, and how many are drawn at a time."""

    name: str
    slots: dict[str, list[Filler]]
    patterns: dict[str, tuple[str, str]]
    share: int = 1

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

    def say(self, fillers: dict[str, Filler]) -> list[Saying]:
        """What every speaker who says this makes of the fillers."""
        return [
            (speaker.name, _russian(ru, fillers, speaker), _english(en, fillers, speaker))
            for speaker in SPEAKERS
            if speaker.name in self.patterns
            for ru, en in [self.patterns[speaker.name]]
        ]


@cache
def _parsed(pattern: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The pattern cut into (literal text, following piece's words)."""
    parts = _PIECE.split(pattern)
    return tuple(zip(parts[::2], [tuple(piece.split()) for piece in parts[1::2]] + [()], strict=True))


def _finish(text: str) -> str:
    """A capital letter for every sentence, and a small one for the first of what is typed bare."""
    finished = _SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)
    return finished[0].lower() + finished[1:-1] if text.endswith(BARE) else finished


def _russian(pattern: str, fillers: dict[str, Filler], speaker: Speaker) -> str:
    text = ""
    for literal, piece in _parsed(pattern):
        text += literal
        if piece:
            args: list[Arg] = [_russian_argument(word, fillers) for word in piece[1:]]
            text += fillers[piece[0]].russian(args, speaker) if piece[0] in fillers else _agree(piece[0], args, speaker)
    return _finish(russian.prepositions(text))


def _russian_argument(word: str, fillers: dict[str, Filler]) -> Arg:
    if word in fillers:
        return fillers[word]
    if word in russian.PERSONS:
        return Pronoun("ты" if word == "вы" else word)
    nouns = lexicon().nouns
    return NounPhrase(nouns[word]) if word in nouns else word


def _agree(word: str, args: list[Arg], speaker: Speaker) -> str:
    target = target_of(args)
    if target is None:
        raise PhrasebookError(f"{{{word}}} is no slot and has nothing to agree with")
    tense = next((TENSES[arg] for arg in args if isinstance(arg, str) and arg in TENSES), "pres")
    return russian.literal(word, tense, case_of(args), target.agreement(speaker))


def _english(pattern: str, fillers: dict[str, Filler], speaker: Speaker) -> str:
    text = ""
    for literal, piece in _parsed(pattern):
        text += literal
        if not piece:
            continue
        args: list[Arg] = [_english_argument(word, fillers) for word in piece[1:]]
        target = target_of(args)
        if piece[0] in fillers:
            text += fillers[piece[0]].english(args, speaker)
        elif target is None:
            raise PhrasebookError(f"{{{piece[0]}}} is no slot and has nothing to agree with")
        elif piece[0] == "he":
            he = Pronoun("она" if target.agreement(speaker).gender == "femn" else "он")
            text += he.english(args, speaker)
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
        PhrasebookError: for an unknown speaker or class, or a pattern that leaves one of its slots out
            (two combinations would then make the same sentence).
    """
    found = []
    speakers = [speaker.name for speaker in SPEAKERS]
    for path in sorted((FOLDER / "phrases").glob("*.yaml")):
        for name, entry in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            where = f"{path.name}: {name}"
            slots = {slot: lexicon().choices(kinds) for slot, kinds in entry.pop("slots").items()}
            share = entry.pop("share", 1)
            for speaker, patterns in entry.items():
                if speaker not in speakers or len(patterns) != 2:
                    raise PhrasebookError(
                        f"{where}: {speaker!r} must be one of {', '.join(speakers)} with two patterns"
                    )
                for pattern in patterns:
                    missing = set(slots) - {word for _, piece in _parsed(pattern) for word in piece}
                    if missing:
                        raise PhrasebookError(f"{where}: {pattern!r} leaves out {', '.join(sorted(missing))}")
            found.append(Template(name, slots, {speaker: (ru, en) for speaker, (ru, en) in entry.items()}, share))
    if len({template.name for template in found}) != len(found):
        raise PhrasebookError("two templates have the same name")
    return tuple(found)
