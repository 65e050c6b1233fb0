"""Which examples make up which batch: any batch of the endless run over the data, without those before it.

Each pass over the rows is a random permutation of them. The passes, one after another, are cut into pools: of as many
rows as make 64 batches, or of all rows where they make fewer. The examples of a pool are sorted by length and cut into
batches of few shapes (:mod:`model.training.shapes`), which are shuffled: so there is little padding. All pools have
the same number of batches, and a batch's number tells its pool. To that end a pool's budget is what its own examples
need, a little below the ``batch_tokens`` that are asked for: the pools' size leaves room for their differences.

Legend: R rows drawn, E examples.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.config import TrainingConfig
from model.errors import ProjectError
from model.training.draws import Draws
from model.training.shapes import above, below
from model.training.shown import Drawn, Pairs, Shown, Windows, together
from model.training.tokens import Tokens

POOL_BATCHES = 64
SAMPLE_ROWS = 20_000  # by which the size of a pool is found
DEVIATIONS = 3  # of a pool's tokens from the mean, that there is room for; a rare pool goes beyond batch_tokens by 1 %
CACHED = 2  # pools in memory
BLOCK_ROWS = 1 << 16

# What became of a row: bits, of which the highest counts.
NOT_DRAWN, LEFT_OUT, TRAINED = 1, 2, 4


class ExamplesError(ProjectError, ValueError):
    """A corpus that has nothing to teach this network; the message says what to change."""


@dataclass(frozen=True)
class Pool:
    """The examples of a pool by width, where each batch of them ends, and the rows that do not fit or were not drawn.

    Attributes:
        cuts: the places between the batches, from 0 to the number of examples.
        order: i64, in which batches come; a number beyond their own is one of them again.
    """

    shown: Shown
    cuts: Sequence[int]
    order: np.ndarray
    left_out: np.ndarray
    not_drawn: np.ndarray

    def places(self, number: int) -> range:
        """The examples of the batch that comes after so many others."""
        batch = int(self.order[number]) % (len(self.cuts) - 1)
        return range(self.cuts[batch], self.cuts[batch + 1])


class Pools:
    """All batches of all passes over a split, each by its number.

    Raises:
        ExamplesError: where no example fits, at once or when its pool is reached.
    """

    def __init__(self, tokens: Tokens, examples: Pairs | Windows, config: TrainingConfig, max_positions: int) -> None:
        self.examples = examples
        self._tokens, self._config, self._max_positions = tokens, config, max_positions
        self._draws, self._lock = Draws(config.seed), threading.Lock()
        self._weights = _weights(tokens.names["domain"], config)
        self._cached = functools.lru_cache(CACHED)(self._make)
        self.rows, self.batches = self._measured()  # in a pool

    def find(self, number: int) -> tuple[Shown, range]:
        """A batch of the endless run: the examples of its pool, and its own places among them. From any thread."""
        pool, place = divmod(number, self.batches)
        found = self.pool(pool)
        return found.shown, found.places(place)

    def pool(self, number: int) -> Pool:
        """A pool; the last few stay in memory."""
        with self._lock:
            return self._cached(number)

    def fate(self, batches: int) -> np.ndarray:
        """What became of every row in so many batches, u8: NOT_DRAWN, LEFT_OUT and TRAINED, or 0 if not reached."""
        total = self._tokens.rows
        fate = np.zeros(total, np.uint8)
        blocks = (np.arange(begin, min(begin + BLOCK_ROWS, total)) for begin in range(0, total, BLOCK_ROWS))
        wanted = (self._weights > 0)[self._tokens.labels["domain"]]
        open_ends = wanted & np.concatenate([self.examples.fits(block) for block in blocks])
        for number in range(-(-batches // self.batches)):
            pool = self._make(number)
            fate[pool.left_out] |= LEFT_OUT
            fate[pool.not_drawn] |= NOT_DRAWN
            for place in range(min(self.batches, batches - number * self.batches)):
                places = pool.places(place)
                rows = pool.shown.rows[places.start : places.stop]
                fate[rows[rows >= 0]] |= TRAINED
            if not (open_ends & (fate < TRAINED)).any():
                break  # nothing that a later pass could change
        return fate

    def _make(self, number: int) -> Pool:
        shown, left_out, not_drawn = self._show(number * self.rows, (number + 1) * self.rows)
        cuts = fitted(above(shown.width).tolist(), self.batches, self._config.batch_tokens)
        return Pool(shown, cuts, self._draws.order("batch", number, self.batches), left_out, not_drawn)

    def _show(self, begin: int, end: int) -> tuple[Shown, np.ndarray, np.ndarray]:
        """The examples in a stretch of the endless run, by size; the rows that do not fit, and those not drawn.

        Examples of one size are in random order, as their rows are.
        """
        parts, missing = [], []
        while begin < end:
            turn, first = divmod(begin, self._tokens.rows)
            places = np.arange(first, min(first + end - begin, self._tokens.rows))
            rows = self._draws.permuted("row", turn, places, self._tokens.rows)
            drawn = self._weighted(turn, rows)
            missing.append(rows[:0] if drawn.rows is rows else rows[~np.isin(rows, drawn.rows)])
            parts.append(self.examples.show(drawn))
            begin += len(places)
        shown = together(parts)
        fit = shown.width <= self._max_positions
        if not fit.any():
            raise ExamplesError(
                f"no training row fits in max_positions={self._max_positions} tokens: "
                "raise network.max_positions or the tokenizer's vocab_size"
            )
        left_out, shown = shown.rows[~fit, 0], shown[fit]
        return by_size(shown), left_out, np.concatenate(missing)

    def _weighted(self, turn: int, rows: np.ndarray) -> Drawn:
        """The rows as often as the weights of their domains say; what is beyond a whole number is drawn for."""
        if (self._weights == 1).all():
            return Drawn(turn, rows, rows)
        weights = self._weights[self._tokens.labels["domain"][rows]]
        times = np.floor(weights + self._draws.shares("weight", turn, rows)).astype(np.int64)
        # Row after row and not each row's times together: neighbours may be joined.
        parts = [(rows[times > time], time) for time in range(times.max(initial=0))]
        items = [own + time * self._tokens.rows for own, time in parts]
        return Drawn(turn, np.concatenate([rows[:0], *(own for own, _ in parts)]), np.concatenate([rows[:0], *items]))

    def _measured(self) -> tuple[int, int]:
        """Rows and batches of a pool, by the first rows: with room in it for pools that are larger than the mean."""
        total = self._tokens.rows
        sample, budget = min(total, SAMPLE_ROWS), self._config.batch_tokens
        widths = above(self._show(0, sample)[0].width)
        cuts = cut(widths.tolist(), budget)
        share = (len(cuts) - 2 + min(1.0, widths[-1] * (cuts[-1] - cuts[-2]) / budget)) / sample  # batches in a row
        examples, variance = len(widths) / sample, widths.var() / widths.mean() ** 2
        deviation = math.sqrt(max((1 + variance) / examples - 1, variance / examples))

        def needed(rows: float) -> float:
            return rows * share * (1 + DEVIATIONS * deviation / math.sqrt(rows))

        rows = min(total, max(1, int(POOL_BATCHES / share * POOL_BATCHES / needed(POOL_BATCHES / share))))
        return rows, max(1, math.ceil(needed(rows)))


def _weights(domains: Sequence[str], config: TrainingConfig) -> np.ndarray:
    """The weight of the rows of no domain, and of each domain's; float64."""
    if unknown := sorted(config.domain_weights.keys() - {*domains}):
        known = ", ".join(sorted(domains)) or "none"
        raise ExamplesError(
            f"training.domain_weights: no row is of {', '.join(unknown)}; known: {known} "
            "(a file NAME.source beside NAME.tsv names the domain of each row)"
        )
    return np.array([1.0, *(config.domain_weights.get(name, 1.0) for name in domains)])


