"""The outermost layer of REST: bodies within limits, errors as ``{"error": sentence}``, one log line per request.

Pure ASGI, because Starlette's BaseHTTPMiddleware costs more than our routes. KServe's own handlers answer 422 for
malformed JSON, leak ``Type : message`` of unexpected exceptions, and close the connection after a 500; nothing reaches
them from here.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import InvalidRequest, ServingError
from serving.logs import request_line
from serving.metrics import Metrics
from serving.sdk import GrpcException
from serving.service import reason

log = logging.getLogger("serving.edge")
CLIENT_CLOSED = 499  # nginx's number; only ever seen in the log
# A client that sends too much hears why only if its body is read to the end; up to this many times the limit it is.
DRAIN = 64
QUIET = ("/health", "/v2/health", "/metrics")


class BodyTooLarge(ServingError):
    """The request body is over the limit."""

    status = 413
    code = "RESOURCE_EXHAUSTED"


class NotFound(ServingError):
    """The address names something that is not here."""

    status = 404
    code = "NOT_FOUND"


class Edge:
    """ASGI middleware around KServe's application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, observed)
        except asyncio.CancelledError:
            if not scope.get("serving.gone"):
                raise
            status = CLIENT_CLOSED
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        except ClientDisconnect:  # in the middle of the body
            status = CLIENT_CLOSED
        except Exception as error:
            if not isinstance(error, ServingError | GrpcException):
                log.exception("%s %s failed", scope["method"], scope["path"][:200])
            self.metrics.refused(reason(error))
            if status:  # too late for another answer
                raise
            await error_response(error)(scope, receive, observed)
        finally:
            if not scope["path"].startswith(QUIET):
                route = f"{scope['method']} {scope['path'][:200]}"
                request_line("http", route, status, time.perf_counter() - started, scope.get("serving.results", ()))


def error_response(error: Exception) -> Response:
    """The JSON answer for an error; unexpected ones say nothing of themselves."""
    if isinstance(error, ServingError):
        return json_response(
            {"error": str(error)}, error.status, {"retry-after": "1"} if error.status in (429, 503) else None
        )
    if (
        isinstance(error, GrpcException)
        and error.status_code is not None
        and error.status_string == "PERMISSION_DENIED"
    ):
        return json_response({"error": error.details}, 403)
    return json_response({"error": "internal error; the server's log says more"}, 500)


async def http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own refusals (no such path, wrong method) in the protocol's error format."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    path, method = request.url.path[:200], request.method
    text = {404: f"no such address: {path}", 405: f"{method} is not answered at {path}"}.get(
        status, HTTPStatus(status).phrase
    )
    return json_response({"error": text}, status, getattr(error, "headers", None))


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response(orjson.dumps(content), status, headers, "application/json")


async def read_body(request: Request, limit: int) -> bytes:
    """The whole request body, decompressed, of at most ``limit`` bytes.

    Raises:
        BodyTooLarge: after the rest of the body was read and dropped, so that the caller gets to see the answer.
        InvalidRequest: when the body is not what Content-Encoding says.
    """
    size = 0
    parts = []
    too_large = BodyTooLarge(f"body: larger than {limit} bytes; split the request")
    if int_header(request, "content-length") > limit and request.headers.get("expect", "").lower() == "100-continue":
        raise too_large
    async for part in request.stream():
        size += len(part)
        if size <= limit:
            parts.append(part)
        elif size > limit * DRAIN:
            break
    if size > limit:
        raise too_large
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    encoding = request.headers.get("content-encoding", "identity").lower()
    return body if encoding == "identity" else _decompress(body, encoding, limit, too_large)


def read_json(body: bytes) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        InvalidRequest: naming ``body``.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("body", f"is not valid UTF-8 JSON (line {error.lineno}, column {error.colno})") from None
    if not isinstance(value, dict):
        raise InvalidRequest("body", f"must be a JSON object, not {type(value).__name__}")
    return value


def int_header(request: Request, name: str, missing: int = 0) -> int:
    """A header that holds a length.

    Raises:
        InvalidRequest: naming the header.
    """
    text = request.headers.get(name)
    if text is None:
        return missing
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidRequest(name, f"must be a number of bytes, not {text[:32]!r}")
    return int(text)


@asynccontextmanager
async def cancelled_when_client_leaves(request: Request) -> AsyncIterator[None]:
    """Cancel the body of this block when the connection closes. The request's body must have been read before.

    Without it a generation runs to its end for nobody: KServe does this for gRPC only.
    """
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


def _decompress(body: bytes, encoding: str, limit: int, too_large: BodyTooLarge) -> bytes:
    if encoding not in ("gzip", "deflate"):
        raise InvalidRequest("content-encoding", f"{encoding[:32]!r} is not understood; send identity, gzip or deflate")
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        unpacked = unpacker.decompress(body, limit + 1)
    except zlib.error:
        raise InvalidRequest("body", f"is not {encoding}, as Content-Encoding says") from None
    if len(unpacked) > limit:
        raise too_large
    if not unpacker.eof:
        raise InvalidRequest("body", f"ends before its {encoding} stream does")
    return unpacked
