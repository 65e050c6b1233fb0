"""``POST /generate``: the project's own small API, prompt in, text out.

curl localhost:8080/generate -d '{"prompt": "Привет!", "target": "en"}'
"""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.errors import InvalidRequest
from serving.parameters import NAMES, flag, number
from serving.routes.edge import cancelled_when_client_leaves, json_response, read_body, read_json
from serving.service import TextService

MAX_SAMPLES = 8
OWN = ("prompt", "max_length", "do_sample", "num_return_sequences")
FIELDS = (*OWN, *NAMES)


def routes(service: TextService) -> list[Route]:
    """``/generate``."""

    async def generate(request: Request) -> Response:
        body = read_json(await read_body(request, service.config.max_body_bytes))
        prompt, parameters, samples = read_fields(body)
        started = time.perf_counter()
        async with cancelled_when_client_leaves(request):
            results = await service.complete([prompt], parameters, samples=samples, field="prompt")
        request.scope["serving.results"] = results
        answer: dict[str, Any] = {
            "text": results[0].text,
            "tokens_used": results[0].prompt_tokens + sum(result.generated_tokens for result in results),
            "generation_time": round(time.perf_counter() - started, 6),
            "prompt_tokens": results[0].prompt_tokens,
            "finish_reason": results[0].finish_reason,
            "model_info": service.describe(),
        }
        if samples > 1:
            answer["texts"] = [result.text for result in results]
            answer["finish_reasons"] = [result.finish_reason for result in results]
        return json_response(answer)

    return [Route("/generate", generate, methods=["POST"])]


def read_fields(body: dict[str, Any]) -> tuple[str, dict[str, Any], int]:
    """Split a request into its prompt, the parameters that all protocols share, and the number of samples.

    ``max_length`` is another name of ``max_tokens``; ``do_sample`` false is greedy, true without a temperature is 1.

    Raises:
        InvalidRequest: naming the field.
    """
    for name in body:
        if name not in FIELDS:
            raise InvalidRequest(name[:64], f"unknown field; known: {', '.join(FIELDS)}")
    prompt = body.get("prompt")
    if not isinstance(prompt, str):
        raise InvalidRequest(
            "prompt", "is missing" if prompt is None else f"must be a string, not {type(prompt).__name__}"
        )
    parameters = {name: value for name, value in body.items() if name in NAMES}
    if body.get("max_length") is not None:
        if body.get("max_tokens") is not None:
            raise InvalidRequest("max_length", "means the same as max_tokens; send one of them")
        number("max_length", body["max_length"], int)
        parameters["max_tokens"] = body["max_length"]
    temperature = parameters.get("temperature")
    if temperature is not None:
        temperature = number("temperature", temperature, float)
    if body.get("do_sample") is not None:
        if not flag("do_sample", body["do_sample"]):
            temperature = 0.0
        elif temperature is None:
            temperature = 1.0
        elif temperature == 0:
            raise InvalidRequest("do_sample", "true contradicts temperature 0, which is greedy")
        parameters["temperature"] = temperature
    samples = body.get("num_return_sequences")
    samples = 1 if samples is None else number("num_return_sequences", samples, int)
    if not 1 <= samples <= MAX_SAMPLES:
        raise InvalidRequest("num_return_sequences", f"must be between 1 and {MAX_SAMPLES}, not {samples}")
    if samples > 1 and not temperature:
        raise InvalidRequest("num_return_sequences", "greedy gives one and the same text; set a temperature above 0")
    return prompt, parameters, samples
