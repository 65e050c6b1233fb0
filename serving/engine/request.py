"""One request's life inside the engine: waiting, in slots, finished.

Legend: S prompt tokens, V vocabulary.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from serving.engine.beam import BeamSearch
from serving.engine.detokenizer import Detokenizer
from serving.engine.generation import FinishReason, GenerationResult, TokenEvent, TokenLogprobs
from serving.engine.sampling import SamplingState
from serving.errors import ServingError

log = logging.getLogger("serving.engine")

OnEvent = Callable[[TokenEvent], None]


@dataclass(eq=False, slots=True)
class Request:
    """A checked request with everything it needs while it runs.

    Attributes:
        prompt_ids: int64 [S].
        decode: the text of all its tokens, where it has no ``detokenizer``: the text is then wanted only at the end.
        eos_id: the token that ends it; None lets it run on.
        stream: whether each token is emitted.
        sampling: None where one argmax decides each token.
        beam_search: has a slot for each of its beams, in their order.
        target_ids: a text that is scored instead of generated; its cost in nats gathers in ``nll``.
        slots: empty while it waits, and again when it has finished.
        prompt_logits: float32 [1, V] after the prompt, for requests of the same prompt.
        text: new with the newest token, as far as it is final.
        score: what the text of a beam search won by.
        finish_reason: None while it goes on.
        error: why it ends with the reason "error".
    """

    prompt_ids: np.ndarray
    max_tokens: int
    decode: Callable[[list[int]], str] = lambda ids: ""
    eos_id: int | None = None
    stream: bool = False
    deadline: float | None = None
    num_logprobs: int | None = None
    sampling: SamplingState | None = None
    detokenizer: Detokenizer | None = None
    beam_search: BeamSearch | None = None
    target_ids: np.ndarray | None = None
    on_event: OnEvent = lambda event: None

    slots: list[int] = field(default_factory=list)
    prompt_logits: np.ndarray | None = None
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    nll: float = 0.0
    score: float | None = None
    finish_reason: FinishReason | None = None
    error: Exception | None = None
    result: GenerationResult | None = None
    # time.perf_counter() of each station; 0 before it
    submitted: float = field(default_factory=time.perf_counter)
    admitted: float = 0.0
    prefilled: float = 0.0
    first_token: float = 0.0

    @property
    def num_slots(self) -> int:
        """Slots that it needs."""
        return self.beam_search.beams if self.beam_search is not None else 1

    @property
    def special(self) -> bool:
        """Whether it wants more of its logits than an argmax."""
        wanted = (self.sampling, self.target_ids, self.beam_search, self.num_logprobs)
        return any(part is not None for part in wanted)

    def finish(self, reason: FinishReason, error: Exception | None = None) -> None:
        """Let the request end; the first reason stands."""
        if self.finish_reason is None:
            self.finish_reason, self.error = reason, error

    def append(self, token: int, now: float) -> bool:
        """Take over the next token, and emit it where each is streamed; False when the request has finished."""
        if self.finish_reason is not None:
            return False
        if not self.first_token:
            self.first_token = now
        if token == self.eos_id:
            self.finish_reason = "eos_token"
            return False
        token_ids = self.token_ids
        token_ids.append(token)
        if self.detokenizer is not None:
            self.text = text = self.detokenizer.push(token)
            if text:
                self.texts.append(text)
            if self.detokenizer.stopped:
                self.finish_reason = "stop_sequence"
                return False
        if len(token_ids) >= self.max_tokens:
            self.finish_reason = "length"
            return False
        if self.stream:
            logprobs = self.logprobs[-1] if self.logprobs else None
            event = TokenEvent(self.text, token, None, len(self.prompt_ids), len(token_ids), now, None, logprobs)
            if not self._emit(event):
                self.finish_reason = "cancelled"
                return False
        return True

    def append_best(self) -> None:
        """Take over the text that the beam search has found, and finish."""
        assert self.beam_search is not None
        best = self.beam_search.best
        self.score = best.score
        for token in best.token_ids:
            if not self.append(token, self.first_token):  # a stop string ends it earlier
                return
        self.finish("eos_token" if best.ended else "length")

    def finalize(self) -> GenerationResult:
        """Make the result of a request that has finished, and hand it to the caller with the last event."""
        now = time.perf_counter()
        text, last_text = self._final_text()
        token, logprobs = None, None
        if self._ends_with_token:
            token, logprobs = self.token_ids[-1], self.logprobs[-1] if self.logprobs else None
        elif len(self.logprobs) > len(self.token_ids):
            # The end-of-sequence token has log-probabilities too, but no place in the text: only the last event has it.
            logprobs = self.logprobs.pop()
        if self.error is not None and not isinstance(self.error, ServingError):
            log.error("a request could not be finished; it ends alone", exc_info=self.error)
            self.error = ServingError("the request could not be finished; the server's log says why")
        assert self.finish_reason is not None
        admitted = self.admitted or now
        self.result = GenerationResult(
            text=text,
            token_ids=self.token_ids,
            finish_reason=self.finish_reason,
            prompt_tokens=len(self.prompt_ids),
            generated_tokens=len(self.token_ids),
            queue_seconds=admitted - self.submitted,
            prefill_seconds=max(0.0, self.prefilled - admitted),
            first_token_seconds=max(0.0, self.first_token - self.submitted),
            seconds=now - self.submitted,
            error=self.error,
            logprobs=self.logprobs if self.num_logprobs is not None else None,
            score=self.score,
        )
        event_text, generated = last_text if self.stream else text, len(self.token_ids)
        prompt_tokens, reason = len(self.prompt_ids), self.finish_reason
        self._emit(TokenEvent(event_text, token, reason, prompt_tokens, generated, now, self.result, logprobs))
        return self.result

    @property
    def _ends_with_token(self) -> bool:
        return self.finish_reason in ("length", "stop_sequence") and self.beam_search is None

    def _final_text(self) -> tuple[str, str]:
        """The whole text, and what of it has not been emitted yet."""
        try:
            if self.detokenizer is None:
                text = self.decode(self.token_ids)
                return text, text
            rest = self.detokenizer.finish()
            self.texts.append(rest)
            return "".join(self.texts), self.text + rest if self._ends_with_token else rest
        except Exception as error:  # an end is emitted in any case
            self.finish_reason, self.error = "error", error
            return "", ""

    def _emit(self, event: TokenEvent) -> bool:
        """Hand an event to the caller; False when the caller's function raised."""
        try:
            self.on_event(event)
            return True
        except Exception:
            # A caller's mistake must not take the other requests down.
            log.exception("a request's on_event raised; the request is cancelled")
            return False
