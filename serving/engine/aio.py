"""The engine for asyncio: events cross from the engine thread into the caller's event loop.

One wake-up of a loop carries the events of all its requests: waking a loop costs a system call and a struggle for the
interpreter lock, and 64 streams would otherwise pay for it 64 times in every step.

    async for event in stream(engine, request): print(event.text, end="")
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from serving.engine.engine import Engine
from serving.engine.generation import GenerationRequest, GenerationResult, TokenEvent


class _Mailbox:
    """Calls waiting to be made in one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._calls: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._scheduled = False

    def post(self, call: Callable[[Any], None], value: Any) -> None:
        """Have ``call(value)`` made in the loop; from any thread."""
        self._calls.append((call, value))
        if not self._scheduled:
            self._scheduled = True
            loop = self._loop()
            if loop is not None and not loop.is_closed():
                loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # Cleared first: a call posted from here on schedules the next delivery itself.
        self._scheduled = False
        while self._calls:
            call, value = self._calls.popleft()
            call(value)


_mailboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Mailbox] = weakref.WeakKeyDictionary()


def _mailbox() -> _Mailbox:
    loop = asyncio.get_running_loop()
    box = _mailboxes.get(loop)
    if box is None:
        box = _mailboxes[loop] = _Mailbox(loop)
    return box


async def stream(engine: Engine, request: GenerationRequest) -> AsyncIterator[TokenEvent]:
    """Events of one request, the last of which carries its result.

    Cancelling the task that awaits it cancels the request, and so does ``aclose()``; an early ``break`` alone does not
    close an asynchronous generator at once, so leave through ``contextlib.aclosing``.

    Raises:
        ServingError: at the border, or when the request ends by an error.
    """
    box = _mailbox()
    events: asyncio.Queue[TokenEvent] = asyncio.Queue()
    handle = engine.submit(request, lambda event: box.post(events.put_nowait, event))
    last = None
    try:
        while last is None:
            event = await events.get()
            if event.finish_reason is not None:
                last = event
            if event.result is not None and event.result.error is not None:
                raise event.result.error
            yield event
    finally:
        if last is None:
            handle.cancel()


async def generate(engine: Engine, request: GenerationRequest) -> GenerationResult:
    """The whole result of one request; cancelling the awaiting task cancels the request.

    Raises:
        ServingError: at the border, or when the request ends by an error.
    """
    box = _mailbox()
    done: asyncio.Future[TokenEvent] = asyncio.get_running_loop().create_future()

    def deliver(event: TokenEvent) -> None:
        if not done.done():
            done.set_result(event)

    handle = engine.submit(request, lambda event: box.post(deliver, event), stream=False)
    try:
        event = await done
    except asyncio.CancelledError:
        handle.cancel()
        raise
    assert event.result is not None  # only last events come without streaming
    if event.result.error is not None:
        raise event.result.error
    return event.result
