"""``GET /openapi.json``: all addresses as an OpenAPI 3.1 document, made of what answers and checks them.

Of each address its method, what it takes and gives, and a body that is answered; of each field what ``fields.py`` reads
it by. There is one model, so its addresses are told with its name in them.

curl localhost:8080/openapi.json
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from serving.errors import InvalidRequest, Unauthorized
from serving.parameters import AUTO
from serving.rest.answers import error_body, error_response, json_response
from serving.rest.fields import Field, schema_of
from serving.rest.middleware import PROBES
from serving.rest.operations import JSON, Operation
from serving.service import TextService
from serving.v2 import VERSION

PATH = "/openapi.json"
# KServe's own; all others are ours.
THEIRS = {"/v2/models": ("The models that are served.", JSON), "/metrics": ("Metrics for Prometheus.", "text/plain")}
GROUPS = {
    "Ours": r"/generate|/info|/$|/docs|/openapi\.json",
    "OpenAI": "/v1/(completions|chat|models$|models/[^{])|/openai/v1/",
    "LibreTranslate": "/translate|/detect|/languages|/frontend|/download_file",
    "DeepL": "/v2/(translate|languages|usage)",
    "Open Inference Protocol": "/v2",
    "Health and figures": "/health|/v1/health|/openai/health|/metrics",
    "Closed": "",
}
ABOUT = """
Everything that this server answers. Numbers may be sent as texts, null is the same as nothing, and a field that is not
told here is refused by its name. An error is a sentence that says what is wrong, where, and what to do.
"""


def document(service: TextService, routes: Iterable[BaseRoute], token: bool) -> dict[str, Any]:
    """The document for these routes; ``token`` is whether the server asks for one."""
    paths: dict[str, dict[str, Any]] = {}
    values = known_values(service)
    for route in routes:
        if isinstance(route, Operation):
            path = path_of(route, service.config.model_name)
            paths.setdefault(path, {})[route.method.lower()] = _operation(route, path, token, values)
    for path, (about, kind) in THEIRS.items():
        paths[path] = {"get": {**_head(about, path, token), "responses": {"200": _content("An answer.", [kind])}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": service.config.model_name, "version": VERSION, "description": ABOUT.strip()},
        "tags": [{"name": name} for name in GROUPS],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "api_key": {"type": "apiKey", "in": "query", "name": "api_key"},
            }
        },
    }


def path_of(route: Operation, model: str) -> str:
    """A route's address as callers write it."""
    path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
    return path.replace("{model}", model).replace("{version}", VERSION).replace("{name}", model)


def known_values(service: TextService) -> dict[str, list[str]]:
    """Of fields that name something of the model, what there is."""
    languages = list(service.bundle.languages)
    sources, targets = [AUTO, *languages], [*languages]
    found = {"source": sources, "target": targets, "author": list(service.bundle.authors)}
    found |= {"source_lang": languages, "target_lang": targets, "model": [service.config.model_name]}
    return {name: values for name, values in found.items() if values}


def _operation(route: Operation, path: str, token: bool, values: Mapping[str, list[str]]) -> dict[str, Any]:
    asks = token and not route.open
    made = _head(route.about, path, asks, route.closed)
    if route.query or "{" in path:
        made["parameters"] = [*_in_path(path), *_in_query(route.query or {})]
    refusals: list[Exception] = (
        [InvalidRequest("field", "what is wrong with it")] if route.fields or route.query else []
    )
    if "security" in made:
        made["security"] += [{"api_key": []}] * route.keyed
        refusals.append(Unauthorized("authorization: is missing; send it as 'Bearer TOKEN'"))
    if route.fields is not None:
        content: dict[str, Any] = {"schema": _with(values, schema_of(route.fields))}
        if route.example is not None:
            content["example"] = route.example
        made["requestBody"] = {"required": True, "content": dict.fromkeys(route.takes, content)}
    made["responses"] = dict(_refusal(error, path) for error in refusals)
    if route.closed:
        made["responses"][str(route.closed)] = {"description": "Always."}
    else:
        made["responses"]["200"] = _content("An answer.", route.gives)
    return made


def _with(values: Mapping[str, list[str]], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema, and with its fields the values that there are."""
    fields = {
        name: _with(values, {**field, "examples": values[name]} if name in values else field)
        for name, field in schema.get("properties", {}).items()
    }
    return {**schema, "properties": fields} if fields else schema


def _head(about: str, path: str, asks: bool, closed: int = 0) -> dict[str, Any]:
    """What is told of any operation; ``asks`` is whether it asks for the token, unless it is a probe's."""
    group = "Closed" if closed else next(name for name, pattern in GROUPS.items() if re.match(pattern, path))
    security: dict[str, Any] = {"security": [{"token": []}]} if asks and not path.startswith(PROBES) else {}
    return {"summary": about, "tags": [group], **security}


def _content(about: str, kinds: Iterable[str]) -> dict[str, Any]:
    return {"description": about, "content": {kind: {} for kind in kinds}}


def _refusal(error: Exception, path: str) -> tuple[str, dict[str, Any]]:
    """Status of an error at an address, and its body as an example."""
    kinds = {"application/json": {"example": error_body(error, path)}}
    return str(error_response(error, path).status_code), {"description": "A refusal.", "content": kinds}


def _in_path(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _in_query(fields: Mapping[str, Field]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": field.required, "description": field.about, "schema": field.schema}
        for name, field in fields.items()
    ]


def route(made: Mapping[str, Any]) -> Operation:
    """``/openapi.json``."""

    async def show(request: Request) -> Response:
        return json_response(made)

    return Operation("GET", PATH, show, "This document.")
