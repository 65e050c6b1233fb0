"""``/v1`` and ``/openai/v1``: models, completions, chat completions, streamed too: for clients of OpenAI's API.

KServe has such routes too, but only where vLLM is installed. A translation model takes the prompt, or the last message,
as the text to translate; ``target`` says into which language where its script does not. Of several prompts each has its
own outcome: a choice of one that is in fault ends by "error", with the error beside it.

    client = openai.OpenAI(base_url="http://localhost:8080/v1", api_key="none")
    client.completions.create(model="prometheus-mini", prompt="Привет!", extra_body={"target": "en"})
"""

import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.engine import GenerationResult, TokenEvent
from serving.engine.generation import TokenLogprobs
from serving.errors import ModelNotFound
from serving.rest.answers import OPENAI, EventStream, complete, error_body, json_response, sse
from serving.rest.bodies import json_body
from serving.rest.openai_fields import CHAT, COMPLETION, OpenAIRequest, read_chat, read_completion
from serving.rest.operations import EVENTS, JSON, Operation, sample
from serving.service import Events, TextService

# OpenAI has no word for a choice that failed where others did not; "error" beside an ``error`` is OpenRouter's.
FINISH = {"eos_token": "stop", "stop_sequence": "stop", "length": "length", "error": "error"}
DONE = b"data: [DONE]\n\n"
PREFIXES = ("/v1", "/openai/v1")


def routes(service: TextService) -> list[Route]:
    """The calls of OpenAI's API that this server has."""
    config = service.config
    model = {
        "id": config.model_name,
        "object": "model",
        "created": int((service.bundle.path / "bundle.json").stat().st_mtime),
        "owned_by": "prometheus-mini",
    }

    # KServe's V1 protocol has the same two addresses; its names stand beside OpenAI's.
    async def models(request: Request) -> Response:
        return json_response({"object": "list", "data": [model], "models": [config.model_name]})

    async def one_model(request: Request) -> Response:
        name = request.path_params["model"]
        if name != config.model_name:
            raise ModelNotFound(f"model: {name[:64]!r} is not served here; {config.model_name!r} is")
        ready = service.ready
        return json_response({**model, "name": config.model_name, "ready": ready}, 200 if ready else 503)

    async def completions(request: Request) -> Response:
        body = await json_body(request, config)
        return await answer(request, read_completion(body, config.model_name, config.max_prompts), Completion)

    async def chat(request: Request) -> Response:
        body = await json_body(request, config)
        return await answer(request, read_chat(body, config.model_name), Chat)

    async def answer(request: Request, call: OpenAIRequest, kind: type[Completion]) -> Response:
        shape = kind(service)
        if call.stream:
            return EventStream(request, service, call.generation, partial(chunks, call, shape))
        results = await complete(request, service, call.generation)
        choices = [
            shape.choice(index, shape.whole(result.text), result.logprobs, result)
            for index, result in enumerate(results)
        ]
        counts = usage(dict(enumerate(results)), call.generation.samples)
        return json_response({**shape.head, "choices": choices, "usage": counts})

    async def chunks(call: OpenAIRequest, shape: Completion, events: Events) -> AsyncGenerator[bytes, None]:
        head: dict[str, Any] = {**shape.chunk_head, "usage": None} if call.usage else shape.chunk_head
        counts: dict[int, TokenEvent] = {}
        async for index, event in events:
            counts[index] = event
            if event.result is None and not event.text and event.logprobs is None:
                continue
            logprobs = None if event.token_id is None or event.logprobs is None else [event.logprobs]
            choice = shape.choice(index, shape.part(index, event.text), logprobs, event.result)
            if call.running_usage:
                head["usage"] = usage(counts, call.generation.samples)
            yield sse({**head, "choices": [choice]})
        if call.usage:
            yield sse({**head, "choices": [], "usage": usage(counts, call.generation.samples)})
        yield DONE

    words, target = sample(service)
    example = {"model": config.model_name, **({"target": target} if target else {})}
    message = {"role": "user", "content": words}
    kinds: dict[str, Any] = {"gives": (JSON, EVENTS)}
    texts = {"fields": COMPLETION, "example": {**example, "prompt": words}, **kinds}
    chats = {"fields": CHAT, "example": {**example, "messages": [message]}, **kinds}
    return [
        route
        for prefix in PREFIXES
        for route in (
            Operation("POST", f"{prefix}/completions", completions, "Texts for prompts.", **texts),
            Operation("POST", f"{prefix}/chat/completions", chat, "A text for a message.", **chats),
            Operation("GET", f"{prefix}/models", models, "The model, in a list."),
            Operation("GET", f"{prefix}/models/{{model:path}}", one_model, "The model."),
        )
    ]


