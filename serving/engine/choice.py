"""The next token of every row of a run, from the run's logits.

Rows that want nothing special are decided by one argmax over all of them. What a row is told or scored by comes from
the model's own distribution; only then control tokens are ruled out and penalties and samplers have their say.

Legend: B rows of the run, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np

from serving.engine.beam import log_totals
from serving.engine.request import TokenLogprobs
from serving.engine.sampling import forbid, most_likely
from serving.engine.sequence import Sequence


class Chooser:
    """Chooses tokens.

    A mistake in what one request alone brings (its sampler, its log-probabilities) is that request's ``fault``, and
    nobody else's.

    Args:
        forbidden: spans of ids that are never generated.

    Attributes:
        special: how many running requests want more than an argmax; kept by the scheduler.
    """

    def __init__(self, forbidden: list[slice]) -> None:
        self._forbidden = forbidden
        self.special = 0

    def choose(self, logits_BV: np.ndarray, rows: Seq[Sequence | None]) -> np.ndarray:
        """Tokens [B], meaningless for holes and beams; ``logits_BV`` is overwritten. Gathers nats and logprobs."""
        if not self.special:
            forbid(logits_BV, self._forbidden)
            return logits_BV.argmax(1)
        forced = [(i, s) for i, s in enumerate(rows) if s is not None and s.forced is not None]
        told = [(i, s) for i, s in enumerate(rows) if s is not None and s.top is not None]
        if forced:
            wanted = np.array([s.forced[len(s.tokens)] for _, s in forced])  # type: ignore[index]
            scored = [i for i, _ in forced]
            nats = log_totals(logits_BV[scored]) - logits_BV[scored, wanted]
            for (_, sequence), value in zip(forced, nats.tolist(), strict=True):
                sequence.nats += value
        totals = log_totals(logits_BV[[i for i, _ in told]]) if told else None
        forbid(logits_BV, self._forbidden)
        raw = [logits_BV[i].copy() for i, _ in told]  # a sampler's penalties overwrite its row
        tokens = logits_BV.argmax(1)
        for i, row in enumerate(rows):
            if row is not None and row.sampler is not None:
                try:
                    tokens[i] = row.sampler.choose(logits_BV[i])
                except Exception as error:
                    row.fault = error
        if forced:
            tokens[scored] = wanted
        if totals is not None:
            for (i, sequence), logits_V, total in zip(told, raw, totals.tolist(), strict=True):
                try:
                    sequence.logprobs.append(_logprobs(int(tokens[i]), logits_V, total, sequence.top or 0))
                except Exception as error:
                    sequence.fault = error
        return tokens


def _logprobs(token: int, logits_V: np.ndarray, total: float, count: int) -> TokenLogprobs:
    ids = most_likely(logits_V, count) if count else np.zeros(0, np.int64)
    values = logits_V[ids].astype(np.float64) - total
    top = tuple((i, value) for i, value in zip(ids.tolist(), values.tolist(), strict=True) if value > -np.inf)
    return TokenLogprobs(token, float(logits_V[token]) - total, top)
