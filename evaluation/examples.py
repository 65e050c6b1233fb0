"""What a stranger may try first: short, plain held-out sources, which go into the bundle, and what it was trained on.

They are chosen by their text alone and before anything is measured, so they are no pick of what the model does well.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from model.bundle.introduction import Example, Introduction
from model.config import EvaluationConfig
from model.corpus import read_card, read_split

_WORDS = range(3, 13)
_PLAIN_CHARS, _MOST_CHARS = 80, 200
_SOURCES = 8  # names that a sentence can bear


def introduce(holdout: str | Path, config: EvaluationConfig) -> Introduction:
    """What the bundle will say of itself: the size and the names of its text, the owner's sentence, the examples.

    Args:
        holdout: the folder with the held-out split and the corpus's card.
    """
    card, rows = read_card(holdout), list(read_split(holdout, "heldout"))
    parallel = card["kind"] == "parallel"
    chosen = sources(rows, card["languages"], config.examples) if parallel else beginnings(rows, config.examples)
    names = dict.fromkeys(name for source in card.get("sources", []) if (name := _name(source)))
    return Introduction(
        about=config.about,
        rows=card["counts"]["train"],
        characters=sum(card.get("characters", {}).values()),
        sources=list(names)[:_SOURCES],
        examples=list(chosen),
    )


def sources(rows: Sequence[dict[str, Any]], languages: Sequence[str], count: int) -> list[Example]:
    """``count`` sources of both directions in turn, the first plain ones of the split, whose order is random and fixed.

    No row gives both its sides: one would tell the other's translation.
    """
    sides = []
    for place, code in enumerate(languages):
        texts = dict.fromkeys(row[code] for row in rows[place :: len(languages)])
        fit = [text for text in texts if any(map(str.isalpha, text)) and len(text) <= _MOST_CHARS]
        sides.append([Example(text=text, language=code) for text in sorted(fit, key=lambda text: not _plain(text))])
    turns = chain.from_iterable(zip_longest(*sides))
    return [example for example in turns if example][:count]


def beginnings(rows: Sequence[dict[str, Any]], count: int) -> Iterator[Example]:
    """The first words of ``count`` pieces of running text, evenly over the split."""
    for row in spaced(rows, count):
        yield Example(text=opening(row["text"]), language="")


def spaced(rows: Sequence[dict[str, Any]], count: int) -> Sequence[dict[str, Any]]:
    """``count`` rows at even distances, or all where there are fewer."""
    return rows[:: max(len(rows) // max(count, 1), 1)][:count]


def opening(text: str) -> str:
    """The first words of a text: about 40 characters, or half of it."""
    end = text.find(" ", min(40, len(text) // 2))
    return text[: end if end > 0 else 40]


def _plain(text: str) -> bool:
    """Whether a text is one short sentence of words alone: no figures, no marks, nothing that is no language."""
    words = re.fullmatch(r"(?=\w)[^\W\d_ ][^\d_<>{}()\[\]/\\|@#$%^&*+=~`]*[.!?…]", text)
    return words is not None and len(text) <= _PLAIN_CHARS and len(text.split()) in _WORDS


def _name(source: str) -> str:
    """What a source is called, without where it lies."""
    return source.rstrip("/").rpartition("/")[2][:_PLAIN_CHARS]
