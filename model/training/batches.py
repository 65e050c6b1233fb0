"""Batches with a token budget, bucketed by length, streamed from the corpus shards.

A pool of rows is read, encoded, sorted by length, cut into batches and the batches are shuffled: little padding,
and memory that does not grow with the corpus, but for one byte a row that says whether it was trained on. The stream
is a pure function of the seed, so a resumed run skips the batches it has already seen and continues exactly where it
was.

Legend: B rows, S tokens, L source tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.config import NetworkConfig, TrainingConfig
from model.corpus import read_card, read_split
from model.errors import ProjectError
from model.row_counts import RowCount, row_count, too_long, warning
from model.tokenizer import Tokenizer
from model.tokenizer.prompt import Example, pad, pair_example, text_windows

POOL_ROWS = 20_000
_LEFT_OUT, _TRAINED = 1, 2  # what became of a row of the train split; 0 is that its turn never came


class ExamplesError(ProjectError, ValueError):
    """A corpus that has nothing to teach this network; the message says what to change."""


@dataclass(frozen=True)
class Batch:
    """i64 tensors: source [B, L] or None, inputs [B, S], labels [B, S]; the place of each example's row."""

    source: Tensor | None
    inputs: Tensor
    labels: Tensor
    rows: tuple[int, ...] = ()

    @property
    def target_tokens(self) -> int:
        return int((self.labels != Tokenizer.pad_id).sum())

    @property
    def tokens(self) -> int:
        """Real tokens on both sides, the unit of tokens/s."""
        return self.target_tokens + (int((self.source != Tokenizer.pad_id).sum()) if self.source is not None else 0)

    def to(self, device: torch.device) -> Batch:
        source = self.source.to(device) if self.source is not None else None
        return Batch(source, self.inputs.to(device), self.labels.to(device), self.rows)


