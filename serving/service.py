"""The core call that every protocol adapter makes: texts and raw parameters in, generations out, whole or as they come.

Adapters translate messages and nothing else; limits, deadlines, draining, each text's outcome and the words of an error
are decided here and in ``texts.py``, so they cannot differ between v2, ``/generate``, the Open Inference generate
routes and OpenAI's.

    results = await service.complete(TextRequest(["Привет!"], {"target": "en"}))
    async with aclosing(service.stream(TextRequest(["Привет!"], {"target": "en"}))) as events: ...
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from itertools import chain
from typing import Any, Protocol, TypeVar

from model.text.detect import load as load_detector
from serving.config import ServerConfig
from serving.engine import Engine, GenerationRequest, GenerationResult, TokenEvent
from serving.engine.aio import generate, generate_all, stream
from serving.errors import InvalidRequest, Overloaded, ServingError, public
from serving.pieces import CutText, tell
from serving.readers import Readers
from serving.texts import Prepared, TextRequest, failed, prepare, whole
from serving.ways import NO_TERMS, Terms

# Above this many characters in a call, tokenizing leaves the event loop, which has other requests to answer. It goes to
# one thread for all calls: more would only fight with the loop for the interpreter.
THREAD_CHARS = 2_000

T = TypeVar("T")
Events = AsyncGenerator[tuple[int, TokenEvent], None]  # (index of the text, event)


class Refusals(Protocol):
    """What counts the calls that are not answered, the server's metrics for one."""

    def refused(self, reason: str) -> None:
        """A call was answered with an error."""


