"""The outermost layer of REST: the access token, bodies within limits, errors in words, one log line per request.

Pure ASGI, because Starlette's BaseHTTPMiddleware costs more than our routes. KServe's own handlers answer 422 for
malformed JSON, leak ``Type : message`` of unexpected exceptions, and close the connection after a 500; nothing reaches
them from here. Our own addresses are known in full, as there is one model, so a call finds its route in one dictionary
and never walks through the list of all of them.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.auth import Token
from serving.config import ServerConfig
from serving.errors import BodyTooLarge, BodyTooSlow, InvalidRequest, ServingError
from serving.logs import request_line
from serving.metrics import Metrics
from serving.rest.errors import error_response
from serving.service import reason

log = logging.getLogger("serving.edge")
CLIENT_CLOSED = 499  # nginx's number; only ever seen in the log
# A client that sends too much hears why only if its body is read to the end; up to this many times the limit it is.
DRAIN = 64
# Probes and scrapes: not logged, and open to callers without a token.
PROBES = ("/health", "/v2/health/", "/v1/health", "/openai/health", "/metrics")

Endpoint = Callable[[Request], Awaitable[Response]]
Direct = dict[tuple[str, str], tuple[dict[str, str], Endpoint]]


class Edge:
    """ASGI middleware around KServe's application.

    Args:
        direct: (method, path) of our own addresses -> path parameters and endpoint.
        token: what callers must send; None when the server is open.
        public: further paths that need no token.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        direct: Direct,
        token: Token | None,
        public: frozenset[str],
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.direct = direct
        self.token = token
        self.public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        method, path = scope["method"], scope["path"]
        probe = path.startswith(PROBES)
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self.token is not None and not probe and path not in self.public:
                self.token.check(_header(scope, b"authorization"))
            found = self.direct.get((method, path))
            if found is None:
                # What is left is KServe's, which answers GET alone; the server itself leaves out the body of a HEAD.
                await self.app({**scope, "method": "GET"} if method == "HEAD" else scope, receive, observed)
            else:
                scope["path_params"], endpoint = found
                response = await endpoint(Request(scope, receive))
                await response(scope, receive, observed)
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
            if not isinstance(error, ServingError):
                log.exception("%s %s failed", method, path[:200])
            self.metrics.refused(reason(error))
            scope["serving.error"] = reason(error)
            if status:  # too late for another answer
                raise
            await error_response(error, path)(scope, receive, observed)
        finally:
            if not probe:
                seconds = time.perf_counter() - started
                request_line("http", f"{method} {path[:200]}", status, seconds, _outcomes(scope), _error(scope))


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == wanted), None)


async def read_body(request: Request, config: ServerConfig) -> bytes:
    """The whole request body, decompressed.

    Raises:
        BodyTooLarge: after the rest of the body was read and dropped, so that the caller gets to see the answer.
        BodyTooSlow: when it is not there in time.
        InvalidRequest: when the body is not what Content-Encoding says.
    """
    limit = config.max_body_bytes
    size = 0
    parts = []
    too_large = BodyTooLarge(f"body: larger than {limit} bytes; split the request")
    if int_header(request, "content-length") > limit and request.headers.get("expect", "").lower() == "100-continue":
        raise too_large
    try:
        async with asyncio.timeout(config.receive_timeout):
            async for part in request.stream():
                size += len(part)
                if size <= limit:
                    parts.append(part)
                elif size > limit * DRAIN:
                    break
    except TimeoutError:
        raise BodyTooSlow(f"body: not complete after {config.receive_timeout:g} seconds") from None
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
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body.strip():
        raise InvalidRequest("body", "is empty; send a JSON object")
    if encoding := _other_encoding(body):
        raise InvalidRequest("body", f"is {encoding}; send the JSON in UTF-8")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("body", f"is not valid UTF-8 JSON (line {error.lineno}, column {error.colno})") from None
    if not isinstance(value, dict):
        raise InvalidRequest("body", f"must be a JSON object, not {type(value).__name__}")
    return value


def _other_encoding(body: bytes) -> str:
    """UTF-16 or UTF-32, by its mark or by the zeros in what begins as JSON does: with one character of ASCII."""
    if body.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    zeros = body[:4].count(0)
    if zeros == 3:
        return "UTF-32"
    return "UTF-16" if zeros or body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else ""


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


def _outcomes(scope: Scope) -> list:
    """What a call's generations came to: whole results, or the last events of a stream. Taken out of the scope, which
    lives as long as its connection is idle.
    """
    events = scope.pop("serving.events", None)
    if events is None:
        return scope.pop("serving.results", [])
    return [event.result or event for event in events.values()]


def _error(scope: Scope) -> str:
    return scope.get("serving.error", "")


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
    if unpacker.unused_data:
        raise InvalidRequest("body", f"goes on after its {encoding} stream; send one stream")
    return unpacked
