"""Answers that arrive token by token: server-sent events, for every protocol of REST that streams.

Nothing is sent until the first event is there, so a full queue, a bad field or a deadline still get a status of their
own; what fails later becomes the stream's last event. A client that leaves ends its generation within a step.

    return EventStream(request, events(), service.metrics)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.engine import TokenEvent
from serving.errors import ServingError, reason
from serving.metrics import Metrics
from serving.rest.errors import EVENT_STREAM, error_event
from serving.rest.requests import cancelled_when_client_leaves
from serving.service import TextService
from serving.texts import TextRequest

log = logging.getLogger("serving.sse")
HEADERS = [
    (b"content-type", f"{EVENT_STREAM}; charset=utf-8".encode()),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would collect the tokens and send them together
]

Events = AsyncGenerator[tuple[int, TokenEvent], None]  # (index of the text, event)


def sse(content: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(content) + b"\n\n"


async def stream_events(request: Request, service: TextService, wanted: TextRequest) -> Events:
    """``service.stream``, with the outcome of each text so far kept for the log line."""
    outcomes = request.scope["serving.outcomes"] = {}
    async with aclosing(service.stream(wanted)) as events:
        async for index, event in events:
            outcomes[index] = event.result or event
            yield index, event


class EventStream(Response):
    """A streamed answer.

    Args:
        chunks: the events as bytes; the first is awaited before the headers are sent.
    """

    def __init__(self, request: Request, chunks: AsyncGenerator[bytes, None], metrics: Metrics) -> None:
        self._request, self._chunks, self._metrics = request, chunks, metrics
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer.

        Raises:
            ServingError: before the first event, for the middleware to answer.
        """
        async with aclosing(self._chunks) as chunks, cancelled_when_client_leaves(self._request):
            chunk = await anext(chunks)
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            try:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                async for chunk in chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except asyncio.CancelledError:
                raise
            except Exception as error:
                if not isinstance(error, ServingError):
                    log.exception("%s failed in the middle of its stream", scope["path"][:200])
                self._metrics.refused(reason(error))
                scope["serving.error"] = reason(error)
                last = error_event(error, scope["path"])
                await send({"type": "http.response.body", "body": last, "more_body": True})
        # Out of the block that watches the connection: to the server, an answer sent in full is a client gone.
        await send({"type": "http.response.body", "body": b"", "more_body": False})
