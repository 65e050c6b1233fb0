"""Choosing the next token of one request from its logits.

Greedy requests never come here: the engine takes them all with one argmax. A sampling request owns its generator,
PCG64 seeded from the request, and draws exactly one number per token, so that its text depends on its own logits and
seed alone and not on its neighbours in the batch. The order is temperature, top-k, top-p, min-p, as in Hugging Face's
generation, of which each can be compared with ours in the tests.

Legend: V vocabulary.
"""

from __future__ import annotations

import numpy as np

from serving.engine.request import GenerationRequest


class Sampler:
    """Everything one request needs to choose its tokens.

    Args:
        request: a checked request.
        vocab_size: V.
        seen_ids: ids that the repetition penalty counts as already said (the prompt of a decoder-only model).
    """

    __slots__ = ("_penalty", "_random", "_request", "_seen")

    def __init__(self, request: GenerationRequest, vocab_size: int, seen_ids: np.ndarray | None = None) -> None:
        self._request = request
        self._random = np.random.Generator(np.random.PCG64(request.seed))
        self._penalty = request.repetition_penalty
        self._seen: np.ndarray | None = None
        if self._penalty != 1:
            self._seen = np.zeros(vocab_size, bool)
            if seen_ids is not None:
                self._seen[seen_ids] = True

    def choose(self, logits_V: np.ndarray) -> int:
        """The next token; ``logits_V`` float32, -inf where a token is forbidden, is overwritten by the penalty."""
        if self._seen is not None:
            penalize(logits_V, np.flatnonzero(self._seen), self._penalty)
        request = self._request
        if request.temperature == 0:
            token = int(logits_V.argmax())
        else:
            ids, weights = candidates(logits_V, request.temperature, request.top_k, request.top_p, request.min_p)
            total = np.cumsum(weights)
            # side="right" never lands on a weight of zero
            place = int(np.searchsorted(total, self._random.random() * total[-1], side="right"))
            place = min(place, len(total) - 1)
            token = place if ids is None else int(ids[place])
        if self._seen is not None:
            self._seen[token] = True
        return token


def penalize(logits_V: np.ndarray, ids: np.ndarray, penalty: float) -> None:
    """Divide positive and multiply negative logits of ``ids`` by ``penalty``, in place (CTRL, arXiv 1909.05858)."""
    said = logits_V[ids]
    logits_V[ids] = np.where(said < 0, said * penalty, said / penalty)


def candidates(
    logits_V: np.ndarray, temperature: float, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> tuple[np.ndarray | None, np.ndarray]:
    """Ids that may be drawn, most likely first, and their unnormalised probabilities (float64).

    Ids are ``None``, meaning 0..V-1 in order, when nothing is cut off. Only top-k candidates are sorted, never the
    whole vocabulary unless a top-p asks for more than its 256 most likely tokens.
    """
    size = len(logits_V)
    top = float(logits_V.max())
    if not (0 < top_k < size) and top_p >= 1:
        weights = np.exp((logits_V.astype(np.float64) - top) / temperature)
        if min_p > 0:
            weights[weights < min_p] = 0.0
        return None, weights
    if 0 < top_k < size:
        ids = _most_likely(logits_V, top_k)
        weights = np.exp((logits_V[ids].astype(np.float64) - top) / temperature)
        total = weights.sum()
    else:
        everything = np.exp((logits_V.astype(np.float64) - top) / temperature)
        total = everything.sum()
        count = min(256, size)
        while True:
            ids = _most_likely(logits_V, count)
            weights = everything[ids]
            if count == size or weights.sum() >= top_p * total:
                break
            count = size
    if top_p < 1:
        # keep each token whose more likely ones have not reached top_p yet: always at least one
        before = np.cumsum(weights) - weights
        keep = int(np.count_nonzero(before < top_p * total))
        ids, weights = ids[:keep], weights[:keep]
    if min_p > 0:
        weights = np.where(weights < min_p * weights[0], 0.0, weights)
    return ids, weights


def _most_likely(logits_V: np.ndarray, count: int) -> np.ndarray:
    """Ids of the ``count`` highest logits, highest first."""
    size = len(logits_V)
    ids = np.argpartition(logits_V, size - count)[size - count :] if count < size else np.arange(size)
    return ids[np.argsort(-logits_V[ids], kind="stable")]
