"""Choosing the next token of one request from its logits.

Greedy requests never come here: the engine takes them all with one argmax. A sampling request owns its generator,
PCG64 seeded from the request, and draws exactly one number per token, so that its text depends on its own logits and
seed alone and not on its neighbours in the batch. The order is temperature, top-k, top-p, min-p, as in Hugging Face's
generation; the tests compare each of them with a plain one.

Legend: B slots of a run, V vocabulary.
"""

from collections.abc import Sequence

import numpy as np

from serving.engine.generation import GenerationRequest

BLOCK = 128  # weights summed together in a draw


class SamplingState:
    """What one request's next token depends on besides its logits: its generator, and how often each token came before.

    Args:
        request: a checked request.
        vocab_size: V.
        prompt_ids: ids that the repetition penalty counts as generated (the prompt of a decoder-only model).
    """

    def __init__(self, request: GenerationRequest, vocab_size: int, prompt_ids: np.ndarray | None = None) -> None:
        self._request = request
        self._random = np.random.Generator(np.random.PCG64(request.seed)) if request.temperature > 0 else None
        self._counts: np.ndarray | None = None
        if request.penalized:
            self._counts = np.zeros(vocab_size, np.int32)  # of generated tokens
            self._seen = np.zeros(vocab_size, bool)  # those and the prompt's
            if prompt_ids is not None:
                self._seen[prompt_ids] = True

    def sample(self, logits_V: np.ndarray) -> int:
        """The next token; ``logits_V`` float32, -inf where a token is forbidden, is overwritten by the penalty."""
        request = self._request
        if self._counts is not None:
            seen = np.flatnonzero(self._seen)
            penalize(logits_V, seen, request.repetition_penalty, self._counts[seen], request.frequency_penalty)
        if self._random is None:
            token = int(logits_V.argmax())
        else:
            ids, weights = candidates(logits_V, request.temperature, request.top_k, request.top_p, request.min_p)
            index = draw(weights, self._random.random())
            token = index if ids is None else int(ids[index])
        if self._counts is not None:
            self._seen[token] = True
            self._counts[token] += 1
        return token


def forbid(logits_BV: np.ndarray, spans: Sequence[slice]) -> None:
    """Rule out spans of ids, in place; NumPy assigns to slices faster than to lists of ids."""
    for span in spans:
        logits_BV[:, span] = -np.inf


def penalize(
    logits_V: np.ndarray, ids: np.ndarray, repetition: float, counts: np.ndarray | int = 0, frequency: float = 0.0
) -> None:
    """Make the tokens ``ids``, which came before, less likely, in place.

    Divides positive and multiplies negative logits by ``repetition`` (CTRL, arXiv 1909.05858), then subtracts
    ``frequency`` for each of a token's ``counts`` occurrences (as OpenAI's API defines it).
    """
    logits = logits_V[ids]
    if repetition != 1:
        logits = np.where(logits < 0, logits * repetition, logits / repetition)
    if frequency:
        logits = logits - np.asarray(frequency * counts, np.float32)
    logits_V[ids] = logits


def candidates(
    logits_V: np.ndarray, temperature: float, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> tuple[np.ndarray | None, np.ndarray]:
    """Ids that may be drawn, most likely first, and their unnormalised probabilities (float32).

    Ids are ``None``, meaning 0..V-1 in order, when nothing is cut off. Only as many candidates are sorted as are kept;
    for a top-p, which does not say how many, those are looked for among the likeliest 64 first.
    """
    size = len(logits_V)
    # Below 1e-6 nothing but the likeliest token has a chance anyway, and float32 would overflow.
    scale = np.float32(1 / max(temperature, 1e-6))
    if not (0 < top_k < size) and top_p >= 1:
        weights = np.exp((logits_V - logits_V.max()) * scale)
        if min_p > 0:
            weights[weights < min_p] = 0.0
        return None, weights
    if 0 < top_k < size:
        ids = most_likely(logits_V, top_k)
        values = logits_V[ids]
        weights = np.exp((values - values[0]) * scale)
        total = float(weights.sum())
    else:
        everything = np.exp((logits_V - logits_V.max()) * scale)
        total = float(everything.sum())
        for count in (64, 512, size):
            ids = most_likely(logits_V, count)
            weights = everything[ids]
            if weights.sum() >= top_p * total:
                break
    if top_p < 1:
        # keep each token whose more likely ones have not reached top_p yet, and the likeliest in any case
        before = np.cumsum(weights, dtype=np.float64) - weights
        keep = max(1, int(np.count_nonzero(before < top_p * total)))
        ids, weights = ids[:keep], weights[:keep]
    if min_p > 0:
        weights = np.where(weights < min_p * weights[0], np.float32(0), weights)
    return ids, weights


def draw(weights: np.ndarray, point: float) -> int:
    """The index in whose share of all ``weights`` [n] the ``point``, from 0 to below 1, lies; never one of weight 0."""
    first, aim = 0, None
    if len(weights) > 4 * BLOCK:
        # Blocks first: a running sum over a whole vocabulary costs more than everything else.
        ends = np.cumsum(np.add.reduceat(weights, np.arange(0, len(weights), BLOCK)), dtype=np.float64)
        aim = point * ends[-1]
        block = _reached(ends, aim)
        first = block * BLOCK
        weights = weights[first : first + BLOCK]
        aim -= ends[block - 1] if block else 0.0
    sums = np.cumsum(weights, dtype=np.float64)
    return first + _reached(sums, point * sums[-1] if aim is None else aim)


def _reached(sums: np.ndarray, aim: float) -> int:
    """The first of growing ``sums`` above ``aim``; where rounding leaves none, the first that reaches their end."""
    index = int(sums.searchsorted(aim, side="right"))
    return index if index < len(sums) else int(sums.searchsorted(sums[-1]))


def most_likely(logits_V: np.ndarray, count: int) -> np.ndarray:
    """Ids of the ``count`` highest logits (all of them at most), highest first, equal ones in their own order."""
    size = len(logits_V)
    if 8 * count > size:
        # One sort of float and index as one integer: several times as fast as a stable argsort of floats.
        bits = logits_V.view(np.int32)
        ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)
        keys = (-ordered << 32) + np.arange(size)
        keys.sort()
        return keys[:count] & 0xFFFFFFFF
    ids = np.flatnonzero(logits_V >= floor_of(logits_V, count))
    return ids[np.argsort(-logits_V[ids], kind="stable")[:count]]


def floor_of(values: np.ndarray, count: int) -> float:
    """A number that at least ``count`` of ``values`` [n] reach, seldom many more; ``count`` at most n / 8.

    The values are dealt into columns, and the ``count``-th highest of the columns' maxima is such a number: found in a
    fraction of the time that a partition of all values takes.
    """
    rows = min(64, len(values) // (4 * count))
    width = len(values) // rows
    peaks = values[: rows * width].reshape(rows, width).max(0)
    return float(np.partition(peaks, width - count)[width - count])
