"""/openapi.json of the real server process is true: it tells every address, and what it tells is what is checked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator
from kserve.model_repository import ModelRepository
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer

from model.bundle import Bundle
from serving.config import ServerConfig
from serving.engine import Engine, EngineConfig
from serving.metrics import CollectorRegistry, Metrics
from serving.rest import register
from serving.rest.operations import Operation
from serving.service import TextService
from tests.helpers.servers import TOKEN, Server

LENGTHS = ("max_tokens", "max_length", "max_completion_tokens")  # one thing by three names
JSON, FORM = "application/json", "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    return server.get("/openapi.json").json()


def every(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, address and operation of each."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The same, but for addresses that are others' again."""
    for method, path, operation in every(document):
        if not path.startswith("/openai/") and "/versions/" not in path:
            yield method, path, operation


def bodies(document: dict[str, Any], kind: str = JSON) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Address, schema and example of each body of a media type."""
    for _, path, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get(kind)
        if content and "example" in content:
            yield path, content["schema"], content["example"]


def values(schema: dict[str, Any]) -> list[Any]:
    """Values that a schema allows."""
    if "enum" in schema:
        return schema["enum"]
    if "examples" in schema:
        return schema["examples"]
    if "anyOf" in schema:
        return [value for one in schema["anyOf"] for value in values(one)]
    by_type = {"string": ["a"], "boolean": [True, False], "array": [[]], "object": [{}]}
    number = [schema[bound] for bound in ("minimum",) if bound in schema] or [schema.get("maximum")]
    return by_type.get(schema.get("type", ""), number if "type" in schema else [5, "a", [], {}])


def wrong(schema: dict[str, Any]) -> list[Any]:
    """Values that a schema forbids, of the kinds that people send."""
    candidates = ["", -6, 11, 1.5, True, [1], {"a": 1}]
    return [value for value in candidates if not Draft202012Validator(schema).is_valid(value)]


def test_it_is_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    for _, schema, example in bodies(document):
        Draft202012Validator.check_schema(schema)
        Draft202012Validator(schema).validate(example)
    tags = {tag["name"] for tag in document["tags"]}
    for method, path, operation in operations(document):
        assert operation["summary"].endswith(".") and set(operation["tags"]) <= tags, (method, path)


def test_every_address_of_the_application_is_told(document: dict[str, Any], tiny: Any) -> None:
    """KServe's, too: each is told as it is, or one of ours with the same address comes before it."""
    config = ServerConfig(bundle=str(tiny))
    with Engine(Bundle.load(tiny), EngineConfig(slots=1, threads=1)) as engine:
        service = TextService(engine, config, Metrics("m", CollectorRegistry()))
        app = FastAPI()
        app.router.routes.clear()
        register(app, service)
    models = ModelRepository()
    plane = DataPlane(model_registry=models)
    RESTServer("x", plane, ModelRepositoryExtension(models), 1)._register_endpoints(app)
    told = {(method, re.sub(r"\{\w+\}", "[^/]+", path)) for method, path, _ in every(document)}
    own = [(method, route.path) for route in app.routes if isinstance(route, Operation) for method in route.methods]
    theirs = [(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods]
    assert len(own) > 40 and len(theirs) > 10
    for method, address in own + theirs:
        path = re.sub(r"\{\w*version\w*\}", "1", address)
        path = re.sub(r"\{(model_name|name|model)(:path)?\}(?!:)", "prometheus-mini", path)
        path = re.sub(r"\{\w+\}", "x", path)
        assert method == "HEAD" or any(method == one and re.fullmatch(two, path) for one, two in told), (
            method,
            address,
        )


def test_every_address_answers_as_it_is_told(client: httpx.Client, document: dict[str, Any]) -> None:
    for method, path, operation in every(document):
        if "/download_file" in path:
            continue
        content = operation.get("requestBody", {}).get("content", {})
        for kind, body in content.items() or [("", {})]:
            if content and "example" not in body:
                continue
            if kind.startswith("multipart"):
                pairs = [
                    (name, given if isinstance(given, list) else [given]) for name, given in body["example"].items()
                ]
                sent = {"files": [(name, (None, one)) for name, given in pairs for one in given]}
            else:
                sent = {"json" if kind == JSON else "data": body["example"]} if body else {}
            answer = client.request(method, path.replace("{verb}", "x:predict"), **sent)
            assert str(answer.status_code) in operation["responses"], (path, answer.text)
            told = operation["responses"][str(answer.status_code)].get("content", {JSON: {}})
            assert answer.headers["content-type"].split(";")[0] in told, path
            assert (answer.status_code != 200) == (operation["tags"] == ["Closed"]), (path, answer.text)


def varied(schema: dict[str, Any], example: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The example with each field that may be there, with each value of its; answers are kept short."""
    for name, field in schema["properties"].items():
        if "properties" in field and name in example:
            yield from ({**example, name: inner} for inner in varied(field, example[name]))
        elif name not in schema.get("required", ()):
            short = {"max_tokens": 2} if "max_tokens" in schema["properties"] and name not in LENGTHS else {}
            yield from ({**example, **short, name: value} for value in values(field))


def test_every_field_that_is_told_is_taken(client: httpx.Client, document: dict[str, Any]) -> None:
    taken = 0
    for path, schema, example in bodies(document):
        for body in varied(schema, example):
            answer = client.post(path, json=body)
            assert answer.status_code == 200, (path, body, answer.text)
            taken += 1
    assert taken > 200


def test_a_value_that_is_not_told_is_refused(client: httpx.Client, document: dict[str, Any]) -> None:
    for path, schema, example in bodies(document):
        for name, field in schema["properties"].items():
            for value in wrong(field):
                answer = client.post(path, json={**example, name: value})
                told = f"{path} {name}={value!r}: {answer.text[:300]}"
                assert answer.status_code in (400, 404, 422), told
                if answer.status_code in (400, 422):
                    named = [name.split("_")[0], *(value if isinstance(value, dict) else ())]
                    assert any(word in answer.text for word in named), told


def test_a_field_that_is_not_told_is_refused(client: httpx.Client, document: dict[str, Any]) -> None:
    for kind in (JSON, FORM):
        for path, schema, example in bodies(document, kind):
            sent = [{**example, "nonsense": "1"}]
            if "parameters" in schema["properties"] and "properties" in schema["properties"]["parameters"]:
                sent.append({**example, "parameters": {"nonsense": "1"}})
            for body in sent:
                answer = client.post(path, **{"json" if kind == JSON else "data": body})
                assert answer.status_code in (400, 422) and "nonsense: " in answer.text, (path, answer.text)


def test_what_is_missing_is_refused(client: httpx.Client, document: dict[str, Any]) -> None:
    for path, schema, example in bodies(document):
        for name in schema.get("required", ()):
            body = {given: value for given, value in example.items() if given != name}
            answer = client.post(path, json=body)
            assert answer.status_code in (400, 422) and f"{name}: " in answer.text, (path, name, answer.text)


def test_a_token_is_told_where_it_is_asked_for(guarded: Server) -> None:
    assert guarded.get("/openapi.json").status_code == 401
    headers = {"authorization": f"Bearer {TOKEN}"}
    document = httpx.get(f"{guarded.url}/openapi.json", headers=headers, verify=False).json()
    for method, path, operation in every(document):
        if method == "GET" and "{" not in path:
            refused = guarded.get(path).status_code in (401, 403)
            assert refused == bool(operation.get("security")), path
