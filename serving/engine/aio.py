"""The engine for asyncio: events cross from the engine thread into the caller's event loop.

One wake-up of a loop carries the events of all its requests: waking a loop costs a system call and a struggle for the
interpreter lock, and 64 streams would otherwise pay for it 64 times in every step.

    async for event in stream(engine, request): print(event.text, end="")
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator
from functools import partial

from serving.engine.engine import Engine
from serving.engine.generation import GenerationRequest, GenerationResult, TokenEvent


class _Mailbox:
    """Events on their way into one event loop, with the queue that each goes to."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._events: deque[tuple[asyncio.Queue[TokenEvent], TokenEvent]] = deque()
        self._scheduled = False

    def post(self, queue: asyncio.Queue[TokenEvent], event: TokenEvent) -> None:
        """Have an event put into a queue of the loop; from any thread."""
        self._events.append((queue, event))
        if not self._scheduled:
            self._scheduled = True
            loop = self._loop()
            if loop is not None and not loop.is_closed():
                loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # Cleared first: an event posted from here on schedules the next delivery itself.
        self._scheduled = False
        while self._events:
            queue, event = self._events.popleft()
            queue.put_nowait(event)


_mailboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Mailbox] = weakref.WeakKeyDictionary()


async def stream(engine: Engine, request: GenerationRequest, whole: bool = False) -> AsyncIterator[TokenEvent]:
    """Events of one request, the last of which carries its result; only that one when the text is wanted ``whole``.

    Cancelling the task that awaits it cancels the request, and so does ``aclose()``; an early ``break`` alone does not
    close an asynchronous generator at once, so leave through ``contextlib.aclosing``.

    Raises:
        ServingError: at the border, or when the request ends by an error.
    """
    loop = asyncio.get_running_loop()
    box = _mailboxes.get(loop) or _mailboxes.setdefault(loop, _Mailbox(loop))
    events: asyncio.Queue[TokenEvent] = asyncio.Queue()
    cancel = engine.submit(request, partial(box.post, events), stream=not whole)
    result = None
    try:
        while result is None:
            event = await events.get()
            result = event.result
            if result is not None and result.error is not None:
                raise result.error
            yield event
    finally:
        if result is None:
            cancel()


async def generate(engine: Engine, request: GenerationRequest) -> GenerationResult:
    """The whole result of one request, otherwise like :func:`stream`."""
    (last,) = [event async for event in stream(engine, request, whole=True)]
    assert last.result is not None
    return last.result
