"""Batches with a token budget, bucketed by length, read from a corpus that is tokenised once.

The order is a pure function of the seed: any batch can be made alone (:mod:`model.training.pools`). So a resumed run
begins where it was without what came before, and batches may be made ahead, on any number of threads, exactly so.

Legend: B rows, S tokens, L source tokens.
"""

from __future__ import annotations

import collections
import functools
import itertools
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.config import NetworkConfig, TrainingConfig
from model.corpus import read_card, read_split
from model.corpus.answers import answer
from model.corpus.storage import SUFFIX
from model.files import sha256_file
from model.row_counts import RowCount, row_count, too_long, warning
from model.tokenizer import Tokenizer
from model.training.draws import Draws
from model.training.pools import LEFT_OUT, NOT_DRAWN, TRAINED, ExamplesError, Pools, by_size, cut
from model.training.ranks import ALONE, Ranks
from model.training.shapes import above
from model.training.shown import Drawn, Pairs, Shown, Windows
from model.training.tokens import Tokens, stored, tokenised

TOKENS = "tokens"  # name of the folder of the tokenised train split
SAMPLED = 8  # batches whose tokens tell those of a pass
AHEAD = 4  # batches that are made before they are asked for, by each thread


@dataclass(frozen=True)
class Batch:
    """Rows of one shape, most of them examples; the last ones may be empty, to make the shape one of few.

    Attributes:
        source: i64 [B, L], or None.
        inputs: i64 [B, S].
        labels: i64 [N], the targets of the positions that carry a loss.
        places: i64 [N], where these positions are in [B * S].
        tokens: real ones on both sides, the unit of tokens/s.
        rows: the places in the split of all rows that are in it.
    """

    source: Tensor | None
    inputs: Tensor
    labels: Tensor
    places: Tensor
    tokens: int
    rows: tuple[int, ...] = ()

    @property
    def target_tokens(self) -> int:
        return len(self.labels)

    @staticmethod
    def of(source: np.ndarray | None, inputs: np.ndarray, labels: np.ndarray, rows: tuple[int, ...] = ()) -> Batch:
        """A batch of padded arrays i64: source [B, L], inputs and labels [B, S].

        What carries a loss is found here, beside the training: a GPU would have to be waited for.
        """
        places = np.flatnonzero(labels != Tokenizer.pad_id)
        tokens = len(places)
        if source is not None:
            real = source != Tokenizer.pad_id
            tokens += int(real.sum())
            source = source.copy()
            source[~real.any(1), 0] = Tokenizer.eos_id  # attention to nothing at all would be no number
        read = None if source is None else torch.from_numpy(source)
        written, targets = torch.from_numpy(inputs), torch.from_numpy(labels.ravel()[places])
        return Batch(read, written, targets, torch.from_numpy(places), tokens, rows)

    def pinned(self) -> Batch:
        """In memory that a GPU can copy from while it computes."""
        return self._with(Tensor.pin_memory)

    def to(self, device: torch.device) -> Batch:
        return self._with(lambda side: side.to(device, non_blocking=True))

    def _with(self, change: Callable[[Tensor], Tensor]) -> Batch:
        source = None if self.source is None else change(self.source)
        return Batch(source, change(self.inputs), change(self.labels), change(self.places), self.tokens, self.rows)


@dataclass(frozen=True)
class Extent:
    """How much there is to train on: real tokens on both sides, and batches, of a pass; the widest row, as padded."""

    tokens: float
    batches: float
    widest: int


