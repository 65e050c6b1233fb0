"""What goes into the engine and what comes out: requests, token events, results, and the checks at the border.

A request is checked once, before it can take a place in the queue; behind that border the engine trusts it.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np

from serving.errors import InvalidRequest, ServingError

FinishReason = Literal["eos_token", "stop_sequence", "length", "cancelled", "error"]

DEFAULT_MAX_TOKENS = 128
MAX_SEED = 2**63 - 1
MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_LOGPROBS = 20
MAX_BEAMS = 8


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
        logprobs: how many of the likeliest tokens to tell with each token, see :class:`TokenLogprobs`; 0 tells the
            token's own alone, ``None`` nothing.
        beams: width of a beam search (seq2seq only); 1 is none. Excludes temperature and logprobs, and tells its text
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
        """Whether what was said already changes what is said next."""
        return self.repetition_penalty != 1 or self.frequency_penalty != 0

    @property
    def greedy(self) -> bool:
        """Whether one argmax decides each token."""
        return self.temperature == 0 and not self.penalized

    def samples(self, count: int) -> list[GenerationRequest]:
        """``count`` requests that differ in their seeds (:func:`derive_seed`): submit each.

        They share one run of the prompt where they overlap in time, as all requests of equal prompts do.
        """
        if self.seed is None:
            return [self] * count
        return [replace(self, seed=derive_seed(self.seed, i)) for i in range(count)]


def derive_seed(seed: int, index: int) -> int:
    """The seed of sample ``index`` of a seeded request; the first keeps its own.

    Hashed rather than counted up, so that the samples of seeds 7 and 8 have nothing in common. Sample i of seed s is
    what a request of its own with this seed gives, however many samples were asked for.
    """
    if index == 0:
        return seed
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> np.uint64(1))


class TokenLogprobs:
    """How likely the model found a token, and what else it might have said there.

    Natural logarithms of the model's own distribution over the whole vocabulary, before penalties, temperature and
    cut-offs. ``top`` holds (id, log-probability), likeliest first; control tokens that are never generated are left
    out, so end-of-sequence is the only one it may name. It is kept as bytes, a tenth of the pairs' own size: a request
    may gather tens of thousands of them.
    """

    __slots__ = ("_top", "logprob", "token_id")

    def __init__(self, token_id: int, logprob: float, top: tuple[tuple[int, float], ...] = ()) -> None:
        self.token_id, self.logprob = token_id, logprob
        self._top = struct.pack("=" + "id" * len(top), *chain.from_iterable(top))

    @property
    def top(self) -> tuple[tuple[int, float], ...]:
        """The likeliest tokens there."""
        return tuple(struct.iter_unpack("=id", self._top))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenLogprobs) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"TokenLogprobs({self.token_id}, {self.logprob}, {self.top})"

    def _key(self) -> tuple[int, float, bytes]:
        return self.token_id, self.logprob, self._top


@dataclass(slots=True)
class GenerationResult:
    """A finished request. ``token_ids`` excludes the end-of-sequence token; ``text`` excludes the stop string.

    Times are in seconds: ``queue`` until a slot was free, ``prefill`` in the prompt's own run, ``first_token`` from
    submission to the first token (0 when there was none), ``seconds`` from submission to the end. A beam search's
    first token is its first step, which no one outside sees. ``logprobs`` go with ``token_ids`` where they were asked
    for; ``score`` is what a beam search's text won by.
    """

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    prompt_tokens: int
    generated_tokens: int
    queue_seconds: float
    prefill_seconds: float
    first_token_seconds: float
    seconds: float
    error: ServingError | None = None
    logprobs: list[TokenLogprobs] | None = None
    score: float | None = None

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


@dataclass(frozen=True)
class Limits:
    """What a request may ask for. ``context`` bounds prompt and new tokens together; 0 where they are apart."""

    vocab_size: int
    max_prompt_tokens: int
    max_new_tokens: int
    context: int
    beams: int = 1

    def room(self, prompt_tokens: int) -> int:
        """How many new tokens fit after a prompt."""
        return min(self.max_new_tokens, self.context - prompt_tokens) if self.context else self.max_new_tokens


def check_prompt(prompt_ids: Iterable[int], limits: Limits, field: str = "prompt") -> np.ndarray:
    """The prompt as int64 [P].

    Raises:
        InvalidRequest: empty, too long, or not ids of the vocabulary.
    """
    ids = _ids(prompt_ids, limits, field)
    if not len(ids):
        raise InvalidRequest(field, "must not be empty")
    if len(ids) > limits.max_prompt_tokens:
        raise InvalidRequest(
            field,
            f"has {len(ids)} tokens, this model takes at most {limits.max_prompt_tokens}; shorten or split the text",
        )
    if limits.context and len(ids) >= limits.context:
        raise InvalidRequest(
            field, f"fills the context of {limits.context} tokens, no room is left for new ones; shorten it"
        )
    return ids


def check_targets(target_ids: Iterable[int], prompt_tokens: int, limits: Limits, field: str = "targets") -> np.ndarray:
    """Ids to be scored, as int64 [N]; they have to fit like generated tokens do."""
    ids = _ids(target_ids, limits, field)
    room = limits.room(prompt_tokens)
    if len(ids) > room:
        raise InvalidRequest(field, f"has {len(ids)} tokens, at most {room} fit after this prompt")
    return ids


def check_request(request: GenerationRequest, limits: Limits) -> tuple[np.ndarray, int]:
    """The prompt as int64 [P] and the resolved ``max_tokens``.

    Raises:
        InvalidRequest: naming the first field that is out of its range.
    """
    prompt = check_prompt(request.prompt_ids, limits)
    room = limits.room(len(prompt))
    max_tokens = request.max_tokens
    if max_tokens is None:
        max_tokens = min(DEFAULT_MAX_TOKENS, room)
    else:
        _integer("max_tokens", max_tokens, 1, limits.max_new_tokens)
        if max_tokens > room:
            raise InvalidRequest(
                "max_tokens",
                f"{max_tokens} new tokens after a prompt of {len(prompt)} exceed the context of {limits.context}; "
                f"ask for at most {room}",
            )
    _number("temperature", request.temperature, 0, 10)
    _integer("top_k", request.top_k, 0, 2**31 - 1)
    _number("top_p", request.top_p, 0, 1, open_low=True)
    _number("min_p", request.min_p, 0, 1)
    _number("repetition_penalty", request.repetition_penalty, 0.01, 10)
    _number("frequency_penalty", request.frequency_penalty, -2, 2)
    if request.logprobs is not None:
        _integer("logprobs", request.logprobs, 0, MAX_LOGPROBS)
    _beams(request, limits)
    if request.seed is not None:
        _integer("seed", request.seed, 0, MAX_SEED)
    if isinstance(request.stop, str) or not all(isinstance(s, str) for s in request.stop):
        raise InvalidRequest("stop", "must be a list of strings")
    if len(request.stop) > MAX_STOPS:
        raise InvalidRequest("stop", f"has {len(request.stop)} strings, at most {MAX_STOPS} are taken")
    for text in request.stop:
        if not 1 <= len(text) <= MAX_STOP_CHARS:
            raise InvalidRequest("stop", f"each string must have 1 to {MAX_STOP_CHARS} characters, one has {len(text)}")
    if request.deadline is not None and not math.isfinite(request.deadline):
        raise InvalidRequest("deadline", "must be a finite time.monotonic() instant")
    return prompt, max_tokens


def _beams(request: GenerationRequest, limits: Limits) -> None:
    _integer("beams", request.beams, 1, MAX_BEAMS)
    _number("length_penalty", request.length_penalty, -5, 5)
    if request.beams == 1:
        return
    if limits.beams == 1:
        raise InvalidRequest("beams", "beam search is not offered for this model; leave beams at 1")
    if request.beams > limits.beams:
        raise InvalidRequest("beams", f"{request.beams} beams do not fit, this server has {limits.beams} slots")
    if request.temperature > 0:
        raise InvalidRequest("beams", "a beam search draws nothing: set temperature to 0, or beams to 1")
    if request.ignore_eos:
        raise InvalidRequest("ignore_eos", "a beam search ends where its texts do: leave it out, or set beams to 1")
    if request.logprobs is not None:
        raise InvalidRequest("logprobs", "are not told by a beam search: leave them out, or set beams to 1")


def _ids(values: Iterable[int], limits: Limits, field: str) -> np.ndarray:
    try:
        ids = np.asarray(values if isinstance(values, np.ndarray) else list(values))
    except (TypeError, ValueError):
        raise InvalidRequest(field, "must be a list of token ids") from None
    if ids.ndim != 1 or (len(ids) and ids.dtype.kind not in "iu"):
        raise InvalidRequest(field, "must be a list of token ids")
    if len(ids) and not (ids.min() >= 0 and ids.max() < limits.vocab_size):
        raise InvalidRequest(field, f"holds an id outside 0..{limits.vocab_size - 1}")
    return ids.astype(np.int64)  # a copy: the caller may change its list while the request waits


def _integer(field: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise InvalidRequest(field, f"must be an integer, not {type(value).__name__}")
    if not low <= value <= high:
        raise InvalidRequest(field, f"must be between {low} and {high}, not {value}")


def _number(field: str, value: Any, low: float, high: float, open_low: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InvalidRequest(field, f"must be a number, not {type(value).__name__}")
    if not (low < value <= high if open_low else low <= value <= high):  # also refuses NaN
        bound = f"above {low}" if open_low else f"at least {low}"
        raise InvalidRequest(field, f"must be {bound} and at most {high}, not {value}")


class Handle:
    """A submitted request, in the caller's hands."""

    __slots__ = ("_cancel",)

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel

    def cancel(self) -> None:
        """End the request within one step (from any thread, any number of times); its last event says "cancelled"."""
        self._cancel()


def expired(deadline: float | None) -> bool:
    """Whether a ``time.monotonic()`` deadline has passed."""
    return deadline is not None and time.monotonic() >= deadline
