"""What goes into the engine and what comes out: requests, token events, results; and who watches."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from serving.errors import ServingError

FinishReason = Literal["eos_token", "stop_sequence", "length", "cancelled", "error"]
TOP_ENTRY = struct.Struct("=id")  # id and log-probability


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt and how to continue it.

    Attributes:
        prompt_ids: token ids from :meth:`Engine.prompt` (control tokens included).
        max_tokens: most tokens to generate. ``None`` means 128, or what the context still holds when that is less.
            A number that does not fit is refused, never silently cut: above the bundle's ``limits.max_new_tokens``,
            or, for the decoder-only family, where prompt and new tokens together exceed the context.
        temperature: 0 is greedy, above it tokens are drawn.
        top_k, top_p, min_p: which tokens may be drawn; 0, 1.0 and 0.0 leave all of them.
        repetition_penalty: divides (multiplies) the positive (negative) logits of tokens already in the text, the
            prompt included for the decoder-only family; 1.0 leaves them, 0.01 is the lowest.
        frequency_penalty: subtracted from a token's logit once for each time that it was generated; the prompt does
            not count.
        seed: makes drawing reproducible, whatever else is in the batch; ``None`` takes fresh entropy.
        stop: strings that end the text; the text excludes them. A beam search runs to its end and cuts the best text.
        logprobs: how many of the likeliest tokens to give with each token, see :class:`TokenLogprobs`; 0 gives the
            token's own alone, ``None`` nothing.
        beams: width of a beam search (seq2seq only); 1 is none. Excludes temperature and logprobs, and emits its text
            in one event at the end, as until then nothing of it is final.
        length_penalty: a beam search prefers the text of the highest sum of log-probabilities / length **
            length_penalty, where the length counts generated tokens, the end-of-sequence token included.
        ignore_eos: go on beyond end-of-sequence, until ``max_tokens`` or a stop string, as benchmarks want it, to have
            texts of a known length. Excludes beams.
        deadline: ``time.monotonic()`` instant after which the request ends with :class:`DeadlineExceeded`.
    """

    prompt_ids: list[int]
    max_tokens: int | None = None
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    deadline: float | None = None
    logprobs: int | None = None
    beams: int = 1
    length_penalty: float = 1.0
    ignore_eos: bool = False

    @property
    def penalized(self) -> bool:
        """Whether earlier tokens change how likely the next ones are."""
        return self.repetition_penalty != 1 or self.frequency_penalty != 0

    @property
    def greedy(self) -> bool:
        """Whether one argmax decides each token."""
        return self.temperature == 0 and not self.penalized

    def samples(self, count: int) -> list[GenerationRequest]:
        """``count`` requests that differ in their seeds, of which the first keeps its own: submit each.

        They share one run of the prompt where they overlap in time, as all requests of equal prompts do. Seeds are
        hashed rather than counted up, so that the samples of seeds 7 and 8 have nothing in common; sample i has the
        same one however many samples were asked for.
        """
        if self.seed is None:
            return [self] * count
        states = (np.random.SeedSequence([self.seed, i]).generate_state(1, np.uint64)[0] for i in range(1, count))
        return [self, *(replace(self, seed=int(state >> np.uint64(1))) for state in states)]


class TokenLogprobs(NamedTuple):
    """How likely the model found a token, and its likeliest alternatives.

    Natural logarithms of the model's own distribution over the whole vocabulary, before penalties, temperature and
    cut-offs. ``top`` holds (id, log-probability), likeliest first; control tokens that are never generated are left
    out, so end-of-sequence is the only one it may name. It is kept as bytes, a tenth of the pairs' own size: a request
    may gather tens of thousands of them.

    ``gap`` is what stands before the token in a text of several pieces, in place of the space that a tokenizer may put
    there; None but for the first token of a piece.
    """

    token_id: int
    logprob: float
    packed_top: bytes = b""
    gap: str | None = None

    @property
    def top(self) -> tuple[tuple[int, float], ...]:
        """The likeliest tokens there."""
        return tuple(TOP_ENTRY.iter_unpack(self.packed_top))


@dataclass(slots=True)
class GenerationResult:
    """A finished request. ``token_ids`` excludes the end-of-sequence token; ``text`` excludes the stop string.

    Times are in seconds: ``queue`` until a slot was free, ``prefill`` in the prompt's own run, ``first_token`` from
    submission to the first token (0 when there was none), ``seconds`` from submission to the end. A beam search's
    first token is its first step, which no one outside sees. ``logprobs`` go with ``token_ids`` where they were asked
    for; ``score`` is what a beam search's text won by; ``about`` holds facts to be told beside the text. All numbers
    are 0 for a text that never was in the engine.
    """

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    prompt_tokens: int = 0
    generated_tokens: int = 0
    queue_seconds: float = 0.0
    prefill_seconds: float = 0.0
    first_token_seconds: float = 0.0
    seconds: float = 0.0
    error: ServingError | None = None
    logprobs: list[TokenLogprobs] | None = None
    score: float | None = None
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def decode_seconds(self) -> float:
        """From the first token to the end."""
        return self.seconds - self.first_token_seconds if self.first_token_seconds else 0.0


class TokenEvent(NamedTuple):
    """One step of a request, or its end.

    Attributes:
        text: new text, whole characters only; often empty while a character or a stop string may still be completed.
        token_id: the token of this step; ``None`` on an end that brought no token of the text.
        finish_reason: ``None`` until the last event.
        time: ``time.perf_counter()`` of the step.
        result: the whole outcome, on the last event only; its ``error`` says why when the reason is "error".
        logprobs: of this step's token, where they were asked for; at an end by end-of-sequence those of that token,
            which is no part of ``token_ids``. ``text`` may lag behind the token it belongs to.
    """

    text: str
    token_id: int | None
    finish_reason: FinishReason | None
    prompt_tokens: int
    generated_tokens: int
    time: float
    result: GenerationResult | None = None
    logprobs: TokenLogprobs | None = None


class Observer(Protocol):
    """What a metrics collector implements; called in the engine thread, so it has to be cheap.

    What it raises is logged and touches no request.
    """

    def step(self, slots: int, seconds: float) -> None:
        """One decode run of ``slots`` used slots."""

    def interval(self, seconds: float, count: int) -> None:
        """``count`` requests got a token ``seconds`` after their previous one."""

    def finished(self, result: GenerationResult) -> None:
        """A generation ended, in whatever way."""
