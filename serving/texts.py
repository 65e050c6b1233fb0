"""The texts of a call: what is asked of them, and what becomes of each before the engine sees any.

A text to translate may have any length: one sentence is one request to the engine, others are cut (``pieces.py``). From
which language into which it goes, and what of it is language, is found in ``ways.py``.
A text without letters (a number, a time, ``♪``, nothing at all) has nothing to translate, and a model asked to do it
anyway makes something up: it comes back as it is. Each text of a call has its own outcome: one in fault ends by "error"
with an empty text, and its error beside it, while the others are answered.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import Any

from model.text.markup import Markup
from model.text.spans import Attempt, has_letters, words_of
from serving.config import ServerConfig
from serving.engine import Engine, GenerationRequest, GenerationResult, TokenEvent
from serving.engine.limits import DEFAULT_MAX_TOKENS, check_request
from serving.errors import InvalidRequest, ServingError
from serving.parameters import Parameters, read_parameters
from serving.pieces import WINDOW, CutText
from serving.ways import NO_TERMS, Terms, Way, check_fields, find_way, read_page

# Longest text handed to the tokenizer uncut, per token of the limit: SentencePiece pieces hold at most 16 characters,
# so a longer text cannot fit, unless most of it is white space.
CHARS_PER_TOKEN = 32
MAX_SAMPLES = 8

# What becomes of a text: a request for the engine, several of them, or an outcome that needs none.
Prepared = GenerationRequest | CutText | GenerationResult


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


def prepare(
    request: TextRequest, engine: Engine, config: ServerConfig, terms: Terms = NO_TERMS, beams: int = 1
) -> list[Prepared]:
    """Check a call and tokenize its texts: ``samples`` outcomes for each.

    Args:
        terms: the server's own.
        beams: of a request that names none, and asks for nothing that a beam search has not.

    Raises:
        InvalidRequest: for what would be wrong with any text, and when none can be taken, with the first one's error.
    """
    searches = request.samples == 1 and request.logprobs is None
    parameters = read_parameters(request.parameters, engine.bundle.task, beams if searches else 1)
    _check_length(request, config.max_chars)
    _check_samples(request, parameters, config.max_prompts)
    tokens = min(parameters.sampling.get("max_tokens", DEFAULT_MAX_TOKENS), engine.bundle.limits["max_new_tokens"])
    _check_logprobs(request, len(request.texts) * request.samples, tokens, config.max_logprobs)
    call = _Call(request, engine, parameters, config, terms)
    found = [call.prepared(index, text) for index, text in enumerate(request.texts)]
    if len(found) > 1 or isinstance(found[0], GenerationResult):  # a single request is checked by the engine
        call.check_any_text()
    errors = [one.error for one in found if isinstance(one, GenerationResult) and one.error is not None]
    if len(errors) == len(found):
        raise errors[0]
    count = request.samples
    drawn = ([one] * count if isinstance(one, GenerationResult) else one.samples(count) for one in found)
    return list(chain.from_iterable(drawn))


class _Call:
    """What a call's parameters make of a text."""

    def __init__(
        self, request: TextRequest, engine: Engine, parameters: Parameters, config: ServerConfig, terms: Terms
    ) -> None:
        self.request, self.engine, self.parameters, self.config, self.terms = request, engine, parameters, config, terms
        deadline = time.monotonic() + config.request_timeout
        self.fields = {**parameters.sampling, "deadline": deadline, "logprobs": request.logprobs}
        self.template = GenerationRequest([], **self.fields)
        self.translates = engine.bundle.task == "translation"
        # Who goes on beyond the ends of texts wants one of a known length.
        self.splits = self.translates and parameters.split and not parameters.sampling.get("ignore_eos")
        self.made: dict[tuple[str, str], Callable[[str], list[Attempt]]] = {}
        check_fields(parameters, engine.bundle.languages, self.translates, self.splits)

    def prepared(self, index: int, text: str | InvalidRequest) -> Prepared:
        try:
            if isinstance(text, InvalidRequest):
                raise text
            if self.translates and not has_letters(text):
                return unchanged(text, self.request.logprobs)
            found = self.cut(text) if self.splits else self.uncut(text)
            if len(self.request.texts) > 1 and isinstance(found, GenerationRequest):
                check_request(found, self.engine.limits)
            return found
        except InvalidRequest as error:
            return failed(self.request.worded(error, index), self.request.logprobs)

    def cut(self, text: str) -> Prepared:
        """A text of one sentence as one request, any other to be cut into several."""
        page = read_page(text, self.parameters)
        plain = "\n".join(page.texts) if page else text  # each of its texts is one line
        words = words_of(plain)
        if not has_letters(words):
            return unchanged(text, self.request.logprobs)
        way = find_way(words, self.parameters, self.engine)
        if way.is_none:
            note = f"the text is in {way.target} already"
            return unchanged(text, self.request.logprobs, {**way.about, "note": note})
        pieces = partial(self.engine.pieces, plain, way.target, self.parameters.author, way.source)
        head = list(islice(pieces(), WINDOW))
        if not head[0].prompt:
            return unchanged(text, self.request.logprobs, way.about)
        first = self.generation(head[0].prompt)
        found = CutText(
            pieces,
            head,
            self.template,
            self.engine.limits,
            encode=partial(self.prompt, target=way.target),
            attempts=self.attempts(way),
            finish=partial(_filled, page) if page else None,
            about=way.about,
        )
        if found.is_one_sentence:
            return first
        check_request(first, self.engine.limits)
        if self.request.logprobs is not None:
            lengths = [found.request(piece.prompt).max_tokens or 0 for piece in pieces() if piece.prompt]
            count, limit = len(lengths) * self.request.samples, self.config.max_logprobs
            _check_logprobs(self.request, count, max(lengths), limit, "pieces")
        return found

    def attempts(self, way: Way) -> Callable[[str], list[Attempt]]:
        """The ways to translate a piece: the request's terms are read once for all of its texts that go one way."""
        key = (way.source, way.target)
        if key not in self.made:
            self.made[key] = self.terms.attempts(way, self.parameters.glossary)
        return self.made[key]

    def uncut(self, text: str) -> Prepared:
        longest = CHARS_PER_TOKEN * self.engine.bundle.limits["max_prompt_tokens"]
        if len(text) > longest:
            raise InvalidRequest("text", f"has {len(text)} characters, more than {longest}; split the text")
        target = self.parameters.target
        if self.translates:
            target = find_way(words_of(text), self.parameters, self.engine).target
        return self.generation(self.prompt(text, target))

    def check_any_text(self) -> None:
        """Refuse what would be wrong with any text."""
        try:
            target = self.engine.bundle.languages[0] if self.translates else None
            found = self.generation(self.prompt("", self.parameters.target or target))
            check_request(found, self.engine.limits)
        except InvalidRequest as error:
            raise self.request.worded(error) from None

    def prompt(self, text: str, target: str | None) -> list[int]:
        return self.engine.prompt(text, target=target, author=self.parameters.author)

    def generation(self, prompt: list[int]) -> GenerationRequest:
        """The request of a prompt, of as many tokens as there is room for, where more are asked for and may be."""
        limits, most = self.engine.limits, self.parameters.sampling.get("max_tokens")
        if most is None and self.splits:
            most = limits.translation_tokens(len(prompt))
        elif most is not None and self.request.fit:
            most = min(most, max(limits.room(len(prompt)), 1))
        return GenerationRequest(prompt, **(self.fields | {"max_tokens": most}))