class TextService:
    """One bundle behind one engine, ready to be called from the event loop."""

    def __init__(self, engine: Engine, config: ServerConfig, metrics: Refusals, terms: Terms = NO_TERMS) -> None:
        self.terms = terms
        self.engine = engine
        self.bundle = engine.bundle
        self.config = config
        self.metrics = metrics
        self.readers = Readers(config.max_unread_bytes)
        self.warm = False
        self.draining = False  # told to leave: not ready, and answering what still comes
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
        load_detector(self.bundle.languages)
        prompt = self.engine.prompt("Warm-up.", target=target)
        results = self.engine.generate([GenerationRequest(prompt, max_tokens=4) for _ in range(2)])
        for result in results:
            if result.error:
                raise result.error
        self.warm = True

    async def complete(self, request: TextRequest) -> list[GenerationResult]:
        """Generate to the end: an outcome for each text, by the bundle's own beams where the request names none.

        Cancelling this call cancels its generations.

        Raises:
            ServingError: when none of its texts can be answered, with the first one's error; when the call itself is in
                fault, or the queue too full for all of it.
        """
        texts = await self._prepare(request, self.engine.default_beams)
        if len(texts) == 1:
            return [await self._generate(request, 0, texts[0])]
        # Those of one request each are awaited together: a task and an event each would wake the loop in every step.
        found = {index: text for index, text in enumerate(texts) if isinstance(text, GenerationResult)}
        single = {index: text for index, text in enumerate(texts) if isinstance(text, GenerationRequest)}
        cut = {index: text for index, text in enumerate(texts) if isinstance(text, CutText)}
        calls = [self._outcome(request, index, text) for index, text in cut.items()]
        try:
            ends = await together([generate_all(self.engine, list(single.values())), *calls])
        finally:
            self.called = time.monotonic()
        found |= zip([*single, *cut], chain.from_iterable(ends), strict=True)
        results = [found[index] for index in range(len(texts))]
        results = [one if one.error is None else failed(one.error, request.logprobs) for one in results]
        errors = [result.error for result in results if result.error is not None]
        if len(errors) == len(results):
            raise errors[0]
        for error in errors:
            self.metrics.refused(type(error).__name__)
        return results

    async def stream(self, request: TextRequest) -> Events:
        """Generate step by step: (index of the text, event), each text's last event carrying its result.

        Greedy unless the request names beams, whatever the bundle's default: of a beam search nothing is final, and so
        nothing is told, before its end.

        Refusals, a full queue included, are raised before the first event. Leave through ``contextlib.aclosing``, which
        cancels what still runs.

        Raises:
            ServingError: as :meth:`complete`.
        """
        texts = await self._prepare(request)
        if len(texts) == 1:
            async with aclosing(self._events(request, 0, texts[0])) as events:
                async for event in events:
                    yield 0, event
            return
        async with aclosing(self._several(request, texts)) as pairs:
            async for pair in pairs:
                yield pair

    async def _several(self, request: TextRequest, texts: list[Prepared]) -> Events:
        """The events of all texts; errors of single ones wait until another text has an event."""
        # What needs no engine comes last: a refusal by the engine then always precedes it.
        order = sorted(range(len(texts)), key=lambda index: isinstance(texts[index], GenerationResult))
        failures: dict[int, ServingError] = {}
        begun = False
        async with aclosing(merged({i: self._events(request, i, texts[i]) for i in order})) as pairs:
            async for index, item in pairs:
                if isinstance(item, TokenEvent):
                    begun = True
                elif isinstance(item, Overloaded) or not isinstance(item, ServingError):
                    raise item  # all of the call's: a moment later a full queue may take all of it
                else:
                    failures[index] = item
                if not begun:
                    continue
                for of, error in failures.items():
                    self.metrics.refused(type(error).__name__)
                    yield of, whole(failed(error, request.logprobs))
                failures.clear()
                if isinstance(item, TokenEvent):
                    yield index, item
        if failures:
            raise failures[min(failures)]

    async def _events(self, request: TextRequest, index: int, text: Prepared) -> AsyncGenerator[TokenEvent, None]:
        """The events of one text."""
        if isinstance(text, GenerationResult):
            yield whole(await self._generate(request, index, text))
            return
        try:
            async with aclosing(self._told(text)) as events:
                async for event in events:
                    yield event
        except InvalidRequest as error:
            raise request.worded(error, index // request.samples) from None
        finally:
            self.called = time.monotonic()

    async def _outcome(self, request: TextRequest, index: int, text: Prepared) -> list[GenerationResult]:
        """The result of one text of several, with its error where it has one.

        Raises:
            Overloaded: it is all of the call's: a moment later the queue may take all of it.
        """
        try:
            return [await self._generate(request, index, text)]
        except Overloaded:
            raise
        except ServingError as error:
            return [failed(error)]

    async def _generate(self, request: TextRequest, index: int, text: Prepared) -> GenerationResult:
        if isinstance(text, GenerationResult):
            if text.error is not None:
                raise text.error
            return text
        try:
            if isinstance(text, GenerationRequest):
                return await generate(self.engine, text)
            async with aclosing(self._told(text, steps=False)) as events:
                async for event in events:
                    if event.result is not None:
                        return event.result
            raise AssertionError("the last event has the result")
        except InvalidRequest as error:
            raise request.worded(error, index // request.samples) from None
        finally:
            self.called = time.monotonic()

    def _told(self, text: GenerationRequest | CutText, steps: bool = True) -> AsyncGenerator[TokenEvent, None]:
        """The events of a text that needs the engine."""
        if isinstance(text, CutText):
            return tell(self.engine, text, self._aside, steps)
        return stream(self.engine, text)

    async def _aside(self, call: Callable[[], Any]) -> Any:
        """What the texts of a call need and may take its time."""
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, call)

    async def _prepare(self, request: TextRequest, beams: int = 1) -> list[Prepared]:
        call = partial(prepare, request, self.engine, self.config, self.terms, beams)
        size = sum([len(text) for text in request.texts if isinstance(text, str)])
        return call() if size <= THREAD_CHARS and "glossary" not in request.parameters else await self._aside(call)

    def count_error(self, error: BaseException, call: str, log: logging.Logger) -> str:
        """Count an error that ends a call, log one that nobody foresaw, and return its label; in its ``except``."""
        if not isinstance(error, ServingError):
            log.exception("%s failed", call)
        kind = type(public(error)).__name__
        self.metrics.refused(kind)
        return kind

    def identity(self) -> dict[str, str]:
        """What is live, in words that a label or a property can hold: run, code and manifest's hash, and how it runs.

        A bundle that was never published has neither run nor code: these are empty.
        """
        return {**self.bundle.identity, "precision": self.bundle.precision, "provider": self.engine.provider}

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
            "bundle": bundle.identity,
        }


async def together(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """What the calls return, side by side and begun in their order; the first one that raises ends the others."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def merged(
    streams: Mapping[int, AsyncGenerator[TokenEvent, None]],
) -> AsyncGenerator[tuple[int, TokenEvent | Exception], None]:
    """What the streams yield, as it comes; a stream that raises yields its exception as its last item.

    All are begun in one turn of the event loop and in the given order, before anything is yielded. Closing this
    generator closes them.
    """
    queue: asyncio.Queue[tuple[int, TokenEvent | Exception] | None] = asyncio.Queue()

    async def pump(index: int, stream: AsyncGenerator[TokenEvent, None]) -> None:
        try:
            async with aclosing(stream) as items:
                async for item in items:
                    queue.put_nowait((index, item))
        except Exception as error:
            queue.put_nowait((index, error))
        queue.put_nowait(None)

    tasks = [asyncio.ensure_future(pump(index, stream)) for index, stream in streams.items()]
    left = len(tasks)
    try:
        while left:
            if (found := await queue.get()) is None:
                left -= 1
            else:
                yield found
    finally:
        for task in tasks:
            task.cancel()
