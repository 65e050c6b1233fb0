"""Bodies of the APIs that other services have made known: JSON, a form, or nothing but the address's query.

JSON is known by its brace where the Content-Type does not say so, as curl's does not. A form's values are texts; those
of a field that is true or false are read as such.

fields = await form_fields(request, service.config, FIELDS)
"""

import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serving.config import ServerConfig
from serving.errors import InvalidRequest, shown
from serving.rest.bodies import read_body, read_json
from serving.rest.fields import TEXTS, Field
from serving.rest.operations import JSON

MULTIPART = "multipart/form-data"
FORM = "application/x-www-form-urlencoded"
KINDS = (JSON, FORM, MULTIPART)
MORE_FIELDS = 64  # of a form, beside its texts
TRUTHS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class File:
    """A file of a form."""

    name: str
    content: bytes


async def form_fields(request: Request, config: ServerConfig, known: Mapping[str, Field]) -> dict[str, Any]:
    """What a request says, by its body and its query; a :class:`File` where a form has one.

    Raises:
        InvalidRequest: for a body that is not what its Content-Type says, and a field that is given twice, unless it
            may be a list of texts. BodyTooLarge, BodyTooSlow: as ``read_body`` does.
    """
    body = await read_body(request, config)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    most = config.max_prompts + MORE_FIELDS
    query = list(request.query_params.multi_items())
    if kind == MULTIPART:
        return _read(query + await _multipart(request, body, most), known)
    if kind == JSON or re.match(rb"(\xef\xbb\xbf)?\s*\{", body):
        found, beside = read_json(body), _read(query, known)
        for name in beside.keys() & found.keys():
            raise InvalidRequest(name[:64], "is given in the body and in the address; send it once")
        return {**beside, **found}
    if kind not in ("", FORM) and body:
        raise InvalidRequest("content-type", f"{kind[:64]!r} is not understood; send {JSON}, {FORM} or {MULTIPART}")
    return _read(query + _urlencoded(body, most), known)


def _urlencoded(body: bytes, most: int) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=most)
    except UnicodeDecodeError:
        raise InvalidRequest("body", "is not UTF-8; send the form in UTF-8, its other characters as %XX") from None
    except ValueError:
        raise InvalidRequest("body", f"has more than {most} fields; split the request") from None


async def _multipart(request: Request, body: bytes, most: int) -> list[tuple[str, Any]]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, stream(), max_files=1, max_fields=most, max_part_size=len(body))
    parser.spool_max_size = len(body) + 1  # it is in memory already, and is to be nowhere else
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InvalidRequest("body", f"is no {MULTIPART} that can be read: {error.message[:200]}") from None
    except (KeyError, ValueError, LookupError):  # no boundary, a charset that nobody knows
        raise InvalidRequest("body", f"is no {MULTIPART}: Content-Type must name its boundary") from None
    try:
        return [
            (name, File(value.filename or "", await value.read()) if isinstance(value, UploadFile) else value)
            for name, value in form.multi_items()
        ]
    finally:
        await form.close()


def _read(pairs: list[tuple[str, Any]], known: Mapping[str, Field]) -> dict[str, Any]:
    """The pairs of a form as JSON would have them."""
    found: dict[str, list[Any]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    read: dict[str, Any] = {}
    for name, values in found.items():
        schema = known[name].schema if name in known else {}
        first = values[0]
        if len(values) > 1 and schema != TEXTS:
            raise InvalidRequest(name[:64], f"is given {len(values)} times; send it once")
        if schema.get("type") == "boolean" and first not in TRUTHS:
            raise InvalidRequest(name, f"must be true or false, not {shown(first)}")
        read[name] = values if len(values) > 1 else TRUTHS[first] if schema.get("type") == "boolean" else first
    return read