def _check_length(request: TextRequest, limit: int) -> None:
    total = sum([len(text) for text in request.texts if isinstance(text, str)])
    if total > limit:
        where = f" in {len(request.texts)} texts" if len(request.texts) > 1 else ""
        message = f"has {total} characters{where}, more than {limit} in one request (--max_chars); send several"
        raise InvalidRequest(request.name("text"), message)


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


def _check_logprobs(request: TextRequest, texts: int, tokens: int, limit: int, what: str = "texts") -> None:
    """An answer may be a thousand times larger than its request; it is held in memory until it is read."""
    if request.logprobs is None:
        return
    total = texts * tokens * (1 + request.logprobs)
    if total > limit:
        product = f"{texts} {what} x {request.name('max_tokens')} {tokens} x (1 + {request.logprobs}) = {total}"
        raise InvalidRequest(
            request.name("logprobs"), f"{product} log-probabilities exceed the {limit} of one request; send several"
        )


def _filled(page: Markup, translated: str) -> str:
    return page.filled(translated.split("\n"))


def unchanged(text: str, logprobs: int | None = None, about: dict[str, Any] | None = None) -> GenerationResult:
    """The outcome of a text that comes back as it is; no token of it was read or written."""
    return GenerationResult(text, [], "eos_token", logprobs=None if logprobs is None else [], about=about or {})


def failed(error: ServingError, logprobs: int | None = None) -> GenerationResult:
    """The outcome of a text in fault."""
    return GenerationResult("", [], "error", error=error, logprobs=None if logprobs is None else [])


def whole(result: GenerationResult) -> TokenEvent:
    """An outcome as the one event of a stream."""
    return TokenEvent(result.text, None, result.finish_reason, 0, 0, time.perf_counter(), result)
