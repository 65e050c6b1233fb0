"""What a bundle is asked with a corpus's rows: to translate one side into the other, or to continue running text."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from model.bundle import Bundle
from model.text.pieces import join
from serving.engine import Engine, GenerationRequest


def directions(bundle: Bundle) -> list[tuple[str, str]]:
    """Source and target, both ways between a bundle's languages; running text has neither."""
    languages = bundle.languages
    return [(languages[0], languages[1]), (languages[1], languages[0])] if bundle.task == "translation" else []


def translation_prompt(engine: Engine, row: dict[str, str], source: str, target: str) -> list[int]:
    """Token ids of a whole row, uncut as in training, with its author where the bundle knows it."""
    return engine.prompt(row[source], target=target, author=known_author(engine, row))


def known_author(engine: Engine, row: dict[str, str]) -> str | None:
    """A row's author where the bundle knows it."""
    author = row.get("author")
    return author if author in engine.bundle.authors else None


def cut(engine: Engine, prompts: Sequence[list[int]]) -> tuple[list[list[int]], int]:
    """Prompts cut to the bundle's limit (the closing token stays in its place), and how many of them had to be."""
    limit = engine.limits.max_prompt_tokens
    if engine.limits.context:  # prompt and answer share it: leave the answer a quarter
        limit = min(limit, engine.limits.context * 3 // 4)
    fitting = [ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]] for ids in prompts]
    return fitting, sum(len(ids) > limit for ids in prompts)


def bounded_request(engine: Engine, ids: list[int], most: int, **sampling: Any) -> GenerationRequest:
    """Greedy unless ``sampling`` says otherwise, of at most ``most`` tokens, or as many as fit after the prompt."""
    return GenerationRequest(ids, max_tokens=min(engine.limits.room(len(ids)), most), **sampling)


class Translation(NamedTuple):
    """A text in another language, in one line; one that has not ``ended`` ran on to the most tokens it may have."""

    text: str
    ended: bool


def translated(
    engine: Engine, texts: Sequence[str], targets: Sequence[str], authors: Sequence[str | None], beams: int = 1
) -> list[Translation]:
    """Translations in the texts' order, each into its target, cut and put together as in serving."""
    pieces = [list(engine.pieces(*asked)) for asked in zip(texts, targets, authors, strict=True)]
    prompts = [piece.prompt for found in pieces for piece in found if piece.prompt]
    tokens = engine.limits.translation_tokens
    results = iter(engine.generate([GenerationRequest(ids, tokens(len(ids)), beams=beams) for ids in prompts]))
    translations = []
    for found in pieces:
        own = [next(results) for piece in found if piece.prompt]
        text = re.sub(r"[\r\n]+", " ", join(found, iter([result.text for result in own]))).strip()
        translations.append(Translation(text, all(result.finish_reason != "length" for result in own)))
    return translations
