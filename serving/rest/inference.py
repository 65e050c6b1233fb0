"""The v2 inference protocol over REST: JSON and binary tensors, output selection, ids, versions.

KServe's own route is replaced because it answers 422 and 500 to malformed input, 501 to every version, refuses JSON
without a Content-Type (which tritonclient does not send), and closes the connection after an error of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.engine import GenerationResult
from serving.errors import InvalidRequest, NotFound, shown
from serving.kserve.predictor import Predictor
from serving.parameters import flag
from serving.rest.errors import json_response
from serving.rest.middleware import cancelled_when_client_leaves, int_header, read_body, read_json
from serving.v2 import (
    INPUT,
    OUTPUTS,
    VERSION,
    Call,
    check_hints,
    check_input,
    check_inputs,
    check_model,
    check_outputs,
    decode_text,
    output_values,
    pack,
    row_errors,
    unpack_bytes,
)

JSON_LENGTH = "inference-header-content-length"
PREFIXES = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")


def routes(predictor: Predictor) -> list[Route]:
    """The v2 addresses that name a model, with and without a version, and the server's metadata."""
    config = predictor.service.config

    async def infer(request: Request) -> Response:
        find_model(request, predictor.name)
        body = await read_body(request, config)
        call = read_call(body, int_header(request, JSON_LENGTH, len(body)), config.max_prompts)
        async with cancelled_when_client_leaves(request):
            results = await predictor.predict(call)
        request.scope["serving.results"] = results
        return write_response(predictor.name, call, results)

    async def model_metadata(request: Request) -> Response:
        find_model(request, predictor.name)
        return json_response(predictor.metadata())

    async def model_ready(request: Request) -> Response:
        find_model(request, predictor.name)
        ready = predictor.service.ready
        return json_response({"name": predictor.name, "ready": ready}, 200 if ready else 503)

    async def server_metadata(request: Request) -> Response:
        return json_response(predictor.server_metadata())

    async def closed(request: Request) -> Response:
        raise NotFound(f"protocol v1 is not served; POST /v2/models/{predictor.name}/infer or /generate")

    return [
        *(Route(f"{prefix}/infer", infer, methods=["POST"]) for prefix in PREFIXES),
        *(Route(f"{prefix}/ready", model_ready) for prefix in PREFIXES),
        *(Route(prefix, model_metadata) for prefix in PREFIXES),
        Route("/v2", server_metadata),
        Route("/v2/", server_metadata),
        Route("/v1/models/{verb}", closed, methods=["POST"]),
    ]


def find_model(request: Request, served: str) -> None:
    """Refuse an address that names another model or version than the one served.

    Raises:
        NotFound: naming it.
    """
    check_model(request.path_params["name"], request.path_params.get("version", ""), served)


def read_call(body: bytes, json_length: int, max_prompts: int) -> Call:
    """Read a v2 request: JSON of ``json_length`` bytes, then the binary tensors it announces.

    Raises:
        InvalidRequest: naming the field.
    """
    if json_length > len(body):
        raise InvalidRequest("Inference-Header-Content-Length", f"says {json_length} bytes, the body has {len(body)}")
    request = read_json(body[:json_length])
    request_id = request.get("id")
    if not isinstance(request_id, str | None):
        raise InvalidRequest("id", f"must be a string, not {type(request_id).__name__}")
    parameters = _object(request, "parameters")
    binary_default = flag("binary_data_output", parameters.get("binary_data_output", False))
    inputs = _objects(request, "inputs")
    check_inputs([tensor["name"] for tensor in inputs])
    texts = _texts(inputs[0], body[json_length:], max_prompts)
    asked = _objects(request, "outputs") if request.get("outputs") is not None else []
    outputs = check_outputs([output["name"] for output in asked])
    binary = dict.fromkeys(outputs, binary_default)
    for output in asked:
        check_hints("outputs", _object(output, "parameters"))
        binary[output["name"]] = flag("binary_data", _object(output, "parameters").get("binary_data", binary_default))
    return Call(request_id or uuid.uuid4().hex, texts, parameters, outputs, binary)


def write_response(model_name: str, call: Call, results: Sequence[GenerationResult]) -> Response:
    """The answer: JSON, followed by the tensors that were asked for as binary."""
    values = output_values(results)
    outputs = []
    tail = []
    for name in call.outputs:
        tensor: dict[str, Any] = {"name": name, "datatype": OUTPUTS[name], "shape": [len(values[name])]}
        if call.binary.get(name):
            raw = pack(values[name])
            tensor["parameters"] = {"binary_data_size": len(raw)}
            tail.append(raw)
        else:
            tensor["data"] = values[name]
        outputs.append(tensor)
    answer: dict[str, Any] = {"model_name": model_name, "model_version": VERSION, "id": call.id, "outputs": outputs}
    if errors := row_errors(results):
        answer["parameters"] = errors
    head = orjson.dumps(answer)
    if not tail:
        return Response(head, media_type="application/json")
    return Response(b"".join((head, *tail)), 200, {JSON_LENGTH: str(len(head))}, "application/octet-stream")


def _texts(tensor: dict[str, Any], tail: bytes, max_prompts: int) -> list[str | InvalidRequest]:
    for field in ("datatype", "shape"):
        if field not in tensor:
            raise InvalidRequest(INPUT, f"{field} is missing")
    if not isinstance(tensor["shape"], list):
        raise InvalidRequest(INPUT, f"shape must be [N], not {type(tensor['shape']).__name__}")
    count = check_input(tensor["datatype"], tensor["shape"], max_prompts)
    hints = _object(tensor, "parameters")
    check_hints("inputs", hints)
    size = hints.get("binary_data_size")
    data = tensor.get("data")
    if size is None:
        if not isinstance(data, list):
            raise InvalidRequest(INPUT, "data must be a list of strings, or binary_data_size must announce binary data")
        if tail:
            raise InvalidRequest("body", f"{len(tail)} bytes follow the JSON, no input announces them")
        return decode_text(data, count)
    if data is not None:
        raise InvalidRequest(INPUT, "data and binary_data_size are both set; send one of them")
    if isinstance(size, bool) or not isinstance(size, int) or size != len(tail):
        raise InvalidRequest(INPUT, f"binary_data_size is {shown(size)}, {len(tail)} bytes follow the JSON")
    return decode_text(unpack_bytes(tail, count), count)


def _object(parent: dict[str, Any], name: str) -> dict[str, Any]:
    value = parent.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(name, f"must be a JSON object, not {type(value).__name__}")
    return value


def _objects(parent: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = parent.get(name)
    if not isinstance(value, list):
        raise InvalidRequest(name, "is missing" if value is None else f"must be a list, not {type(value).__name__}")
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise InvalidRequest(name, "must hold JSON objects with a name, which is a string")
    return value