class Examples:
    """Turns corpus rows into examples of one family and task."""

    def __init__(
        self, corpus: str | Path, tokenizer: Tokenizer, network: NetworkConfig, config: TrainingConfig
    ) -> None:
        self.corpus, self.tokenizer, self.network, self.config = corpus, tokenizer, network, config
        self.card = read_card(corpus)
        self.task = "translation" if self.card["kind"] == "parallel" else "text"
        self.languages: list[str] = self.card["languages"]
        if network.family == "seq2seq" and self.task == "text":
            raise ExamplesError(
                "an encoder-decoder network learns from sentence pairs, and this corpus is running text: "
                "set network.family=decoder (for example preset mini-gpt), or give a parallel corpus"
            )
        self._fate = np.zeros(self.card["counts"]["train"], np.uint8)

    def from_rows(self, rows: list[dict[str, str]], rng: np.random.Generator, training: bool) -> list[Example]:
        """Encode a pool of rows; those longer than the network's positions are left out (translation) or cut (text)."""
        examples = self._text(rows, rng, training) if self.task == "text" else self._pairs(rows, rng, training)
        return [example for example in examples if example.width <= self.network.max_positions]

    def _pairs(self, rows: list[dict[str, str]], rng: np.random.Generator, training: bool) -> Iterator[Example]:
        # Each row is shown in one direction per pass, by the draw; validation alternates, without chance.
        flips = rng.random(len(rows)) < 0.5 if training else np.arange(len(rows)) % 2 == 1
        hide = rng.random(len(rows)) < self.config.author_dropout if training else np.zeros(len(rows), bool)
        ids = {code: self.tokenizer.encode_batch([row[code] for row in rows]) for code in self.languages}
        for i, row in enumerate(rows):
            source, target = self.languages[::-1] if flips[i] else self.languages
            author = None if hide[i] else row.get("author") or None
            yield pair_example(self.tokenizer, self.network.family, ids[source][i], ids[target][i], target, author, i)

    def _text(self, rows: list[dict[str, str]], rng: np.random.Generator, training: bool) -> Iterator[Example]:
        size = self.network.max_positions
        for i, ids in enumerate(self.tokenizer.encode_batch([row["text"] for row in rows])):
            # A first window of random length moves the cuts from pass to pass.
            first = int(rng.integers(size // 2, size + 1)) if training and len(ids) + 1 > size else 0
            yield from text_windows(self.tokenizer, ids, size, first, i)

    def train_batches(self) -> Iterator[Batch]:
        """An endless stream of shuffled batches, pass after pass over the shards."""
        for epoch in itertools.count():
            rng, records, first = np.random.default_rng([self.config.seed, epoch]), read_split(self.corpus, "train"), 0
            while rows := list(itertools.islice(records, POOL_ROWS)):
                examples = self.from_rows(rows, rng, training=True)
                fate = self._fate[first : first + len(rows)]
                absent = np.ones(len(rows), bool)
                absent[[example.row for example in examples]] = False
                fate[absent & (fate != _TRAINED)] = _LEFT_OUT
                if epoch == first == 0:  # rows are in random order: the first pool tells of all, before the long wait
                    lost = {too_long(self.network.max_positions): int(absent.sum())}
                    if loud := warning([row_count("training", "train", len(rows), int((~absent).sum()), lost)]):
                        print(loud, flush=True)
                for batch in self._bucketed(examples, rng):
                    fate[list(batch.rows)] = _TRAINED
                    yield batch
                first += len(rows)
            if not (self._fate == _TRAINED).any():
                raise ExamplesError(
                    f"no training row fits in max_positions={self.network.max_positions} tokens: "
                    "raise network.max_positions or the tokenizer's vocab_size"
                )

    def valid_batches(self) -> list[Batch]:
        """The validation split as batches, the same ones at every validation.

        Raises:
            ExamplesError: where no row fits, for then no weights would be the best.
        """
        rng = np.random.default_rng(0)
        rows = list(read_split(self.corpus, "valid"))
        examples = self.from_rows(rows, rng, training=False)
        if not examples:
            raise ExamplesError(
                f"none of the {len(rows):,} validation rows fits in max_positions={self.network.max_positions} tokens: "
                "raise corpus.valid_rows, network.max_positions or the tokenizer's vocab_size"
            )
        return list(self._bucketed(examples, rng))

    def row_counts(self, valid: list[Batch]) -> list[RowCount]:
        """What became of the rows of the train split up to the batch handed out last, and of the validation split."""
        total, trained = len(self._fate), int((self._fate == _TRAINED).sum())
        long, reason = int((self._fate == _LEFT_OUT).sum()), too_long(self.network.max_positions)
        left_out = {reason: long, "not reached (training.steps)": total - trained - long}
        scored = len({row for batch in valid for row in batch.rows})
        rows = self.card["counts"]["valid"]
        return [
            row_count("training", "train", total, trained, left_out),
            row_count("validation", "valid", rows, scored, {reason: rows - scored}),
        ]

    def _bucketed(self, examples: list[Example], rng: np.random.Generator) -> Iterator[Batch]:
        # The shuffle before the stable sort keeps equal lengths in random order.
        order = rng.permutation(len(examples))
        ordered = sorted((examples[i] for i in order), key=lambda e: (e.width, len(e.inputs)))
        batches: list[list[Example]] = []
        for example in ordered:  # ascending width: the newest example is the widest
            if not batches or example.width * (len(batches[-1]) + 1) > self.config.batch_tokens:
                batches.append([])
            batches[-1].append(example)
        for i in rng.permutation(len(batches)):
            yield collate(batches[i])


def collate(examples: list[Example]) -> Batch:
    """Pad examples to the longest of each side."""

    def tensor(rows: list[Sequence[int]]) -> Tensor:
        return torch.from_numpy(pad(rows)[0])

    source = tensor([e.source for e in examples]) if examples[0].source else None
    inputs, labels = tensor([e.inputs for e in examples]), tensor([e.labels for e in examples])
    return Batch(source, inputs, labels, tuple(e.row for e in examples))
