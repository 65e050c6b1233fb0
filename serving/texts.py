"""The texts of a call: what is asked of them, and what becomes of each before the engine sees any.

A text without letters (a number, a time, ``♪``, nothing at all) has nothing to translate, and a model asked to do it
anyway makes something up: it comes back as it is. Each text of a call has its own outcome: one in fault ends by "error"
with an empty text, and its error beside it, while the others are answered.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from serving.config import ServerConfig
from serving.engine import Engine, GenerationRequest, GenerationResult, TokenEvent
from serving.engine.limits import DEFAULT_MAX_TOKENS, check_request
from serving.errors import InvalidRequest, ServingError
from serving.parameters import Parameters, read_parameters

# Longest text handed to the tokenizer, per token of the limit: SentencePiece pieces hold at most 16 characters, so a
# longer text cannot fit, unless most of it is white space.
CHARS_PER_TOKEN = 32
MAX_SAMPLES = 8

# What becomes of a text: a request for the engine, or an outcome that needs none.
Prepared = GenerationRequest | GenerationResult


@dataclass(frozen=True)
class TextRequest:
    """What a caller asks for, in no protocol's terms.

    Attributes:
        texts: the prompts, N of them; one that could not be read is its error.
        parameters: raw generation parameters, see ``parameters.py``.
        samples: texts wanted for each prompt; results are in the order prompt 0 sample 0, prompt 0 sample 1, ...
        logprobs: how many alternatives to tell with each token; None tells no log-probabilities at all.
        fit: whether a ``max_tokens`` beyond what there is room for means "as many as there is room for".
        names: the caller's own words, for errors: ``text`` (a prompt), ``n`` (samples), or a parameter's name.
    """

    texts: Sequence[str | InvalidRequest]
    parameters: Mapping[str, object]
    samples: int = 1
    logprobs: int | None = None
    fit: bool = False
    names: Mapping[str, str] = field(default_factory=dict)

    def name(self, ours: str) -> str:
        """The caller's word for ``ours``."""
        return self.names.get(ours, ours)

    def worded(self, error: InvalidRequest, index: int | None = None) -> InvalidRequest:
        """A refusal, of text ``index`` where that is known, with the caller's name for the field."""
        if error.field not in ("text", "prompt") or index is None:
            return InvalidRequest(self.name(error.field), error.message)
        name = self.name("text")
        return InvalidRequest(name if len(self.texts) == 1 else f"{name}[{index}]", error.message)


def prepare(request: TextRequest, engine: Engine, config: ServerConfig) -> list[Prepared]:
    """Check a call and tokenize its texts: ``samples`` outcomes for each.

    Raises:
        InvalidRequest: for what would be wrong with any text, and when none can be taken, with the first one's error.
    """
    parameters = read_parameters(request.parameters)
    _check_samples(request, parameters, config.max_prompts)
    _check_logprobs(request, parameters, engine.bundle.limits["max_new_tokens"], config.max_logprobs)
    call = _Call(request, engine, parameters, time.monotonic() + config.request_timeout)
    found = [call.prepared(index, text) for index, text in enumerate(request.texts)]
    if len(found) > 1 or isinstance(found[0], GenerationResult):  # a single request is checked by the engine
        call.check_any_text()
    errors = [one.error for one in found if isinstance(one, GenerationResult) and one.error is not None]
    if len(errors) == len(found):
        raise errors[0]
    count = request.samples
    drawn = (one.samples(count) if isinstance(one, GenerationRequest) else [one] * count for one in found)
    return list(chain.from_iterable(drawn))


class _Call:
    """What a call's parameters make of a text."""

    def __init__(self, request: TextRequest, engine: Engine, parameters: Parameters, deadline: float) -> None:
        self.request, self.engine, self.parameters = request, engine, parameters
        self.fields = {**parameters.sampling, "deadline": deadline, "logprobs": request.logprobs}
        self.translates = engine.bundle.task == "translation"

    def prepared(self, index: int, text: str | InvalidRequest) -> Prepared:
        longest = CHARS_PER_TOKEN * self.engine.bundle.limits["max_prompt_tokens"]
        try:
            if isinstance(text, InvalidRequest):
                raise text
            if self.translates and not has_letters(text):
                return unchanged(text, self.request.logprobs)
            if len(text) > longest:
                raise InvalidRequest("text", f"has {len(text)} characters, more than {longest}; split the text")
            found = self.generation(text, self.parameters.target)
            if len(self.request.texts) > 1:
                check_request(found, self.engine.limits)
            return found
        except InvalidRequest as error:
            return failed(self.request.worded(error, index), self.request.logprobs)

    def check_any_text(self) -> None:
        """Refuse what would be wrong with any text."""
        try:
            target = self.engine.bundle.languages[0] if self.translates else None
            check_request(self.generation("", self.parameters.target or target), self.engine.limits)
        except InvalidRequest as error:
            raise self.request.worded(error) from None

    def generation(self, text: str, target: str | None) -> GenerationRequest:
        prompt = self.engine.prompt(text, target=target, author=self.parameters.author)
        found = GenerationRequest(prompt, **self.fields)
        if self.request.fit and found.max_tokens is not None:
            room = max(self.engine.limits.room(len(prompt)), 1)
            found = replace(found, max_tokens=min(found.max_tokens, room))
        return found


def _check_samples(request: TextRequest, parameters: Parameters, max_prompts: int) -> None:
    samples, name = request.samples, request.name("n")
    if not 1 <= samples <= MAX_SAMPLES:
        raise InvalidRequest(name, f"must be between 1 and {MAX_SAMPLES}, not {samples}")
    if samples == 1:
        return
    if parameters.sampling.get("beams", 1) != 1:
        raise InvalidRequest(name, f"beam search gives one text; leave out {request.name('beams')} to draw several")
    if not parameters.sampling.get("temperature"):
        raise InvalidRequest(name, "greedy gives one and the same text; set a temperature above 0")
    if samples * len(request.texts) > max_prompts:
        total = f"{samples} texts for each of {len(request.texts)} prompts"
        raise InvalidRequest(name, f"{total} exceed the {max_prompts} that one request may ask for")


def _check_logprobs(request: TextRequest, parameters: Parameters, longest: int, limit: int) -> None:
    """An answer may be a thousand times larger than its request; it is held in memory until it is read."""
    if request.logprobs is None:
        return
    tokens = min(parameters.sampling.get("max_tokens", DEFAULT_MAX_TOKENS), longest)
    texts = len(request.texts) * request.samples
    total = texts * tokens * (1 + request.logprobs)
    if total > limit:
        product = f"{texts} texts x {request.name('max_tokens')} {tokens} x (1 + {request.logprobs}) = {total}"
        raise InvalidRequest(
            request.name("logprobs"), f"{product} log-probabilities exceed the {limit} of one request; send several"
        )


def has_letters(text: str) -> bool:
    """Whether anything in a text is a letter of any script."""
    return any(map(str.isalpha, text))


def unchanged(text: str, logprobs: int | None = None) -> GenerationResult:
    """The outcome of a text that comes back as it is; no token of it was read or written."""
    return GenerationResult(text, [], "eos_token", logprobs=None if logprobs is None else [])


def failed(error: ServingError, logprobs: int | None = None) -> GenerationResult:
    """The outcome of a text in fault."""
    return GenerationResult("", [], "error", error=error, logprobs=None if logprobs is None else [])


def whole(result: GenerationResult) -> TokenEvent:
    """An outcome as the one event of a stream."""
    return TokenEvent(result.text, None, result.finish_reason, 0, 0, time.perf_counter(), result)
