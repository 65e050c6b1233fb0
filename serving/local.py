"""A bundle in this process: what a program, a notebook or a terminal calls where there is no server.

Calls go through the :class:`TextService` of all protocols, so a text is cleaned, cut into sentences, generated and put
together again in one way only. The service's event loop has a thread of its own: a call may come from any thread and
from any other event loop, a notebook's included.

    from prometheus_mini import load

    with load("runs/latest/bundle") as model:
        print(model.translate("Этот рис такой сладкий!", to="en"))
"""

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import aclosing, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, Unpack

from model.bundle import Bundle
from model.settings import MAX, from_dict
from model.tokenizer.vocabulary import TokenizerError, normalize
from serving.config import ServerConfig
from serving.engine import Engine, EngineConfig, TokenEvent
from serving.errors import InvalidRequest, ServingError, ShuttingDown
from serving.lists import PLACES, Lists
from serving.service import TextService
from serving.texts import MAX_SAMPLES, TextRequest, prepare

# No text is refused for a full queue: it holds all samples of the texts that have a place, and later pieces beside.
QUEUE = 2 * PLACES * MAX_SAMPLES
# Who shares a process needs no protection from itself: the server's limits on a request do not hold.
NO_LIMITS = ServerConfig(max_chars=MAX, max_prompts=MAX, request_timeout=1e6)
NAMES = {"target": "to", "n": "alternatives"}

T = TypeVar("T")


class Options(TypedDict, total=False):
    """How to generate: docs/serving.md tells what each means, its range and its default.

    ``alternatives`` is how many texts are drawn for each; they come as a list, and need a ``temperature`` above 0.
    """

    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    frequency_penalty: float
    seed: int
    beams: int
    length_penalty: float
    stop: str | list[str]
    ignore_eos: bool
    author: str
    source: str
    format: Literal["text", "html"]
    glossary: dict[str, str] | list[tuple[str, str]]
    split: bool
    alternatives: int


def load(
    bundle: str | Path,
    *,
    slots: int = 64,
    threads: int = 1,
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto",
) -> "Model":
    """Load a bundle, a directory that a run has published.

    Args:
        slots, threads, provider: dials of the engine, see :class:`EngineConfig`.

    Raises:
        BundleError: when the directory is not a bundle, or has been altered.
        ConfigError: for a dial out of its range.
        EngineFailed: when the bundle does not run on this machine.
    """
    dials = {"slots": slots, "threads": threads, "provider": provider, "queue": QUEUE}
    config = from_dict(EngineConfig, dials, "load")
    return Model(Engine(Bundle.load(bundle), config).start())


