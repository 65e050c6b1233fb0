"""Answers of the routes that generate: whole, or token by token as server-sent events.

Of a stream nothing is sent until the first event is there, so a full queue, a bad field or a deadline still get a
status of their own; what fails later becomes the stream's last event. A client that leaves ends its generation within a
step: KServe does this for gRPC only.

    results = await complete(request, service, wanted)
    return EventStream(request, service, wanted, chunks)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.engine import GenerationResult
from serving.rest.errors import EVENT_STREAM, error_event
from serving.service import Events, TextService
from serving.texts import TextRequest

log = logging.getLogger("serving.sse")
HEADERS = [
    (b"content-type", f"{EVENT_STREAM}; charset=utf-8".encode()),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would collect the tokens and send them together
]


async def complete(request: Request, service: TextService, wanted: TextRequest) -> list[GenerationResult]:
    """``service.complete`` until the client leaves; its results are kept for the log line."""
    async with _cancelled_when_client_leaves(request):
        results = await service.complete(wanted)
    request.scope["serving.outcomes"] = dict(enumerate(results))
    return results


class EventStream(Response):
    """A streamed answer.

    Args:
        chunks: makes the answer's events, as bytes, from those of ``service.stream``.
    """

    def __init__(
        self,
        request: Request,
        service: TextService,
        wanted: TextRequest,
        chunks: Callable[[Events], AsyncGenerator[bytes, None]],
    ) -> None:
        self._request, self._service, self._wanted, self._chunks = request, service, wanted, chunks
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer.

        Raises:
            ServingError: before the first event, for the middleware to answer.
        """
        async with (
            aclosing(self._events()) as events,
            aclosing(self._chunks(events)) as chunks,
            _cancelled_when_client_leaves(self._request),
        ):
            chunk = await anext(chunks)
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            try:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                async for chunk in chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except asyncio.CancelledError:
                raise
            except Exception as error:
                scope["serving.error"] = self._service.count_error(error, f"the stream of {scope['path'][:200]}", log)
                last = error_event(error, scope["path"])
                await send({"type": "http.response.body", "body": last, "more_body": True})
        # Out of the block that watches the connection: to the server, an answer sent in full is a client gone.
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> Events:
        """``service.stream``, with the outcome of each text so far kept for the log line."""
        outcomes = self._request.scope["serving.outcomes"] = {}
        async with aclosing(self._service.stream(self._wanted)) as events:
            async for index, event in events:
                outcomes[index] = event.result or event
                yield index, event


@asynccontextmanager
async def _cancelled_when_client_leaves(request: Request) -> AsyncIterator[None]:
    """Cancel the body of this block when the connection closes. The request's body must have been read before."""
    task = asyncio.current_task()
    assert task is not None

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        request.scope["serving.gone"] = True
        task.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        watcher.cancel()
