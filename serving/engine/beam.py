"""Beam search: the search alone, on arrays; the engine owns the slots it runs in.

One step takes the 2 * beams likeliest continuations of all live beams together. In order of rank, one that ends the
text joins the pool of finished texts if it is among the first ``beams``, any other becomes a live beam until there are
``beams`` of them. The pool keeps its ``beams`` best by sum of log-probabilities / length ** length_penalty. The search
is over

* at ``max_tokens``, where the live beams join the pool as they are, or
* when the pool is full and no live beam, at its present length, scores above the worst of it (as in Hugging Face's
  generation), or
* when no live beam can still win, however it goes on: log-probabilities only add up downwards. This changes no result.

Equal scores are ordered by beam, then by token id, and nothing here depends on other requests: the same search gives
the same text in any company.

Legend: B slots of a run, W beams, V vocabulary.
"""

from typing import NamedTuple

import numpy as np

from serving.engine.generation import GenerationRequest
from serving.engine.sampling import floor_of, forbid, penalize


class Hypothesis(NamedTuple):
    """A text that the search may return; ``ended`` is False when ``max_tokens`` cut it. Without end-of-sequence."""

    score: float
    token_ids: list[int]
    ended: bool


class BeamSearch:
    """One request's search.

    Args:
        request: a checked request of ``beams`` above 1.
        max_tokens: most tokens of a text, the end-of-sequence token included.
        eos_id: the end-of-sequence token.
        forbidden: spans of ids that are never generated.
    """

    def __init__(self, request: GenerationRequest, max_tokens: int, eos_id: int, forbidden: list[slice]) -> None:
        self.beams = request.beams
        self._request = request
        self._power = request.length_penalty
        self._max_tokens, self._eos, self._forbidden = max_tokens, eos_id, forbidden
        self._tokens = np.zeros((self.beams, max_tokens), np.int64)
        self._length = 0
        # All beams begin as the same text: without this, each would find the same continuations.
        self._scores = np.full(self.beams, -np.inf)
        self._scores[0] = 0.0
        self._pool: list[Hypothesis] = []
        self.done = False

    @property
    def best(self) -> Hypothesis:
        """The winner, once ``done``."""
        return self._pool[0]

    def step(self, logits_WV: np.ndarray) -> tuple[list[int], list[int]]:
        """Take one step.

        Args:
            logits_WV: float32, row i of beam i; overwritten.

        Returns:
            For each beam of the next step the beam it continues and its new token. Meaningless once ``done``.
        """
        if self._request.penalized and self._length:
            for logits_V, generated in zip(logits_WV, self._tokens[:, : self._length], strict=True):
                ids, counts = np.unique(generated, return_counts=True)
                penalize(logits_V, ids, self._request.repetition_penalty, counts, self._request.frequency_penalty)
        totals = log_totals(logits_WV)
        forbid(logits_WV, self._forbidden)
        origins, tokens, scores = continuations(logits_WV, self._scores - totals, 2 * self.beams)

        length = self._length + 1
        live: list[int] = []
        for rank, (origin, token, score) in enumerate(zip(origins.tolist(), tokens.tolist(), scores, strict=True)):
            if token == self._eos:
                if rank < self.beams and score > -np.inf:
                    self._finish(self._hypothesis(origin, score, length, ended=True))
            elif len(live) < self.beams:
                live.append(rank)
        parents, chosen = origins[live], tokens[live]
        self._tokens = self._tokens[parents]
        self._tokens[:, length - 1] = chosen
        self._scores = scores[live]
        self._length = length
        self._conclude()
        return parents.tolist(), chosen.tolist()

    def _conclude(self) -> None:
        if self._length == self._max_tokens:
            for beam in np.flatnonzero(self._scores > -np.inf).tolist():
                self._finish(self._hypothesis(beam, self._scores[beam], self._length, ended=False))
            self.done = True
        elif self._pool:
            leader = float(self._scores[0])
            full = len(self._pool) == self.beams
            now = leader / self._length**self._power
            # Sums only fall, and a longer text divides by more: the best that the leader can come to.
            bound = leader / self._max_tokens**self._power if self._power > 0 else now
            self.done = (full and self._pool[-1].score >= now) or self._pool[0].score >= bound

    def _hypothesis(self, beam: int, total: float, length: int, ended: bool) -> Hypothesis:
        score = float(total) / length**self._power
        return Hypothesis(score, self._tokens[beam, : length - ended].tolist(), ended)

    def _finish(self, hypothesis: Hypothesis) -> None:
        self._pool.append(hypothesis)
        self._pool.sort(key=lambda h: -h.score)  # stable: of equals the earlier one stays in front
        del self._pool[self.beams :]


def log_totals(logits_BV: np.ndarray) -> np.ndarray:
    """Logarithm of each row's sum of exponentials, float64 [B]: a logit minus it is a log-probability.

    Each row is summed in one piece (not with ``dtype=``, which sums in buffers that may cut a row anywhere), so that a
    row's figure is the same to the last bit in any company.
    """
    top = logits_BV.max(1)
    powers = logits_BV - top[:, None]
    np.exp(powers, out=powers)
    return top + np.log(powers.sum(1).astype(np.float64))


def continuations(
    logits_WV: np.ndarray, offsets_W: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ``count`` highest of ``logits_WV + offsets_W``: beams, token ids and values (float64), highest first.

    Compared in float64: everything that float32 cannot tell from the lowest of them is looked at again.
    """
    size = logits_WV.shape[1]
    values = (logits_WV + offsets_W[:, None].astype(np.float32)).ravel()
    if 8 * count <= values.size:
        floor = floor_of(values, count)
        indices = np.flatnonzero(values >= floor - 1e-4 * max(1.0, abs(floor)))
    else:
        indices = np.arange(values.size)
    origins, tokens = np.divmod(indices, size)
    exact = logits_WV[origins, tokens].astype(np.float64) + offsets_W[origins]
    order = np.argsort(-exact, kind="stable")[:count]
    return origins[order], tokens[order], exact[order]
