"""The core call that every protocol adapter makes: texts and raw parameters in, generations out, whole or as they come.

Adapters translate messages and nothing else; limits, deadlines, draining, each text's outcome and the words of an error
are decided here, so they cannot differ between v2, ``/generate``, the Open Inference generate routes and OpenAI's.

    results = await service.complete(TextRequest(["Привет!"], {"target": "en"}))
    async with aclosing(service.stream(TextRequest(["Привет!"], {"target": "en"}))) as events: ...
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from model.bundle import Bundle
from serving.config import ServerConfig
from serving.engine import Engine, GenerationRequest, GenerationResult, TokenEvent
from serving.engine.aio import generate, stream
from serving.engine.request import DEFAULT_MAX_TOKENS, check_request
from serving.errors import InvalidRequest, Overloaded, ServingError, ShuttingDown
from serving.metrics import Metrics
from serving.parameters import Parameters, read_parameters
from serving.readers import Readers
from serving.texts import Row, failed, has_letters, unchanged, whole

# Longest text handed to the tokenizer, per token of the limit: SentencePiece pieces hold at most 16 characters, so a
# longer text cannot fit, unless most of it is white space.
CHARS_PER_TOKEN = 32
# Above this many characters in a call, tokenizing leaves the event loop, which has other requests to answer. It goes to
# one thread for all calls: more would only fight with the loop for the interpreter.
THREAD_CHARS = 2_000
MAX_SAMPLES = 8
INTERNAL = "internal error; the server's log says more"  # all that a caller hears of an unexpected exception


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
    parameters: Mapping[str, Any]
    samples: int = 1
    logprobs: int | None = None
    fit: bool = False
    names: Mapping[str, str] = field(default_factory=dict)

    def name(self, ours: str) -> str:
        """The caller's word for ``ours``."""
        return self.names.get(ours, ours)


