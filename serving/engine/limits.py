"""What a request may ask for, and the check at the border.

A request is checked once, before it can take a place in the queue; behind that border the engine trusts it.

Legend: S prompt tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.bundle import Bundle
from model.config import MAX_BEAMS
from serving.engine.generation import GenerationRequest
from serving.errors import InvalidRequest

DEFAULT_MAX_TOKENS = 128
MAX_SEED = 2**63 - 1
MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_LOGPROBS = 20
# Lowest and highest value of a request's numbers; ``top_p`` must be above its lowest.
RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 10),
    "top_k": (0, 2**31 - 1),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "repetition_penalty": (0.01, 10),
    "frequency_penalty": (-2, 2),
    "seed": (0, MAX_SEED),
    "beams": (1, MAX_BEAMS),
    "length_penalty": (-5, 5),
}


@dataclass(frozen=True)
class Limits:
    """What a request may ask for. ``context`` bounds prompt and new tokens together; 0 where they are apart."""

    vocab_size: int
    max_prompt_tokens: int
    max_new_tokens: int
    context: int
    beams: int

    @classmethod
    def of(cls, bundle: Bundle, slots: int) -> Limits:
        """What a bundle can do in ``slots`` slots."""
        positions = bundle.config.max_positions
        prompt, new = (min(bundle.limits[name], positions) for name in ("max_prompt_tokens", "max_new_tokens"))
        if bundle.family == "seq2seq":
            return cls(bundle.vocab_size, prompt, new, 0, min(MAX_BEAMS, slots))
        context = min(positions, prompt + new)
        return cls(bundle.vocab_size, min(prompt, context - 1), new, context, 1)

    def room(self, prompt_tokens: int) -> int:
        """How many new tokens fit after a prompt."""
        return min(self.max_new_tokens, self.context - prompt_tokens) if self.context else self.max_new_tokens

    @property
    def piece_tokens(self) -> int:
        """Most tokens of a prompt whose translation, a third longer than it, fits as well."""
        longest = 3 * self.context // 7 if self.context else 3 * self.max_new_tokens // 4
        return max(1, min(self.max_prompt_tokens, longest))

    def translation_tokens(self, prompt_tokens: int) -> int:
        """Most tokens of a translation that does not say how many it may have: ample, and an end to one that loops."""
        return min(self.room(prompt_tokens), max(DEFAULT_MAX_TOKENS, 2 * prompt_tokens + 16))


def check_prompt(prompt_ids: Iterable[int], limits: Limits, field: str = "prompt") -> np.ndarray:
    """The prompt as int64 [S].

    Raises:
        InvalidRequest: empty, too long, or not ids of the vocabulary.
    """
    ids, most = _ids(prompt_ids, limits, field), limits.max_prompt_tokens
    if not len(ids):
        raise InvalidRequest(field, "must not be empty")
    if len(ids) > most:
        raise InvalidRequest(
            field, f"has {len(ids)} tokens, this model takes at most {most}; shorten or split the text"
        )
    return ids


def check_targets(target_ids: Iterable[int], prompt_tokens: int, limits: Limits, field: str = "targets") -> np.ndarray:
    """Ids to be scored, as int64; they have to fit like generated tokens do.

    Raises:
        InvalidRequest: too many, or not ids of the vocabulary.
    """
    ids = _ids(target_ids, limits, field)
    room = limits.room(prompt_tokens)
    if len(ids) > room:
        raise InvalidRequest(field, f"has {len(ids)} tokens, at most {room} fit after this prompt")
    return ids


def check_request(request: GenerationRequest, limits: Limits) -> tuple[np.ndarray, int]:
    """The prompt as int64 [S] and the resolved ``max_tokens``.

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
    _check_sampling(request)
    _check_beams(request, limits)
    _check_stop(request)
    if request.deadline is not None and not math.isfinite(request.deadline):
        raise InvalidRequest("deadline", "must be a finite time.monotonic() instant")
    return prompt, max_tokens


def _check_sampling(request: GenerationRequest) -> None:
    _number("temperature", request.temperature)
    _integer("top_k", request.top_k, *RANGES["top_k"])
    _number("top_p", request.top_p, open_low=True)
    for name in ("min_p", "repetition_penalty", "frequency_penalty"):
        _number(name, getattr(request, name))
    if request.logprobs is not None:
        _integer("logprobs", request.logprobs, 0, MAX_LOGPROBS)
    if request.seed is not None:
        _integer("seed", request.seed, *RANGES["seed"])


def _check_beams(request: GenerationRequest, limits: Limits) -> None:
    _integer("beams", request.beams, *RANGES["beams"])
    _number("length_penalty", request.length_penalty)
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


def _check_stop(request: GenerationRequest) -> None:
    if isinstance(request.stop, str) or not all(isinstance(s, str) for s in request.stop):
        raise InvalidRequest("stop", "must be a list of strings")
    if len(request.stop) > MAX_STOPS:
        raise InvalidRequest("stop", f"has {len(request.stop)} strings, at most {MAX_STOPS} are taken")
    for text in request.stop:
        if not 1 <= len(text) <= MAX_STOP_CHARS:
            raise InvalidRequest("stop", f"each string must have 1 to {MAX_STOP_CHARS} characters, one has {len(text)}")


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


def _integer(field: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise InvalidRequest(field, f"must be an integer, not {type(value).__name__}")
    if not low <= value <= high:
        raise InvalidRequest(field, f"must be between {low} and {high}, not {value}")


def _number(field: str, value: Any, open_low: bool = False) -> None:
    low, high = RANGES[field]
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InvalidRequest(field, f"must be a number, not {type(value).__name__}")
    if not (low < value <= high if open_low else low <= value <= high):  # also refuses NaN
        bound = f"above {low}" if open_low else f"at least {low}"
        raise InvalidRequest(field, f"must be {bound} and at most {high}, not {value}")