def by_size(shown: Shown) -> Shown:
    """Examples by the width that they are padded to, and those of one width by the decoder's side of them."""
    return shown[np.lexsort((shown.inputs, above(shown.width)))]


def cut(widths: Sequence[int], budget: int) -> list[int]:
    """Where to cut ascending widths into batches of ``budget`` padded tokens at most, or of one; from 0 to the end.

    All batches but the last one have a rung's number of rows.
    """
    cuts, total = [0], len(widths)
    while (begin := cuts[-1]) < total:
        last = min(total, begin + max(1, budget // widths[begin]))  # the widest is the last one
        end = bisect.bisect_right(range(last), budget, begin, key=lambda i: widths[i] * (i + 1 - begin))
        cuts.append(total if end == total else begin + below(max(1, end - begin)))
    return cuts


def fitted(widths: Sequence[int], batches: int, budget: int) -> list[int]:
    """The cuts for so many batches, about equal; for fewer where there are fewer examples."""
    low, high = sum(widths) // batches, budget
    while len(cut(widths, high)) - 1 > batches:
        low, high = high, high + max(1, high // 50)
    while high - low > max(1, budget >> 10):
        middle = (low + high) // 2
        low, high = (low, middle) if len(cut(widths, middle)) - 1 <= batches else (middle, high)
    cuts = cut(widths, high)
    while len(cuts) - 1 < min(batches, len(widths)):
        size, place = max((end - begin, place) for place, (begin, end) in enumerate(itertools.pairwise(cuts), 1))
        cuts.insert(place, cuts[place] - size // 2)
    return cuts
