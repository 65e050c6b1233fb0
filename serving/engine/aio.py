"""The engine for asyncio: events cross from the engine thread into the caller's event loop.

One wake-up of a loop carries the events of all its requests: waking a loop costs a system call and a struggle for the
interpreter lock, and 64 streams would otherwise pay for it 64 times in every step.

    async for event in stream(engine, request): print(event.text, end="")
"""

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial

from serving.engine.engine import Engine
from serving.engine.generation import GenerationRequest, GenerationResult, TokenEvent
from serving.engine.request import OnEvent


class _Mailbox:
    """Calls with events, waiting to be made in one event loop."""

    def __init__(self) -> None:
        self._calls: deque[tuple[OnEvent, TokenEvent]] = deque()
        self._scheduled = False

    def post(self, loop: asyncio.AbstractEventLoop, call: OnEvent, event: TokenEvent) -> None:
        """Have ``call(event)`` made in the loop; from any thread."""
        self._calls.append((call, event))
        if not self._scheduled:
            self._scheduled = True
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # Cleared first: a call posted from here on schedules the next delivery itself.
        self._scheduled = False
        while self._calls:
            call, event = self._calls.popleft()
            call(event)


_mailboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Mailbox] = weakref.WeakKeyDictionary()


def _into_loop(on_event: OnEvent) -> OnEvent:
    """What an engine may call from its thread to have ``on_event`` called in the running loop."""
    loop = asyncio.get_running_loop()
    box = _mailboxes.get(loop) or _mailboxes.setdefault(loop, _Mailbox())
    return partial(box.post, loop, on_event)


class Generation:
    """A request in the engine, submitted at once, and its events in order.

    Args:
        stream, bounded: as of :meth:`Engine.submit`.

    Attributes:
        ended: whether its last event, which carries its result, has been handed out.

    Raises:
        ServingError: at the border.
    """

    def __init__(
        self, engine: Engine, request: GenerationRequest, *, stream: bool = True, bounded: bool = True
    ) -> None:
        self.ended = False
        self._events: asyncio.Queue[TokenEvent] = asyncio.Queue()
        on_event = _into_loop(self._events.put_nowait)
        self._cancel = engine.submit(request, on_event, stream=stream, bounded=bounded)

    async def event(self) -> TokenEvent:
        """The next one.

        Raises:
            ServingError: when the request has ended by an error.
        """
        event = await self._events.get()
        if event.result is not None:
            self.ended = True
            if event.result.error is not None:
                raise event.result.error
        return event

    def cancel(self) -> None:
        """End it, if it has not ended."""
        if not self.ended:
            self._cancel()


async def stream(engine: Engine, request: GenerationRequest) -> AsyncGenerator[TokenEvent, None]:
    """Events of one request, the last of which carries its result.

    Cancelling the task that awaits it cancels the request, and so does ``aclose()``; an early ``break`` alone does not
    close an asynchronous generator at once, so leave through ``contextlib.aclosing``.

    Raises:
        ServingError: at the border, or when the request ends by an error.
    """
    generation = Generation(engine, request)
    try:
        while not generation.ended:
            yield await generation.event()
    finally:
        generation.cancel()


async def generate(engine: Engine, request: GenerationRequest) -> GenerationResult:
    """The whole result of one request, otherwise like :func:`stream`."""
    (result,) = await generate_all(engine, [request])
    if result.error is not None:
        raise result.error
    return result


async def generate_all(engine: Engine, requests: Sequence[GenerationRequest]) -> list[GenerationResult]:
    """The whole results of several requests, in their order; all are submitted at once, and wake the loop once.

    Cancelling the task that awaits it cancels them.

    Raises:
        ServingError: at the border, where those before the refused one are cancelled. Afterwards a result has its own.
    """
    if not requests:
        return []
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    results: dict[int, GenerationResult] = {}

    def deliver(_: TokenEvent) -> None:
        if not done.done():
            done.set_result(None)

    tell = _into_loop(deliver)

    def take(index: int, last: TokenEvent) -> None:  # in the engine's thread
        assert last.result is not None  # only last events come without streaming
        results[index] = last.result
        if len(results) == len(requests):
            tell(last)

    cancels: list[Callable[[], None]] = []
    try:
        for index, request in enumerate(requests):
            cancels.append(engine.submit(request, partial(take, index), stream=False))
        await done
    except BaseException:
        for cancel in cancels:
            cancel()
        raise
    return [results[index] for index in range(len(requests))]
