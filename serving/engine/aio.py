"""The engine for asyncio: events cross from the engine thread into the caller's event loop.

One wake-up of a loop carries the events of all its requests: waking a loop costs a system call and a struggle for the
interpreter lock, and 64 streams would otherwise pay for it 64 times in every step.

    async for event in stream(engine, request): print(event.text, end="")
"""

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable
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


def _submit(
    engine: Engine, request: GenerationRequest, on_event: OnEvent, stream: bool, bounded: bool = True
) -> Callable[[], None]:
    """Submit a request whose events come into the running loop."""
    loop = asyncio.get_running_loop()
    box = _mailboxes.get(loop) or _mailboxes.setdefault(loop, _Mailbox())
    return engine.submit(request, partial(box.post, loop, on_event), stream=stream, bounded=bounded)


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
        self._cancel = _submit(engine, request, self._events.put_nowait, stream, bounded)

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
    done: asyncio.Future[GenerationResult | None] = asyncio.get_running_loop().create_future()

    def deliver(last: TokenEvent) -> None:
        if not done.cancelled():
            done.set_result(last.result)

    cancel = _submit(engine, request, deliver, stream=False)
    try:
        result = await done
    except asyncio.CancelledError:
        cancel()
        raise
    assert result is not None  # only last events come without streaming
    if result.error is not None:
        raise result.error
    return result