class Model:
    """A loaded bundle: :meth:`translate` or, for a model of running text, :meth:`complete`, and their streams.

    A text gives a string, several texts give a list in their order; with ``alternatives`` there is a list of strings in
    place of each string. Texts of one call are generated side by side, as are the calls of several threads or tasks. A
    call that is interrupted or cancelled ends its generations.

    All calls raise ServingError: InvalidRequest, which names the field at fault and what it may be; ShuttingDown when
    the model is closed; EngineFailed when it has to be loaded again.

    Args:
        engine: started; it is closed with the model.

    Attributes:
        bundle: what is loaded: its task, languages, limits and scores.
    """

    def __init__(self, engine: Engine) -> None:
        self.bundle = engine.bundle
        self._engine = engine
        self._service = TextService(engine, NO_LIMITS, _Uncounted())
        self._lists = Lists(self._service)
        self._closing = threading.Lock()
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run, args=[self._loop], name="texts", daemon=True)
        self._thread.start()
        # Also when nobody has the model any more, and when Python exits.
        self._end = weakref.finalize(self, _end, engine, self._loop, self._process)

    def translate(self, text: str | Iterable[str], to: str | None = None, **options: Unpack[Options]) -> Any:
        """The translation of a text, or of each text of a list.

        Args:
            to: language to translate into; by the text's script when left out.
        """
        return self._wait(self._answers("translation", text, to, options))

    def complete(self, text: str | Iterable[str], **options: Unpack[Options]) -> Any:
        """How a text goes on, or each text of a list; without the text itself."""
        return self._wait(self._answers("text", text, None, options))

    def stream(self, text: str, to: str | None = None, **options: Unpack[Options]) -> Iterator[str]:
        """The translation of a text, or how it goes on, in pieces as they come."""
        with closing(self.events(text, to, **options)) as events:
            yield from (event.text for event in events if event.text)

    def events(self, text: str, to: str | None = None, **options: Unpack[Options]) -> Generator[TokenEvent, None, None]:
        """Like :meth:`stream` with all there is to know: the last event has the result, with tokens and seconds."""
        events = self._events(text, to, options)
        try:
            while (event := self._wait(anext(events, None))) is not None:
                yield event
        finally:
            with suppress(ShuttingDown):
                self._wait(events.aclose())

    async def atranslate(self, text: str | Iterable[str], to: str | None = None, **options: Unpack[Options]) -> Any:
        """:meth:`translate` for asyncio."""
        return await self._here(self._answers("translation", text, to, options))

    async def acomplete(self, text: str | Iterable[str], **options: Unpack[Options]) -> Any:
        """:meth:`complete` for asyncio."""
        return await self._here(self._answers("text", text, None, options))

    async def astream(self, text: str, to: str | None = None, **options: Unpack[Options]) -> AsyncIterator[str]:
        """:meth:`stream` for asyncio; leave it early through ``contextlib.aclosing``."""
        events = self._events(text, to, options)
        try:
            while (event := await self._here(anext(events, None))) is not None:
                if event.text:
                    yield event.text
        finally:
            with suppress(ShuttingDown):
                await self._here(events.aclose())

    def check(self, to: str | None = None, **options: Unpack[Options]) -> None:
        """Refuse options that no text could be generated with.

        Raises:
            InvalidRequest: naming the first one.
        """
        prepare(self._request(["", ""], to, options), self._engine, NO_LIMITS)

    def close(self) -> None:
        """Free what the model holds; calls that are still running end by ShuttingDown."""
        with self._closing:
            self._end()
        if os.getpid() == self._process:
            self._thread.join()

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        bundle = self.bundle
        does = "-".join(bundle.languages) if bundle.task == "translation" else bundle.task
        return f"<Model {bundle.path}: {does}, {bundle.precision}>"

    async def _answers(self, task: str, text: str | Iterable[str], to: str | None, options: Options) -> Any:
        """The answer to a text, or to each of several."""
        if task != self.bundle.task:
            other = "translate" if task == "text" else "complete"
            raise InvalidRequest("bundle", f"{self.bundle.path} is a model for {self.bundle.task}: call {other}()")
        if not isinstance(text, Iterable):
            raise InvalidRequest("text", f"must be a string or a list of strings, not {type(text).__name__}")
        make = partial(self._request, to=to, options=options)
        if isinstance(text, str):
            found = [await self._lists.one(_checked(text), make)]
        else:
            found = await self._lists.all([_checked(one, index) for index, one in enumerate(text)], make)
        answers: list[Any] = found if "alternatives" in options else [one[0] for one in found]
        return answers[0] if isinstance(text, str) else answers

    async def _events(self, text: str, to: str | None, options: Options) -> AsyncGenerator[TokenEvent, None]:
        request = self._request([_checked(text)], to, options)
        if request.samples > 1:
            raise InvalidRequest("alternatives", "one text can be streamed; leave it out, or do not stream")
        async with aclosing(self._service.stream(request)) as events:
            async for _, event in events:
                yield event

    def _request(self, texts: list[str], to: str | None, options: Options) -> TextRequest:
        parameters: dict[str, Any] = {"target": to, **options}
        samples = parameters.pop("alternatives", 1)
        if not isinstance(samples, int):
            raise InvalidRequest("alternatives", f"must be an integer, not {type(samples).__name__}")
        return TextRequest(texts, parameters, samples, names=NAMES)

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        """What a call in the service's loop returns; an interruption ends it."""
        future = self._submit(call)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _here(self, call: Coroutine[Any, Any, T]) -> T:
        """The same for a caller in another event loop."""
        return await asyncio.wrap_future(self._submit(call))

    def _submit(self, call: Coroutine[Any, Any, T]) -> "Future[T]":
        error = None
        with self._closing:
            if os.getpid() != self._process:
                error = ServingError("the model was loaded before this process was forked; load it in each process")
            elif not self._end.alive:
                error = ShuttingDown("the model has been closed; load it again")
            else:
                return asyncio.run_coroutine_threadsafe(call, self._loop)
        call.close()
        raise error


class _Uncounted:
    """Metrics that nobody reads."""

    def refused(self, reason: str) -> None:
        """A call was answered with an error."""


def _checked(text: Any, index: int | None = None) -> str:
    where = "text" if index is None else f"text[{index}]"
    if not isinstance(text, str):
        raise InvalidRequest(where, f"must be a string, not {type(text).__name__}")
    try:
        normalize(text)  # cutting it into sentences comes before its normal form, and takes no half of a character
    except TokenizerError as error:
        raise InvalidRequest(where, str(error)) from None
    return text


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


def _end(engine: Engine, loop: asyncio.AbstractEventLoop, process: int) -> None:
    """End every generation, then the loop, from any thread; a forked process has neither thread."""
    if os.getpid() == process:
        engine.close(drain=False)
        asyncio.run_coroutine_threadsafe(_stop(), loop)


async def _stop() -> None:
    """Stop the loop when all calls that still run have heard of their end."""
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)
    await loop.shutdown_asyncgens()
    loop.stop()
