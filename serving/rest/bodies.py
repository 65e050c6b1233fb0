"""Bodies of requests: read within their limits, decompressed, and taken for a JSON object.

wanted = read_request(await json_body(request, service.config))
"""

import asyncio
import codecs
import json
import zlib
from typing import Any

import orjson
from starlette.requests import Request

from serving.config import ServerConfig
from serving.errors import BodyTooLarge, BodyTooSlow, InvalidRequest

# A client that sends too much hears why only if its body is read to the end; up to this many times the limit it is.
DRAIN = 64


async def json_body(request: Request, config: ServerConfig) -> dict[str, Any]:
    """The request's body, a JSON object; raises as :func:`read_body` and :func:`read_json`."""
    return read_json(await read_body(request, config))


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
    encoding = json.detect_encoding(body)
    if not encoding.startswith("utf-8"):
        raise InvalidRequest("body", f"is {encoding[:6].upper()}; send the JSON in UTF-8")
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