class Examples:
    """Turns corpus rows into examples of one family and task, and these into batches.

    Args:
        holdout: folder of the valid split, where it is not the corpus's.
        work: folder that keeps the tokenised train split for a next start; None for one that goes with this object.
    """

    def __init__(
        self,
        corpus: str | Path,
        tokenizer: Tokenizer,
        network: NetworkConfig,
        config: TrainingConfig,
        holdout: str | Path | None = None,
        work: Path | None = None,
    ) -> None:
        self.holdout = holdout or corpus
        self.corpus, self.tokenizer, self.network, self.config = corpus, tokenizer, network, config
        self.card = read_card(corpus)
        self.task = "translation" if self.card["kind"] == "parallel" else "text"
        self.languages: list[str] = self.card["languages"]
        if network.family == "seq2seq" and self.task == "text":
            raise ExamplesError(
                "an encoder-decoder network learns from sentence pairs, and this corpus is running text: "
                "set network.family=decoder (for example preset mini-gpt), or give a parallel corpus"
            )
        if network.family == "decoder" and config.best == "chrf":
            raise ExamplesError("training.best: chrf is of a translation by an encoder-decoder; leave it at loss")
        self._fields = self.languages if self.task == "translation" else ["text"]
        self._answers = [answer(language) for language in self.languages if "distillation" in self.card]
        self._work = work or Path(tempfile.mkdtemp(prefix="tokens-"))
        if work is None:
            weakref.finalize(self, shutil.rmtree, self._work, ignore_errors=True)
        self._handed_out = 0

    @functools.cached_property
    def _pools(self) -> Pools:
        """The train split, tokenised now if it is not yet."""
        hashes, rows = [shard["sha256"] for shard in self.card["shards"]], self.card["counts"]["train"]
        records = read_split(self.corpus, "train")
        fields = [*self._fields, *self._answers]
        tokens = stored(self._work / TOKENS, {"corpus": hashes}, rows, records, self.tokenizer, fields)
        made = self._shower(tokens, Draws(self.config.seed))
        return Pools(tokens, made, self.config, self.network.max_positions)

    def _shower(self, tokens: Tokens, draws: Draws | None = None) -> Pairs | Windows:
        if self.task == "text":
            return Windows(tokens, self.tokenizer, self.network, draws)
        return Pairs(tokens, self.tokenizer, self.network, self.config, draws)

    def tokenise(self) -> None:
        """Have the train split tokenised now, if it is not yet, instead of at the first batch."""
        assert self._pools

    def train_batches(
        self, start: int = 0, threads: int = 1, pin: bool = False, ranks: Ranks = ALONE
    ) -> Iterator[Batch]:
        """The endless stream of shuffled batches, pass after pass over the rows, from batch number ``start`` on.

        Args:
            threads: that make batches ahead; the batches are the same with any number.
            pin: put them into memory that a GPU can copy from while it computes.
            ranks: the processes that batches are dealt out to in turn, and which of them this is.
        """
        pools, first = self._pools, self._pools.pool(0)
        lost, asked = len(first.left_out), pools.rows - len(first.not_drawn)
        # Rows are in random order: the first pool tells of all, before the long wait.
        counts = row_count("training", "train", asked, asked - lost, {too_long(self.network.max_positions): lost})
        if loud := warning([counts]):
            print(loud, flush=True)

        def make(number: int) -> Batch:
            batch = _batch(pools.examples, *pools.find(number), self.network.max_positions)
            return batch.pinned() if pin else batch

        numbers = itertools.count(start + ranks.rank, ranks.size)
        for batch in _ahead(make, numbers, threads):
            start += ranks.size
            self._handed_out = start
            yield batch

    def valid_batches(self, rows: int = 0) -> list[Batch]:
        """The validation split as batches, the same ones at every validation.

        Args:
            rows: at most so many of its rows, of all lengths; 0 takes all.

        Raises:
            ExamplesError: where no row fits, for then no weights would be the best.
        """
        shower, shown = self._valid
        if 0 < rows < len(shown.width):
            shown = shown[np.arange(rows) * len(shown.width) // rows]
        cuts = cut(above(shown.width).tolist(), self.config.batch_tokens)
        return [_batch(shower, shown, range(*ends), self.network.max_positions) for ends in itertools.pairwise(cuts)]

    @functools.cached_property
    def _valid(self) -> tuple[Pairs | Windows, Shown]:
        """The examples of the validation split that fit, by size."""
        records = list(read_split(self.holdout, "valid"))
        shower = self._shower(tokenised(records, self.tokenizer, self._fields))
        shown = shower.show(Drawn(0, np.arange(len(records)), np.arange(len(records))))
        shown = shown[shown.width <= self.network.max_positions]
        if not len(shown.width):
            raise ExamplesError(
                f"none of the {len(records):,} validation rows fits in max_positions={self.network.max_positions} "
                "tokens: raise corpus.valid_rows, network.max_positions or the tokenizer's vocab_size"
            )
        return shower, by_size(shown)

    def valid_hash(self) -> str:
        """The SHA-256 of the validation split, as it lies on disk, in hex."""
        return sha256_file(Path(self.holdout) / f"valid{SUFFIX}")

    def row_counts(self, valid: list[Batch]) -> list[RowCount]:
        """What became of the rows of the train split up to the batch handed out last, and of the validation split.

        Of all processes: when they have made their steps, they have been handed out the same number of batches.
        """
        fate = self._pools.fate(self._handed_out)
        long, reason = int(((fate & LEFT_OUT > 0) & (fate < TRAINED)).sum()), too_long(self.network.max_positions)
        left_out = {
            reason: long,
            "not drawn (training.domain_weights)": int((fate == NOT_DRAWN).sum()),
            "not reached (training.steps)": int((fate == 0).sum()),
        }
        scored = len({row for batch in valid for row in batch.rows})
        rows = self.card["counts"]["valid"]
        return [
            row_count("training", "train", len(fate), int((fate >= TRAINED).sum()), left_out),
            row_count("validation", "valid", rows, scored, {reason: rows - scored}),
        ]

    def extent(self) -> Extent:
        """How much there is to train on, by the first pool of batches and the tokens of the first few."""
        pools, few = self._pools, min(SAMPLED, self._pools.batches)
        batches = self.card["counts"]["train"] / pools.rows * pools.batches
        most = self.network.max_positions
        tokens = sum(_batch(pools.examples, *pools.find(number), most).tokens for number in range(few))
        widest = min(most, int(above(pools.pool(0).shown.width).max()))
        return Extent(tokens / few * batches, batches, widest)

    def forget(self) -> None:
        """Remove what a next start would find tokenised, and what a killed one left half-made."""
        for left in (self._work / TOKENS, *self._work.glob(f".{TOKENS}.partial-*")):
            shutil.rmtree(left, ignore_errors=True)


def _batch(shower: Pairs | Windows, shown: Shown, places: range, most: int) -> Batch:
    """Some examples, padded to the rung above the longest of each side, or to the ``most`` positions that there are."""
    examples = [shower.example(shown, place) for place in places]
    rows = shown.rows[places.start : places.stop]

    def padded(sides: list[Sequence[int]]) -> np.ndarray:
        ids = np.full((above(len(sides)), min(most, above(max(map(len, sides))))), Tokenizer.pad_id, np.int64)
        for row, side in zip(ids, sides, strict=False):
            row[: len(side)] = side
        return ids

    source = padded([e.source for e in examples]) if examples[0].source else None
    inputs, labels = padded([e.inputs for e in examples]), padded([e.labels for e in examples])
    return Batch.of(source, inputs, labels, tuple(rows[rows >= 0].tolist()))


def _ahead(make: Callable[[int], Batch], numbers: Iterator[int], threads: int) -> Iterator[Batch]:
    """The batches of endless numbers, made on other threads and handed out in order."""
    waiting: collections.deque[Future[Batch]] = collections.deque()
    with ThreadPoolExecutor(threads, "batches") as pool:
        try:
            for number in numbers:
                waiting.append(pool.submit(make, number))
                if len(waiting) > AHEAD * threads:
                    yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
