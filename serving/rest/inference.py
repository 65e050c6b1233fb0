"""The v2 inference protocol over REST: JSON and binary tensors, output selection, ids, versions.

KServe's own route is replaced because it answers 422 and 500 to malformed input, 501 to every version, refuses JSON
without a Content-Type (which tritonclient does not send), and closes the connection after an error of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving import v2
from serving.engine import GenerationResult
from serving.errors import InvalidRequest, NotFound, PermissionDenied
from serving.rest.answers import complete
from serving.rest.bodies import int_header, read_body, read_json
from serving.rest.errors import json_response
from serving.service import TextService

JSON_LENGTH = "inference-header-content-length"
PREFIXES = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")


def routes(service: TextService) -> list[Route]:
    """The v2 addresses that name a model, with and without a version, and the server's metadata."""
    config = service.config

    async def infer(request: Request) -> Response:
        find_model(request, config.model_name)
        body = await read_body(request, config)
        wanted = read_infer(body, int_header(request, JSON_LENGTH, len(body)), config.max_prompts)
        return write_response(config.model_name, wanted, await complete(request, service, wanted.generation))

    async def model_metadata(request: Request) -> Response:
        find_model(request, config.model_name)
        return json_response(v2.model_metadata(service))

    async def model_ready(request: Request) -> Response:
        find_model(request, config.model_name)
        return json_response({"name": config.model_name, "ready": service.ready}, 200 if service.ready else 503)

    async def server_metadata(request: Request) -> Response:
        return json_response(v2.server_metadata())

    async def repository(request: Request) -> Response:
        # By default anyone who can reach the port could take the model away.
        raise PermissionDenied("the repository API is closed on this server")

    async def protocol_v1(request: Request) -> Response:
        raise NotFound(f"protocol v1 is not served; POST /v2/models/{config.model_name}/infer or /generate")

    return [
        *(Route(f"{prefix}/infer", infer, methods=["POST"]) for prefix in PREFIXES),
        *(Route(f"{prefix}/ready", model_ready) for prefix in PREFIXES),
        *(Route(prefix, model_metadata) for prefix in PREFIXES),
        Route("/v2", server_metadata),
        Route("/v2/", server_metadata),
        *(Route(f"/v2/repository/models/{{name}}/{verb}", repository, methods=["POST"]) for verb in ("load", "unload")),
        Route("/v1/models/{verb}", protocol_v1, methods=["POST"]),
    ]


def find_model(request: Request, served: str) -> None:
    """Refuse an address that names another model or version than the one served.

    Raises:
        NotFound: naming it.
    """
    v2.check_model(request.path_params["name"], request.path_params.get("version", ""), served)


def read_infer(body: bytes, json_length: int, max_prompts: int) -> v2.InferRequest:
    """Read a request: JSON of ``json_length`` bytes, then the binary tensors that it announces.

    Raises:
        InvalidRequest: naming the field.
    """
    if json_length > len(body):
        raise InvalidRequest("Inference-Header-Content-Length", f"says {json_length} bytes, the body has {len(body)}")
    return v2.read_request(read_json(body[:json_length]), body[json_length:], max_prompts)


def write_response(model_name: str, request: v2.InferRequest, results: Sequence[GenerationResult]) -> Response:
    """The answer: JSON, followed by the tensors that were asked for as binary."""
    values = v2.output_values(results)
    outputs = []
    tail = []
    for name, binary in request.outputs.items():
        tensor: dict[str, Any] = {"name": name, "datatype": v2.OUTPUTS[name], "shape": [len(results)]}
        if binary:
            tail.append(v2.pack(values[name]))
            tensor["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            tensor["data"] = values[name]
        outputs.append(tensor)
    answer: dict[str, Any] = {
        "model_name": model_name,
        "model_version": v2.VERSION,
        "id": request.id,
        "outputs": outputs,
    }
    if errors := v2.element_errors(results):
        answer["parameters"] = errors
    head = orjson.dumps(answer)
    if not tail:
        return Response(head, media_type="application/json")
    return Response(b"".join((head, *tail)), 200, {JSON_LENGTH: str(len(head))}, "application/octet-stream")
