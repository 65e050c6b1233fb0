"""The Open Inference Protocol over REST: v2 inference by tensors, JSON and binary, and text generation.

KServe's own routes are replaced because they answer 422 and 500 to malformed input, 501 to every version, refuse JSON
without a Content-Type (which tritonclient does not send), and close the connection after an error of their own.

Generation is by KServe's ``open_inference_generate_rest.yaml``, except for its defaults (temperature 1, 20 tokens):
what a request leaves out is as on all our addresses (serving/parameters.py). ``parameters`` takes ours too, ``target``
first of all.

curl localhost:8080/v2/models/prometheus-mini/generate -d '{"text_input": "Привет!", "parameters": {"target": "en"}}'
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving import v2
from serving.engine import Engine, GenerationResult, TokenEvent, TokenLogprobs
from serving.errors import InvalidRequest, NotFound, PermissionDenied
from serving.parameters import at_least_one_token, check_known, flag, json_object, of_type
from serving.rest.answers import EventStream, complete, json_response, sse
from serving.rest.bodies import int_header, json_body, read_body, read_json
from serving.rest.fields import PARAMETERS, Field, as_it_is, schema_of, truth
from serving.rest.operations import BINARY, EVENTS, JSON, Endpoint, Operation, sample
from serving.service import Events, TextService
from serving.texts import TextRequest

JSON_LENGTH = "inference-header-content-length"
PREFIXES = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
_HEAD = {
    "id": Field("Of the request; the answer has it too.", {"type": "string"}, as_it_is),
    "parameters": Field(
        "What all protocols take.", {"type": "object", "properties": schema_of(PARAMETERS)["properties"]}, as_it_is
    ),
}
_TENSOR = {"name": {"type": "string"}, "parameters": {"type": "object"}}
_INPUT = {
    **_TENSOR,
    "datatype": {"enum": ["BYTES"]},
    "shape": {"type": "array", "items": {"type": "integer"}},
    "data": {"type": "array", "items": {"type": "string"}},
}
INFER = {
    **_HEAD,
    **{name: Field("Taken: the address names the model.", {}, as_it_is) for name in ("model_name", "model_version")},
    "inputs": Field(
        f"One tensor, {v2.INPUT}.", {"type": "array", "items": {"type": "object", "properties": _INPUT}}, as_it_is, True
    ),
    "outputs": Field(
        f"Which of {', '.join(v2.OUTPUTS)}; all when left out.",
        {"type": "array", "items": {"type": "object", "properties": _TENSOR}},
        as_it_is,
    ),
}
_GENERATE = {
    "details": truth("Tell the tokens, and why the text ended."),
    **PARAMETERS,
    "stop": replace(PARAMETERS["stop"], schema={"type": "array", "items": {"type": "string"}}),
}
GENERATE = {
    "text_input": Field("The text to translate, or to continue.", {"type": "string"}, as_it_is, required=True),
    "parameters": Field("What all protocols take, and details.", schema_of(_GENERATE), as_it_is),
}
STRICT = {"temperature": "a number", "top_p": "a number", "max_tokens": "an integer", "stop": "a list of strings"}


def routes(service: TextService) -> list[Route]:
    """The addresses of the model, with and without a version, and those that are closed."""
    config, engine = service.config, service.engine
    model = {"model_name": config.model_name, "model_version": v2.VERSION}
    properties = {**service.identity(), "default_beams": str(engine.default_beams)}

    async def metadata(request: Request) -> Response:
        # The protocol's gRPC messages have no room for properties.
        return json_response({**v2.model_metadata(service), "properties": properties})

    async def ready(request: Request) -> Response:
        return json_response({"name": config.model_name, "ready": service.ready}, 200 if service.ready else 503)

    async def infer(request: Request) -> Response:
        body = await read_body(request, config)
        length = int_header(request, JSON_LENGTH, len(body))
        if length > len(body):
            raise InvalidRequest("Inference-Header-Content-Length", f"says {length} bytes, the body has {len(body)}")
        wanted = v2.read_request(read_json(body[:length]), body[length:], config.max_prompts)
        return infer_response(model, wanted, await complete(request, service, wanted.generation))

    async def generate(request: Request) -> Response:
        wanted = read_generate(await json_body(request, config))
        (result,) = await complete(request, service, wanted)
        answer: dict[str, Any] = {"text_output": result.text, **model, **result.about}
        if wanted.logprobs is not None:
            tokens = [token(engine, one) for one in result.logprobs or []]
            answer["details"] = {"finish_reason": result.finish_reason, "logprobs": tokens}
        return json_response(answer)

    async def generate_stream(request: Request) -> Response:
        wanted = read_generate(await json_body(request, config))
        detailed = wanted.logprobs is not None

        async def chunks(events: Events) -> AsyncGenerator[bytes, None]:
            async for _, event in events:
                about = event.result.about if event.result else {}
                if detailed:
                    yield sse({"text_output": event.text, **details(engine, event), **model, **about})
                elif event.text or event.finish_reason is not None:
                    yield sse({"text_output": event.text, **model, **about})

        return EventStream(request, service, wanted, chunks)

    async def repository(request: Request) -> Response:
        # By default anyone who can reach the port could take the model away.
        raise PermissionDenied("the repository API is closed on this server")

    async def protocol_v1(request: Request) -> Response:
        raise NotFound(f"protocol v1 is not served; POST /v2/models/{config.model_name}/infer or /generate")

    def of_model(path: str, method: str, endpoint: Endpoint, about: str, **known: Any) -> list[Route]:
        """An address of the model; every other model and version is refused by its name."""

        async def checked(request: Request) -> Response:
            v2.check_model(request.path_params["name"], request.path_params.get("version", ""), config.model_name)
            return await endpoint(request)

        return [Operation(method, prefix + path, checked, about, **known) for prefix in PREFIXES]

    words, target = sample(service)
    own = {"parameters": {"target": target} if target else {}}
    tensor = {"name": v2.INPUT, "datatype": "BYTES", "shape": [1], "data": [words]}
    text = {"fields": GENERATE, "example": {"text_input": words, **own}}
    return [
        *of_model("", "GET", metadata, "The model's inputs and outputs, and what is live."),
        *of_model("/ready", "GET", ready, "Whether the model is ready."),
        *of_model(
            "/infer", "POST", infer, "Inference by tensors, as JSON and as binary.",
            fields=INFER, example={"inputs": [tensor], **own}, gives=(JSON, BINARY),
        ),
        *of_model("/generate", "POST", generate, "A text.", **text),
        *of_model("/generate_stream", "POST", generate_stream, "A text, token by token.", gives=(EVENTS,), **text),
        *(
            Operation("POST", f"/v2/repository/models/{{name}}/{verb}", repository, "Closed.", closed=403)
            for verb in ("load", "unload")
        ),
        Operation("POST", "/v1/models/{verb}", protocol_v1, "KServe's first protocol is not served.", closed=404),
    ]  # fmt: skip


def infer_response(model: dict[str, str], request: v2.InferRequest, results: Sequence[GenerationResult]) -> Response:
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
    answer: dict[str, Any] = {**model, "id": request.id, "outputs": outputs}
    if parameters := v2.answer_parameters(results):
        answer["parameters"] = parameters
    head = orjson.dumps(answer)
    if not tail:
        return Response(head, media_type="application/json")
    return Response(b"".join((head, *tail)), 200, {JSON_LENGTH: str(len(head))}, "application/octet-stream")


def read_generate(body: dict[str, Any]) -> TextRequest:
    """Read a GenerateRequest.

    Raises:
        InvalidRequest: naming the field.
    """
    check_known(body, list(GENERATE), hint="; the rest goes into parameters")
    prompt = of_type("text_input", body.get("text_input"), str, "a string")
    parameters = json_object(body, "parameters")
    check_known(parameters, list(_GENERATE), "parameter")
    for name, kind in STRICT.items():
        if isinstance(parameters.get(name), str):  # taken elsewhere; the spec's types are narrower
            raise InvalidRequest(name, f"must be {kind}, not a string")
    details = parameters.pop("details", None)
    return TextRequest(
        [prompt],
        at_least_one_token(parameters),
        logprobs=0 if details is not None and flag("details", details) else None,
        names={"text": "text_input", "logprobs": "details"},
    )


def details(engine: Engine, event: TokenEvent) -> dict[str, Any]:
    """What an answer says besides its text: one token, the end-of-sequence token included. The spec's ``details``
    cannot be without a finish_reason, which only the last has; so the tokens before it stand by themselves.
    """
    found = event.logprobs
    if found is None and event.finish_reason is not None:  # a text that came back as it is: its end is certain
        found = TokenLogprobs(engine.tokenizer.eos_id, 0.0)
    if found is None:
        return {}
    one = token(engine, found)
    if event.finish_reason is None:
        return {"token": one}
    return {"token": one, "details": {"finish_reason": event.finish_reason, "token": one}}


def token(engine: Engine, found: TokenLogprobs) -> dict[str, Any]:
    """A Token of the spec."""
    return {
        "id": found.token_id,
        "text": engine.token_bytes(found.token_id).decode("utf-8", "replace"),
        "logprob": found.logprob,
        "special": found.token_id < len(engine.tokenizer.control_tokens),
    }
