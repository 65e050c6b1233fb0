"""What becomes of one text of a call without the model: it comes back as it is, or it is in fault; for every protocol.

A text without letters (a number, a time, ``♪``, nothing at all) has nothing to translate, and a model asked to do it
anyway makes something up. Each text of a call has its own outcome: one in fault ends by "error" with an empty text, and
its error beside it, while the others are answered.
"""

from __future__ import annotations

import time

from serving.engine import GenerationRequest, GenerationResult, TokenEvent
from serving.engine.request import FinishReason
from serving.errors import ServingError

# A text of a call: a request for the engine, or an outcome that needs none.
Row = GenerationRequest | GenerationResult


def has_letters(text: str) -> bool:
    """Whether anything in a text is a letter of any script."""
    return any(map(str.isalpha, text))


def unchanged(text: str, logprobs: int | None = None) -> GenerationResult:
    """The outcome of a text that comes back as it is; no token of it was read or written."""
    return _outcome(text, "eos_token", logprobs)


def failed(error: ServingError, logprobs: int | None = None) -> GenerationResult:
    """The outcome of a text in fault."""
    return _outcome("", "error", logprobs, error)


def whole(result: GenerationResult) -> TokenEvent:
    """An outcome as the one event of a stream."""
    return TokenEvent(result.text, None, result.finish_reason, 0, 0, time.perf_counter(), result)


def _outcome(
    text: str, reason: FinishReason, logprobs: int | None, error: ServingError | None = None
) -> GenerationResult:
    return GenerationResult(
        text=text,
        token_ids=[],
        finish_reason=reason,
        prompt_tokens=0,
        generated_tokens=0,
        queue_seconds=0.0,
        prefill_seconds=0.0,
        first_token_seconds=0.0,
        seconds=0.0,
        error=error,
        logprobs=None if logprobs is None else [],
    )
