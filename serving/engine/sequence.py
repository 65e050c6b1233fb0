"""One request's life inside the engine: waiting, in a slot, finished."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from serving.engine.beam import BeamSearch
from serving.engine.detokenizer import Detokenizer
from serving.engine.request import FinishReason, GenerationRequest, GenerationResult, TokenEvent, TokenLogprobs
from serving.engine.sampling import Sampler
from serving.errors import ServingError

log = logging.getLogger("serving.engine")

OnEvent = Callable[[TokenEvent], None]


def unfinished() -> ServingError:
    """What a caller hears of a fault that was the request's alone."""
    return ServingError("the request could not be finished; the server's log says why")


class Sequence:
    """A checked request with everything it needs while it runs.

    ``sampler`` is None for plain greedy rows, ``detokenizer`` is None where the text is wanted only at the end, and
    ``forced`` holds the target of a row that is scored instead of generated (its cost gathers in ``nats``). One that is
    ``endless`` runs on beyond end-of-sequence. ``search``
    is there for a beam search, which has a row for each beam, in the beams' order. ``rows`` is empty while it waits.
    """

    __slots__ = (
        "admitted",
        "deadline",
        "detokenizer",
        "done",
        "endless",
        "fault",
        "first",
        "forced",
        "logprobs",
        "max_tokens",
        "nats",
        "on_event",
        "opening",
        "prefilled",
        "prompt",
        "rows",
        "sampler",
        "score",
        "search",
        "stream",
        "submitted",
        "texts",
        "tokens",
        "top",
        "width",
    )

    def __init__(
        self,
        prompt: np.ndarray,
        max_tokens: int,
        on_event: OnEvent,
        *,
        stream: bool = True,
        sampler: Sampler | None = None,
        detokenizer: Detokenizer | None = None,
        forced: np.ndarray | None = None,
        search: BeamSearch | None = None,
        request: GenerationRequest | None = None,
    ) -> None:
        self.prompt = prompt
        self.max_tokens = max_tokens
        self.on_event = on_event
        self.stream = stream
        self.sampler = sampler
        self.detokenizer = detokenizer
        self.forced = forced
        self.endless = forced is not None or (request is not None and request.ignore_eos)
        self.nats = 0.0
        self.search = search
        self.score: float | None = None
        self.width = request.beams if request is not None else 1
        self.top = request.logprobs if request is not None else None
        self.logprobs: list[TokenLogprobs] = []
        self.deadline = request.deadline if request is not None else None
        self.tokens: list[int] = []
        self.texts: list[str] = []
        self.rows: list[int] = []
        self.opening: np.ndarray | None = None  # logits after the prompt, for requests of the same prompt
        self.done = False
        self.fault: Exception | None = None  # why this request alone cannot go on
        self.submitted = time.perf_counter()
        self.admitted = self.prefilled = self.first = 0.0

    @property
    def plain(self) -> bool:
        """Whether one argmax decides each token and nothing else is wanted from the logits."""
        return self.sampler is None and self.forced is None and self.search is None and self.top is None

    def tell(self, text: str, token: int, now: float) -> bool:
        """Hand one token to the caller; False when the caller's function raised."""
        logprobs = self.logprobs[-1] if self.top is not None else None
        return self._call(TokenEvent(text, token, None, len(self.prompt), len(self.tokens), now, None, logprobs))

    def settle(self) -> FinishReason:
        """Take over the text that the beam search has found; why it ends there."""
        assert self.search is not None
        best = self.search.best
        self.score = best.score
        if self.detokenizer is None:
            self.tokens = best.token_ids
            return "eos_token" if best.ended else "length"
        for token in best.token_ids:
            self.tokens.append(token)
            self.texts.append(self.detokenizer.push(token))
            if self.detokenizer.stopped:
                return "stop_sequence"
        return "eos_token" if best.ended else "length"

    def finish(
        self,
        reason: FinishReason,
        decode: Callable[[list[int]], str],
        *,
        last_text: str = "",
        token: int | None = None,
        error: ServingError | None = None,
    ) -> GenerationResult:
        """End the request and hand its last event to the caller. ``decode`` is used when no text was gathered."""
        self.done = True
        now = time.perf_counter()
        try:
            if self.detokenizer is not None:
                last_text += self.detokenizer.finish()
                self.texts.append(last_text)
                text = "".join(self.texts)
            else:
                last_text = text = decode(self.tokens) if self.forced is None else ""
        except Exception:  # an end is told in any case
            log.exception("a request's text could not be made; it ends with an error")
            last_text, text, reason, error = "", "", "error", unfinished()
        # The end-of-sequence token has log-probabilities too, but no place in the text: only the last event tells them.
        logprobs = self.logprobs.pop() if len(self.logprobs) > len(self.tokens) else None
        if token is not None and self.logprobs:
            logprobs = self.logprobs[-1]
        admitted = self.admitted or now
        result = GenerationResult(
            text=text,
            token_ids=self.tokens,
            finish_reason=reason,
            prompt_tokens=len(self.prompt),
            generated_tokens=len(self.tokens),
            queue_seconds=admitted - self.submitted,
            prefill_seconds=max(0.0, self.prefilled - admitted),
            first_token_seconds=max(0.0, self.first - self.submitted),
            seconds=now - self.submitted,
            error=error,
            logprobs=self.logprobs if self.top is not None else None,
            score=self.score,
        )
        event_text = last_text if self.stream else text
        self._call(TokenEvent(event_text, token, reason, len(self.prompt), len(self.tokens), now, result, logprobs))
        return result

    def _call(self, event: TokenEvent) -> bool:
        try:
            self.on_event(event)
            return True
        except Exception:
            # A caller's mistake must not take the other requests down.
            log.exception("a request's on_event raised; the request is cancelled")
            return False


class End(NamedTuple):
    """A request that ends, why, and what its last event tells besides."""

    sequence: Sequence
    reason: FinishReason
    text: str = ""
    token: int | None = None
    error: ServingError | None = None
