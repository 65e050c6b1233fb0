"""The next token of every request of a run, from the run's logits.

Requests that want nothing special are decided by one argmax over all of them. Costs and log-probabilities are of the
model's own distribution; only then control tokens are ruled out and penalties and samplers have their say.

Legend: B slots of one run, M of them whose log-probabilities are wanted, V vocabulary.
"""

from collections.abc import Sequence

import numpy as np

from serving.engine.beam import log_totals
from serving.engine.generation import TOP_ENTRY, TokenLogprobs
from serving.engine.request import Request
from serving.engine.sampling import forbid, most_likely


class Sampler:
    """Samples tokens.

    Args:
        forbidden: spans of ids that are never generated.
    """

    def __init__(self, forbidden: Sequence[slice]) -> None:
        self._forbidden = forbidden

    def sample(self, logits_BV: np.ndarray, first: int, special: Sequence[Request]) -> np.ndarray:
        """The next tokens [B], meaningless for free slots and beams.

        A mistake in what one request alone brings finishes that request, and nobody else.

        Args:
            logits_BV: of slots ``first`` and up; overwritten.
            special: those of their requests that want more than an argmax.
        """
        if not special:
            forbid(logits_BV, self._forbidden)
            return logits_BV.argmax(1)
        scored = [r for r in special if r.target_ids is not None]
        measured = scored + [r for r in special if r.num_logprobs is not None]
        indices = [r.slots[0] - first for r in measured]
        raw_MV = logits_BV[indices]  # copied: what follows overwrites
        totals_M = log_totals(raw_MV) if measured else np.zeros(0)
        forbid(logits_BV, self._forbidden)
        tokens = logits_BV.argmax(1)
        if scored:
            tokens[indices[: len(scored)]] = [r.target_ids[len(r.token_ids)] for r in scored]  # type: ignore[index]
        for request in special:
            if request.sampling is not None:
                i = request.slots[0] - first
                try:
                    tokens[i] = request.sampling.sample(logits_BV[i])
                except Exception as error:
                    request.finish("error", error)
        if measured:
            self._measure(measured, tokens[indices], raw_MV, totals_M)
        return tokens

    def _measure(
        self, requests: Sequence[Request], tokens_M: np.ndarray, raw_MV: np.ndarray, totals_M: np.ndarray
    ) -> None:
        """Take down how likely the model found the tokens that were chosen."""
        logprobs = (raw_MV[np.arange(len(tokens_M)), tokens_M] - totals_M).tolist()
        if any(request.num_logprobs for request in requests):
            forbid(raw_MV, self._forbidden)
        for i, (request, token, logprob) in enumerate(zip(requests, tokens_M.tolist(), logprobs, strict=True)):
            if request.num_logprobs is None:
                request.nll -= logprob
                continue
            top = _top(raw_MV[i], float(totals_M[i]), request.num_logprobs)
            request.logprobs.append(TokenLogprobs(token, logprob, top))


def _top(logits_V: np.ndarray, total: float, count: int) -> bytes:
    """The likeliest tokens, as :class:`TokenLogprobs` keeps them."""
    if not count:
        return b""
    ids = most_likely(logits_V, count)
    values = logits_V[ids].astype(np.float64) - total
    pairs = zip(ids.tolist(), values.tolist(), strict=True)
    return b"".join(TOP_ENTRY.pack(i, value) for i, value in pairs if value > -np.inf)