class TextService:
    """One bundle behind one engine, ready to be called from the event loop."""

    def __init__(self, engine: Engine, bundle: Bundle, config: ServerConfig, metrics: Metrics) -> None:
        self.engine = engine
        self.bundle = bundle
        self.config = config
        self.metrics = metrics
        self.readers = Readers(config.max_unread_bytes)
        self.warm = False
        self.draining = False  # told to leave: not ready, and answering what still comes
        self.closed = False
        self.called = 0.0  # time.monotonic() when a call, but no probe, last came or ended
        self._tokenizing = ThreadPoolExecutor(1, "tokenizing")

    @property
    def live(self) -> bool:
        """False once the engine has died: only a new process helps."""
        return self.engine.healthy or self.draining

    @property
    def ready(self) -> bool:
        """Loaded, warmed up, healthy and not about to leave. A full queue changes nothing: it answers 429."""
        return self.warm and self.engine.healthy and not self.draining

    def warm_up(self) -> None:
        """Run a first generation, so that no caller pays for the sessions' first steps. Blocks."""
        target = self.bundle.languages[-1] if self.bundle.task == "translation" else None
        prompt = self.engine.prompt("Warm-up.", target=target)
        results = self.engine.generate([GenerationRequest(prompt, max_tokens=4) for _ in range(2)])
        for result in results:
            if result.error:
                raise result.error
        self.warm = True

    async def complete(self, request: TextRequest) -> list[GenerationResult]:
        """Generate to the end: an outcome for each text. Cancelling this call cancels its generations.

        Raises:
            ServingError: when none of its texts can be answered, with the first one's error; when the call itself is in
                fault, or the queue too full for all of it.
        """
        rows = await self._rows(request)
        if len(rows) == 1:
            return [await self._run(request, 0, rows[0])]
        tasks = [asyncio.ensure_future(self._outcome(request, index, row)) for index, row in enumerate(rows)]
        try:
            results = list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:  # a refusal ends the call; what it started must not go on
                task.cancel()
        _one_answered(results)
        for result in results:
            if result.error is not None:
                self.metrics.refused(reason(result.error))
        return results

    async def _run(self, request: TextRequest, index: int, row: Row) -> GenerationResult:
        if isinstance(row, GenerationResult):
            return row
        try:
            return await generate(self.engine, row)
        except InvalidRequest as error:
            raise _worded(error, request, index // request.samples) from None
        finally:
            self.called = time.monotonic()

    async def _outcome(self, request: TextRequest, index: int, row: Row) -> GenerationResult:
        """As :meth:`_run`, where others are answered though this one is not."""
        try:
            return await self._run(request, index, row)
        except Overloaded:  # a moment later all of the call may find room
            raise
        except ServingError as error:
            return failed(error, request.logprobs)

    async def stream(self, request: TextRequest) -> AsyncGenerator[tuple[int, TokenEvent], None]:
        """Generate step by step: (index of the text, event), each text's last event carrying its result.

        Refusals, a full queue included, are raised before the first event. Leave through ``contextlib.aclosing``, which
        cancels what still runs.

        Raises:
            ServingError: as :meth:`complete`.
        """
        rows = await self._rows(request)
        if len(rows) > 1:
            async with aclosing(self._merged(request, rows)) as pairs:
                async for pair in pairs:
                    yield pair
            return
        async with aclosing(self._told(request, 0, rows[0])) as events:
            async for event in events:
                yield 0, event

    async def _told(self, request: TextRequest, index: int, row: Row) -> AsyncGenerator[TokenEvent, None]:
        if isinstance(row, GenerationResult):
            yield whole(row)
            return
        try:
            async with aclosing(stream(self.engine, row)) as events:  # type: ignore[type-var]
                async for event in events:
                    yield event
        except InvalidRequest as error:
            raise _worded(error, request, index // request.samples) from None
        finally:
            self.called = time.monotonic()

    async def _merged(self, request: TextRequest, rows: list[Row]) -> AsyncGenerator[tuple[int, TokenEvent], None]:
        # All submit in this turn of the loop, before an event can arrive, and before what needs no engine is told: so a
        # refusal of all is always first in the queue.
        queue: asyncio.Queue[tuple[int, TokenEvent | Exception]] = asyncio.Queue()

        async def pump(index: int, row: Row) -> None:
            try:
                async with aclosing(self._told(request, index, row)) as events:
                    async for event in events:
                        queue.put_nowait((index, event))
            except Exception as error:
                queue.put_nowait((index, error))

        order = sorted(enumerate(rows), key=lambda pair: isinstance(pair[1], GenerationResult))
        tasks = [asyncio.ensure_future(pump(index, row)) for index, row in order]
        left = len(tasks)
        held: list[tuple[int, TokenEvent]] | None = []  # errors, until another text is told something
        try:
            while left:
                index, event = await queue.get()
                if isinstance(event, Exception):
                    if isinstance(event, Overloaded) or not isinstance(event, ServingError):
                        raise event
                    event = whole(failed(event, request.logprobs))
                left -= event.finish_reason is not None
                error = event.result.error if event.result is not None else None
                if error is not None and held is not None:
                    held.append((index, event))
                    continue
                for pair in held or ():
                    yield pair
                held = None
                if error is not None:
                    self.metrics.refused(reason(error))
                yield index, event
            if held is not None:
                _one_answered([event.result for _, event in sorted(held) if event.result is not None])
        finally:
            for task in tasks:
                task.cancel()

    async def _rows(self, request: TextRequest) -> list[Row]:
        if self.closed:
            raise ShuttingDown("the server is shutting down; send the request to another one")
        parameters = read_parameters(request.parameters)
        self._check_samples(request, parameters)
        self._check_logprobs(request, parameters)
        fields = {**parameters.sampling, "deadline": time.monotonic() + self.config.request_timeout}
        if request.logprobs is not None:
            fields["logprobs"] = request.logprobs
        if sum([len(text) for text in request.texts if isinstance(text, str)]) > THREAD_CHARS:
            loop = asyncio.get_running_loop()
            rows = await loop.run_in_executor(self._tokenizing, self._decide, request, parameters, fields)
        else:
            rows = self._decide(request, parameters, fields)
        if request.samples == 1:
            return rows
        drawn: list[Row] = []
        for row in rows:
            drawn += row.samples(request.samples) if isinstance(row, GenerationRequest) else [row] * request.samples
        return drawn

    def _check_samples(self, request: TextRequest, parameters: Parameters) -> None:
        samples, name = request.samples, request.name("n")
        if not 1 <= samples <= MAX_SAMPLES:
            raise InvalidRequest(name, f"must be between 1 and {MAX_SAMPLES}, not {samples}")
        if samples == 1:
            return
        if parameters.sampling.get("beams", 1) != 1:
            raise InvalidRequest(name, f"beam search gives one text; leave out {request.name('beams')} to draw several")
        if not parameters.sampling.get("temperature"):
            raise InvalidRequest(name, "greedy gives one and the same text; set a temperature above 0")
        if samples * len(request.texts) > self.config.max_prompts:
            total = f"{samples} texts for each of {len(request.texts)} prompts"
            raise InvalidRequest(name, f"{total} exceed the {self.config.max_prompts} that one request may ask for")

    def _check_logprobs(self, request: TextRequest, parameters: Parameters) -> None:
        """An answer may be a thousand times larger than its request; it is held in memory until it is read."""
        if request.logprobs is None:
            return
        longest = self.bundle.limits["max_new_tokens"]
        tokens = min(parameters.sampling.get("max_tokens", DEFAULT_MAX_TOKENS), longest)
        texts, limit = len(request.texts) * request.samples, self.config.max_logprobs
        total = texts * tokens * (1 + request.logprobs)
        if total > limit:
            product = f"{texts} texts x {request.name('max_tokens')} {tokens} x (1 + {request.logprobs}) = {total}"
            raise InvalidRequest(
                request.name("logprobs"), f"{product} log-probabilities exceed the {limit} of one request; send several"
            )

    def _decide(self, request: TextRequest, parameters: Parameters, fields: dict[str, Any]) -> list[Row]:
        """What becomes of each text. A single one is checked by the engine, its fault is the call's.

        Raises:
            InvalidRequest: when no text can be taken, with the first one's error, or no text could be.
        """
        texts = request.texts
        alone = len(texts) == 1
        translation = self.bundle.task == "translation"
        rows: list[Row] = []
        for index, text in enumerate(texts):
            try:
                if isinstance(text, InvalidRequest):
                    raise text
                if translation and not has_letters(text):
                    rows.append(unchanged(text, request.logprobs))
                    continue
                row = self._request(request, parameters, fields, self._prompt(text, parameters))
                if not alone:
                    check_request(row, self.engine.limits)
                rows.append(row)
            except InvalidRequest as error:
                rows.append(failed(_worded(error, request, index), request.logprobs))
        if not alone or isinstance(rows[0], GenerationResult):
            self._check_call(request, parameters, fields)
        _one_answered([row for row in rows if isinstance(row, GenerationResult)], len(rows))
        return rows

    def _check_call(self, request: TextRequest, parameters: Parameters, fields: dict[str, Any]) -> None:
        """Refuse what would be wrong with any text."""
        target = self.bundle.languages[0] if self.bundle.task == "translation" else None
        try:
            least = self.engine.prompt("", target=parameters.target or target, author=parameters.author)
            check_request(self._request(request, parameters, fields, least), self.engine.limits)
        except InvalidRequest as error:
            raise InvalidRequest(request.name(error.field), error.message) from None

    def _request(
        self, request: TextRequest, parameters: Parameters, fields: dict[str, Any], prompt: list[int]
    ) -> GenerationRequest:
        wanted = GenerationRequest(prompt, **fields)
        if request.fit and wanted.max_tokens is not None:
            room = self.engine.limits.room(len(prompt))
            wanted = replace(wanted, max_tokens=min(wanted.max_tokens, max(room, 1)))
        return wanted

    def _prompt(self, text: str, parameters: Parameters) -> list[int]:
        limit = self.bundle.limits["max_prompt_tokens"]
        longest = CHARS_PER_TOKEN * limit
        if len(text) > longest:
            raise InvalidRequest("text", f"has {len(text)} characters, more than {longest}; split the text")
        prompt = self.engine.prompt(text, target=parameters.target, author=parameters.author)
        if len(prompt) > limit:
            raise InvalidRequest("text", f"has {len(prompt)} tokens, this model takes at most {limit}; split the text")
        return prompt

    def stats(self) -> dict[str, Any]:
        """The engine's figures, and those of the readers."""
        return {**self.engine.stats(), **self.readers.stats()}

    def describe(self) -> dict[str, Any]:
        """What is served: facts of the bundle's manifest, and how the engine runs it."""
        bundle = self.bundle
        return {
            "name": self.config.model_name,
            "family": bundle.family,
            "task": bundle.task,
            "precision": bundle.precision,
            "languages": list(bundle.languages),
            "authors": list(bundle.authors),
            "provider": self.engine.provider,
        }


def reason(error: BaseException) -> str:
    """The label under which an error is counted."""
    return type(error).__name__ if isinstance(error, ServingError) else "InternalError"


def _worded(error: InvalidRequest, request: TextRequest, index: int) -> InvalidRequest:
    """A refusal of text ``index`` with the caller's name for the field."""
    if error.field not in ("text", "prompt"):
        return InvalidRequest(request.name(error.field), error.message)
    name = request.name("text")
    return InvalidRequest(name if len(request.texts) == 1 else f"{name}[{index}]", error.message)


def _one_answered(outcomes: list[GenerationResult], count: int = 0) -> None:
    """Raise the first error when there is nothing else among the ``count`` (or all) outcomes of a call."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if len(errors) == (count or len(outcomes)):
        raise errors[0]
