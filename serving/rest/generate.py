"""``POST /generate`` and ``/generate_stream``: the project's own small API, prompt in, text out.

curl localhost:8080/generate -d '{"prompt": "Привет!", "target": "en"}'
curl -N localhost:8080/generate_stream -d '{"prompt": "Привет!", "target": "en"}'
"""

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.engine import GenerationResult
from serving.errors import InvalidRequest
from serving.parameters import NAMES, number
from serving.rest.answers import EventStream, complete, json_response, sse
from serving.rest.bodies import json_body
from serving.rest.fields import PARAMETERS, Field, as_it_is, read_fields, text, truth
from serving.rest.operations import EVENTS, Operation, sample
from serving.service import Events, TextService
from serving.texts import MAX_SAMPLES, TextRequest

# Names of Hugging Face's generate that mean the same as one of ours.
ALIASES = {"max_length": "max_tokens", "num_beams": "beams"}
FIELDS = {
    "prompt": text("The text to translate, or to continue.", required=True),
    "do_sample": truth("False is greedy; true without a temperature is a temperature of 1."),
    "num_return_sequences": Field(
        "How many texts to draw.", {"type": "integer", "minimum": 1, "maximum": MAX_SAMPLES}, as_it_is
    ),
    **{alias: replace(PARAMETERS[name], about=f"Means the same as {name}.") for alias, name in ALIASES.items()},
    **PARAMETERS,
}


def routes(service: TextService) -> list[Route]:
    """``/generate`` and ``/generate_stream``."""
    model_info = service.describe()

    def summary(results: Sequence[GenerationResult], started: float) -> dict[str, Any]:
        return {
            "tokens_used": results[0].prompt_tokens + sum([result.generated_tokens for result in results]),
            "generation_time": round(time.perf_counter() - started, 6),
            "prompt_tokens": results[0].prompt_tokens,
            "generated_tokens": sum([result.generated_tokens for result in results]),
            "finish_reason": results[0].finish_reason,
            **results[0].about,
            "model_info": model_info,
        }

    async def generate(request: Request) -> Response:
        wanted = read_request(await json_body(request, service.config))
        started = time.perf_counter()
        results = await complete(request, service, wanted)
        answer = {"text": results[0].text, **summary(results, started)}
        if wanted.samples > 1:
            answer["texts"] = [result.text for result in results]
            answer["finish_reasons"] = [result.finish_reason for result in results]
            if any(result.error for result in results):
                answer["errors"] = [result.error and str(result.error) for result in results]
        return json_response(answer)

    async def generate_stream(request: Request) -> Response:
        wanted = read_request(await json_body(request, service.config))
        if wanted.samples > 1:
            raise InvalidRequest("num_return_sequences", "one text can be streamed; /generate returns several")
        started = time.perf_counter()

        async def chunks(events: Events) -> AsyncGenerator[bytes, None]:
            async for _, event in events:
                if event.result is not None:
                    last = {"text": event.text, **summary([event.result], started)}
                    yield sse({**last, "time_to_first_token": round(event.result.first_token_seconds, 6)})
                elif event.text:
                    yield sse({"text": event.text})

        return EventStream(request, service, wanted, chunks)

    words, target = sample(service)
    example = {"prompt": words, **({"target": target} if target else {})}
    known: dict[str, Any] = {"fields": FIELDS, "example": example}
    return [
        Operation("POST", "/generate", generate, "A text, and how it was made.", **known),
        Operation("POST", "/generate_stream", generate_stream, "The same, token by token.", gives=(EVENTS,), **known),
    ]


def read_request(body: dict[str, Any]) -> TextRequest:
    """Read a request. ``do_sample`` false is greedy, true without a temperature is 1.

    Raises:
        InvalidRequest: naming the field.
    """
    body = read_fields(body, FIELDS)
    parameters = {name: value for name, value in body.items() if name in NAMES}
    names = {"text": "prompt", "n": "num_return_sequences"}
    for alias, name in ALIASES.items():
        if alias in body:
            if name in body:
                raise InvalidRequest(alias, f"means the same as {name}; send one of them")
            parameters[name] = number(alias, body[alias], int)
            names[name] = alias
    if "do_sample" in body:
        sampled = body["do_sample"]
        temperature = number("temperature", body.get("temperature", 1), float)
        if sampled and temperature == 0:
            raise InvalidRequest("do_sample", "true contradicts temperature 0, which is greedy")
        parameters["temperature"] = temperature if sampled else 0.0
    samples = number("num_return_sequences", body.get("num_return_sequences", 1), int)
    return TextRequest([body["prompt"]], parameters, samples, names=names)