class Completion:
    """The shape of ``/completions``: one answer, whole or part by part."""

    prefix, kind, chunk_kind = "cmpl", "text_completion", "text_completion"

    def __init__(self, service: TextService) -> None:
        self._token_bytes, self._drops_space = service.engine.token_bytes, service.engine.drops_space
        rest = {"created": int(time.time()), "model": service.config.model_name}
        name = f"{self.prefix}-{uuid.uuid4().hex}"
        self.head: dict[str, Any] = {"id": name, "object": self.kind, **rest}
        self.chunk_head: dict[str, Any] = {"id": name, "object": self.chunk_kind, **rest}
        self._begun: dict[int, int] = {}  # index of a choice -> characters of it that were sent with log-probabilities

    def choice(
        self,
        index: int,
        content: dict[str, Any],
        logprobs: Sequence[TokenLogprobs] | None,
        result: GenerationResult | None,
    ) -> dict[str, Any]:
        """A finished text, or new text of one that will go on."""
        return {
            "index": index,
            **content,
            "logprobs": None if logprobs is None else self._logprobs(index, logprobs),
            "finish_reason": None if result is None else FINISH.get(result.finish_reason, "stop"),
            **({} if result is None else result.about),
            **({} if result is None or result.error is None else error_body(result.error, OPENAI[0])),
        }

    def whole(self, text: str) -> dict[str, Any]:
        """The content of a finished text."""
        return {"text": text}

    def part(self, index: int, text: str) -> dict[str, Any]:
        """The content of new text."""
        return {"text": text}

    def _logprobs(self, index: int, logprobs: Sequence[TokenLogprobs]) -> dict[str, Any]:
        tokens, offsets = list[str](), list[int]()
        position = self._begun.get(index, 0)
        for found in logprobs:
            token = self._text(found.token_id)
            begins = found.gap is not None or not (offsets or index in self._begun)
            tokens.append(token.removeprefix(" ") if begins and self._drops_space else token)
            offsets.append(position + len(found.gap or ""))  # what stands between two pieces is no token's
            position = offsets[-1] + len(tokens[-1])
        self._begun[index] = position
        return {
            "tokens": tokens,
            "token_logprobs": [found.logprob for found in logprobs],
            "top_logprobs": [{self._text(i): logprob for i, logprob in found.top} for found in logprobs],
            "text_offset": offsets,
        }

    def _text(self, token_id: int) -> str:
        """A token as text; one that is no text by itself as OpenAI writes it, ``bytes:\\xd0``."""
        raw = self._token_bytes(token_id)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


class Chat(Completion):
    """The shape of ``/chat/completions``."""

    prefix, kind, chunk_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def whole(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def part(self, index: int, text: str) -> dict[str, Any]:
        """The first piece of a choice names the role."""
        if index in self._begun:
            return {"delta": {"content": text} if text else {}}
        self._begun[index] = 0
        return {"delta": {"role": "assistant", "content": text}}

    def _logprobs(self, index: int, logprobs: Sequence[TokenLogprobs]) -> dict[str, Any]:
        content = [
            {**self._token(found.token_id, found.logprob), "top_logprobs": [self._token(*other) for other in found.top]}
            for found in logprobs
        ]
        return {"content": content, "refusal": None}

    def _token(self, token_id: int, logprob: float) -> dict[str, Any]:
        return {"token": self._text(token_id), "logprob": logprob, "bytes": list(self._token_bytes(token_id))}


def usage(choices: Mapping[int, GenerationResult | TokenEvent], samples: int) -> dict[str, int]:
    """Tokens read and written by the choices so far; a prompt counts once, however many texts are drawn for it."""
    read = sum({index // samples: choice.prompt_tokens for index, choice in choices.items()}.values())
    written = sum([choice.generated_tokens for choice in choices.values()])
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
