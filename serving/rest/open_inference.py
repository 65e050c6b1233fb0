"""``/v2/models/{m}[/versions/{v}]/generate`` and ``/generate_stream``: text generation by the Open Inference API.

By KServe's ``open_inference_generate_rest.yaml``, except for its defaults (temperature 1, 20 tokens): what a request
leaves out is greedy and 128 tokens, as on all our addresses. ``parameters`` takes ours too, ``target`` first of all.

curl localhost:8080/v2/models/prometheus-mini/generate -d '{"text_input": "Привет!", "parameters": {"target": "en"}}'
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.engine import Engine, TokenEvent
from serving.engine.generation import TokenLogprobs
from serving.errors import InvalidRequest
from serving.parameters import NAMES, at_least_one_token, check_known, flag, json_object, text
from serving.rest.answers import EventStream, complete
from serving.rest.bodies import json_body
from serving.rest.errors import json_response, sse
from serving.rest.inference import PREFIXES, find_model
from serving.service import Events, TextService
from serving.texts import TextRequest
from serving.v2 import VERSION

FIELDS = ("text_input", "parameters")
STRICT = {"temperature": "a number", "top_p": "a number", "max_tokens": "an integer", "stop": "a list of strings"}


def routes(service: TextService) -> list[Route]:
    """Both calls, with and without a version."""
    config, engine = service.config, service.engine
    model = {"model_name": config.model_name, "model_version": VERSION}

    async def generate(request: Request) -> Response:
        find_model(request, config.model_name)
        wanted = read_request(await json_body(request, config))
        (result,) = await complete(request, service, wanted)
        answer: dict[str, Any] = {"text_output": result.text, **model}
        if wanted.logprobs is not None:
            tokens = [token(engine, one) for one in result.logprobs or []]
            answer["details"] = {"finish_reason": result.finish_reason, "logprobs": tokens}
        return json_response(answer)

    async def generate_stream(request: Request) -> Response:
        find_model(request, config.model_name)
        wanted = read_request(await json_body(request, config))
        detailed = wanted.logprobs is not None

        async def chunks(events: Events) -> AsyncGenerator[bytes, None]:
            async for _, event in events:
                if detailed:
                    yield sse({"text_output": event.text, **details(engine, event), **model})
                elif event.text or event.finish_reason is not None:
                    yield sse({"text_output": event.text, **model})

        return EventStream(request, service, wanted, chunks)

    return [
        *(Route(f"{prefix}/generate", generate, methods=["POST"]) for prefix in PREFIXES),
        *(Route(f"{prefix}/generate_stream", generate_stream, methods=["POST"]) for prefix in PREFIXES),
    ]


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


def read_request(body: dict[str, Any]) -> TextRequest:
    """Read a GenerateRequest.

    Raises:
        InvalidRequest: naming the field.
    """
    check_known(body, FIELDS, hint="; the rest goes into parameters")
    prompt = text("text_input", body.get("text_input"))
    parameters = json_object(body, "parameters")
    check_known(parameters, ("details", *NAMES), "parameter")
    for name, kind in STRICT.items():
        if isinstance(parameters.get(name), str):  # taken elsewhere; the spec's types are narrower
            raise InvalidRequest(name, f"must be {kind}, not a string")
    details = parameters.get("details")
    return TextRequest(
        [prompt],
        at_least_one_token({name: value for name, value in parameters.items() if name != "details"}),
        logprobs=0 if details is not None and flag("details", details) else None,
        names={"text": "text_input", "logprobs": "details"},
    )


def token(engine: Engine, found: TokenLogprobs) -> dict[str, Any]:
    """A Token of the spec."""
    return {
        "id": found.token_id,
        "text": engine.token_bytes(found.token_id).decode("utf-8", "replace"),
        "logprob": found.logprob,
        "special": found.token_id < len(engine.tokenizer.control_tokens),
    }
