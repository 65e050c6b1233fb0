"""Answers of REST: whole, or token by token as server-sent events; and errors as each protocol wants them.

Of a stream nothing is sent until the first event is there, so a full queue, a bad field or a deadline still get a
status of their own; what fails later becomes the stream's last event. A client that leaves ends its generation within a
step: KServe does this for gRPC only.

    results = await complete(request, service, wanted)
    return EventStream(request, service, wanted, chunks)

An error is the same sentence and, but for what a protocol has a status of its own for, the same status:

==========================================  ===========================================================
address                                     answer
==========================================  ===========================================================
``/v1/*``, ``/openai/*``                    ``{"error": {"message", "type", "param", "code"}}``
``/v2/models/{m}/.../generate[_stream]``    ``{"error": sentence}``, bad input is 422 as their spec says
LibreTranslate's                            ``{"error": sentence}``, no token is 400, a wrong one 403
DeepL's                                     ``{"message": sentence}``, no or a wrong token is 403
everything else                             ``{"error": sentence}``
==========================================  ===========================================================
"""

import asyncio
import difflib
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from serving.engine import GenerationResult
from serving.errors import BodyTooSlow, DeadlineExceeded, InvalidRequest, ModelNotFound, NotFound, Unauthorized, public
from serving.rest.operations import Operation
from serving.service import Events, TextService
from serving.texts import TextRequest

log = logging.getLogger("serving.sse")
Chunks = Callable[[Events], AsyncGenerator[bytes, None]]
EVENT_STREAM = "text/event-stream"
HEADERS = [
    (b"content-type", f"{EVENT_STREAM}; charset=utf-8".encode()),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would collect the tokens and send them together
]
OPENAI = ("/v1/", "/openai/")
LIBRETRANSLATE = ("/translate", "/detect", "/translate_file")
DEEPL = ("/v2/translate", "/v2/languages", "/v2/usage")
V1_PROTOCOL = re.compile("/v1/models/[^/]+:")  # KServe's, whose verbs follow a colon
SERVED = "OpenAI's API is at /v1, the Open Inference protocol at /v2, our own at /generate; /docs tells all addresses"
OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
OPENAI_CODES = {401: "invalid_api_key", 413: "request_too_large", 429: "overloaded", 503: "shutting_down"}


def sse(content: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(content) + b"\n\n"


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response(orjson.dumps(content), status, headers, "application/json")


async def complete(request: Request, service: TextService, wanted: TextRequest) -> list[GenerationResult]:
    """``service.complete`` until the client leaves; its results are kept for the log line."""
    async with _cancelled_when_client_leaves(request):
        results = await service.complete(wanted)
    outcomes = request.scope.setdefault("serving.outcomes", {})
    outcomes.update(enumerate(results, len(outcomes)))  # a door may ask more than once
    return results


class EventStream(Response):
    """A streamed answer.

    Args:
        chunks: makes the answer's events, as bytes, from those of ``service.stream``.
    """

    def __init__(self, request: Request, service: TextService, wanted: TextRequest, chunks: Chunks) -> None:
        self._request, self._service, self._wanted, self._chunks = request, service, wanted, chunks

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


def error_response(error: Exception, path: str) -> Response:
    """The answer for an error at an address; unexpected ones say nothing of themselves."""
    error = public(error)
    status = error.status
    headers = {}
    if status in (429, 503):
        headers["retry-after"] = "1"
    if isinstance(error, BodyTooSlow):
        headers["connection"] = "close"  # or the rest of the body would keep it open for ever
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = "Bearer"
        if path in (*LIBRETRANSLATE, *DEEPL):
            status = 400 if error.missing and path in LIBRETRANSLATE else 403
    if path.startswith("/v2/models/") and path.endswith(("/generate", "/generate_stream")):
        # What the Open Inference generate spec has for an error; for what it does not foresee, ours.
        status = 422 if isinstance(error, InvalidRequest) else 424 if isinstance(error, DeadlineExceeded) else status
        if path.endswith("_stream"):
            return Response(error_event(error, path), status, headers, EVENT_STREAM)
    return json_response(error_body(error, path), status, headers)


def error_body(error: Exception, path: str) -> dict[str, Any]:
    """The JSON object for an error at an address."""
    error = public(error)
    if path in DEEPL:
        return {"message": str(error)}
    if not path.startswith(OPENAI) or V1_PROTOCOL.match(path):
        return {"error": str(error)}
    kind = OPENAI_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    param = error.field.split("[")[0] if isinstance(error, InvalidRequest | ModelNotFound) else None
    code = "model_not_found" if isinstance(error, ModelNotFound) else OPENAI_CODES.get(error.status)
    return {"error": {"message": str(error), "type": kind, "param": param, "code": code}}


def error_event(error: Exception, path: str) -> bytes:
    """The event that ends a stream which cannot go on."""
    return sse(error_body(error, path))


def near_addresses(path: str, routes: Iterable[BaseRoute]) -> list[str]:
    """Addresses that may have been meant: with another beginning, as clients' base addresses differ, or misspelt."""
    answered = (route for route in routes if isinstance(route, Operation) and not route.closed)
    known = sorted({route.path for route in answered if "{" not in route.path} - {"/", "/v2/"}, key=len)
    path = path.rstrip("/")
    ends = [one for one in known if one.endswith(path) or path.endswith(one)] if path else []
    return ends[-2:] or difflib.get_close_matches(path, known, 2, 0.75)


async def http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own refusals (no such path, wrong method) in the address's error format."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    path, method = request.url.path[:200], request.method
    headers = getattr(error, "headers", None)
    text = HTTPStatus(status).phrase
    if status == 404:
        near = " or ".join(near_addresses(path, request.app.routes))
        text = f"no such address: {path}; {f'did you mean {near}?' if near else SERVED}"
    elif status == 405:
        # Starlette names the methods of one route; an address may have several.
        found = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
        allowed = {method for route in found for method in getattr(route, "methods", None) or ()}
        allowed.update(filter(None, (headers or {}).get("Allow", "").split(", ")))
        allowed |= {"HEAD"} if "GET" in allowed else set()
        headers = {"allow": ", ".join(sorted(allowed))}
        text = f"{method} is not answered at {path}; send {' or '.join(sorted(allowed - {'HEAD'}))}"
    refusal = NotFound(text)
    refusal.status = status
    return json_response(error_body(refusal, path), status, headers)
