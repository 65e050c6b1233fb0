"""Prompts of a corpus's rows: with the row's author where the bundle knows it, and cut where the text is too long."""

from __future__ import annotations

from typing import NamedTuple

from serving.engine import Engine


class Prompt(NamedTuple):
    """Token ids, and whether the text was cut to the bundle's limit (the closing token stays in its place)."""

    ids: list[int]
    cut: bool


def text_prompt(engine: Engine, text: str) -> Prompt:
    """For running text to be continued."""
    return _cut(engine, engine.prompt(text))


def pair_prompt(engine: Engine, row: dict[str, str], source: str, target: str) -> Prompt:
    """For a row to be translated."""
    return _cut(engine, whole_pair_prompt(engine, row, source, target))


def whole_pair_prompt(engine: Engine, row: dict[str, str], source: str, target: str) -> list[int]:
    """The same, however long it is."""
    author = row.get("author")
    return engine.prompt(row[source], target=target, author=author if author in engine.bundle.authors else None)


def _cut(engine: Engine, ids: list[int]) -> Prompt:
    limit = engine.limits.max_prompt_tokens
    if engine.limits.context:  # prompt and answer share it: leave the answer a quarter
        limit = min(limit, engine.limits.context * 3 // 4)
    return Prompt(ids, False) if len(ids) <= limit else Prompt([*ids[: limit - 1], ids[-1]], True)
