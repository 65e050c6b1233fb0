"""Prompts with their answers as token ids: what a network is trained on, calibrated with and scored by.

Legend: B rows, S tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from model.tokenizer.prompt import lay_out
from model.tokenizer.vocabulary import Tokenizer


@dataclass(frozen=True)
class Example:
    """A prompt, and the answer that a network of this family is to give, token by token."""

    family: str
    prompt: list[int]
    answer: list[int]  # ends with </s>, but where running text goes on in another window
    row: int = 0  # the place of its text among those that were given

    @property
    def source(self) -> list[int]:
        """What the encoder reads; nothing for the decoder-only family."""
        return self.prompt if self.family == "seq2seq" else []

    @property
    def inputs(self) -> list[int]:
        """What the decoder reads."""
        return [*([Tokenizer.bos_id] if self.family == "seq2seq" else self.prompt), *self.answer[:-1]]

    @property
    def labels(self) -> list[int]:
        """What the decoder is to say after each of the inputs; padding where it is not asked."""
        return [Tokenizer.pad_id] * (len(self.inputs) - len(self.answer)) + self.answer

    @property
    def width(self) -> int:
        """Positions that it takes on its longer side."""
        return max(len(self.source), len(self.inputs))


def pair_example(
    tokenizer: Tokenizer,
    family: str,
    text: Sequence[int],
    translation: Sequence[int],
    target: str,
    author: str | None = None,
    row: int = 0,
) -> Example:
    """The example of two texts' ids; ``target`` is the language of the translation."""
    return Example(family, lay_out(tokenizer, family, text, target, author), [*translation, tokenizer.eos_id], row)


def text_windows(
    tokenizer: Tokenizer, text: Sequence[int], size: int, first: int = 0, row: int = 0
) -> Iterator[Example]:
    """Running text in consecutive windows of at most ``size`` tokens, the first one of ``first`` where that is given.

    Each token is predicted once, from the tokens before it in its window.
    """
    ids = [*lay_out(tokenizer, "decoder", text), tokenizer.eos_id]
    start, end = 0, first or size
    while start < len(ids) - 1:
        yield Example("decoder", ids[start : start + 1], ids[start + 1 : end + 1], row)
        start, end = end, end + size


def pad(rows: Sequence[Sequence[int]], multiple: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Token rows -> ids i64 [B, S], padded to the right to the longest (S rounded up), and lengths i64 [B]."""
    lengths = np.array([len(row) for row in rows], np.int64)
    ids = np.full((len(rows), -(-int(lengths.max()) // multiple) * multiple), Tokenizer.pad_id, np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return ids, lengths
