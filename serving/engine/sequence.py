"""One request's life inside the engine: waiting, in a slot, finished."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np

from serving.engine.detokenizer import Detokenizer
from serving.engine.request import FinishReason, GenerationRequest, GenerationResult, TokenEvent
from serving.engine.sampling import Sampler
from serving.errors import ServingError

log = logging.getLogger("serving.engine")

OnEvent = Callable[[TokenEvent], None]


class Sequence:
    """A checked request with everything it needs while it runs.

    ``sampler`` is None for plain greedy rows, ``detokenizer`` is None where the text is wanted only at the end, and
    ``forced`` holds the target of a row that is scored instead of generated (its cost gathers in ``nats``).
    """

    __slots__ = (
        "admitted",
        "deadline",
        "detokenizer",
        "done",
        "first",
        "forced",
        "max_tokens",
        "nats",
        "on_event",
        "prefilled",
        "prompt",
        "row",
        "sampler",
        "stream",
        "submitted",
        "texts",
        "tokens",
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
        request: GenerationRequest | None = None,
    ) -> None:
        self.prompt = prompt
        self.max_tokens = max_tokens
        self.on_event = on_event
        self.stream = stream
        self.sampler = sampler
        self.detokenizer = detokenizer
        self.forced = forced
        self.nats = 0.0
        self.deadline = request.deadline if request is not None else None
        self.tokens: list[int] = []
        self.texts: list[str] = []
        self.row = -1
        self.done = False
        self.submitted = time.perf_counter()
        self.admitted = self.prefilled = self.first = 0.0

    def tell(self, text: str, token: int, now: float) -> bool:
        """Hand one token to the caller; False when the caller's function raised."""
        return self._call(TokenEvent(text, token, None, len(self.prompt), len(self.tokens), now))

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
        if self.detokenizer is not None:
            last_text += self.detokenizer.finish()
            self.texts.append(last_text)
            text = "".join(self.texts)
        else:
            last_text = text = decode(self.tokens) if self.forced is None else ""
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
        )
        event_text = last_text if self.stream else text
        self._call(TokenEvent(event_text, token, reason, len(self.prompt), len(self.tokens), now, result))
        return result

    def _call(self, event: TokenEvent) -> bool:
        try:
            self.on_event(event)
            return True
        except Exception:
            # A caller's mistake must not take the other requests down.
            log.exception("a request's on_event raised; the request is cancelled")
            return False
