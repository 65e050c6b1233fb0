"""What OpenAI's clients send, read into a :class:`TextRequest`; knows no HTTP.

A field that would change the answer and cannot be honoured is refused by name, never dropped. What a request leaves out
is greedy and 128 tokens, as on all our addresses, where OpenAI draws at temperature 1. Our own parameters (``target``,
``author``, ``top_k``, ...) may stand beside OpenAI's; its Python client sends them as ``extra_body``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serving.errors import InvalidRequest, ModelNotFound, shown
from serving.parameters import NAMES, flag, number
from serving.routes.open_inference import at_least_one_token
from serving.service import TextRequest

# Who asks and how the caller files it: nothing in the answer depends on these.
INFORMATIVE = ("user", "safety_identifier", "prompt_cache_key", "metadata")
# Fields that we have no means to honour, and the values with which there is nothing to honour.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (0, 0.0),
    "logit_bias": ({},),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
COMMON = ("model", "stream", "stream_options", "n", "logprobs", *NAMES)
COMPLETION = ("prompt", "best_of", *COMMON)
CHAT = ("messages", "max_completion_tokens", "top_logprobs", *COMMON)


@dataclass(frozen=True)
class Asked:
    """One call: what to generate and how to tell it."""

    request: TextRequest
    stream: bool
    usage: bool  # a streamed answer ends with the counts of tokens


def read_completion(body: dict[str, Any], model: str, max_prompts: int) -> Asked:
    """Read the body of ``/completions``.

    Raises:
        InvalidRequest: naming the field. ModelNotFound.
    """
    _check_fields(body, COMPLETION, model)
    texts = _prompts(body.get("prompt"), max_prompts)
    samples = _samples(body)
    best_of = body.get("best_of")
    if best_of is not None and number("best_of", best_of, int) != samples:
        raise InvalidRequest("best_of", "cannot be honoured; leave it out")
    logprobs = body.get("logprobs")
    if logprobs is not None:
        # false is what clients of the chat call send when they want none
        logprobs = None if logprobs is False else number("logprobs", logprobs, int)
    return _asked(body, texts, samples, logprobs, {"text": "prompt"})


def read_chat(body: dict[str, Any], model: str) -> Asked:
    """Read the body of ``/chat/completions``. The last message, which must be the user's, is the text; the model has
    no memory, so the messages before it, the system's too, are checked and not read.

    Raises:
        InvalidRequest: naming the field. ModelNotFound.
    """
    _check_fields(body, CHAT, model)
    text = _last_message(body.get("messages"))
    names = {"text": "messages", "logprobs": "top_logprobs"}
    if body.get("max_completion_tokens") is not None:
        if body.get("max_tokens") is not None:
            raise InvalidRequest("max_completion_tokens", "means the same as max_tokens; send one of them")
        body = {**body, "max_tokens": number("max_completion_tokens", body["max_completion_tokens"], int)}
        names["max_tokens"] = "max_completion_tokens"
    wanted = flag("logprobs", body["logprobs"]) if body.get("logprobs") is not None else False
    top = body.get("top_logprobs")
    top = 0 if top is None else number("top_logprobs", top, int)
    if top and not wanted:
        raise InvalidRequest("top_logprobs", "needs logprobs to be true")
    return _asked(body, [text], _samples(body), top if wanted else None, names)


def _asked(body: dict[str, Any], texts: list[str], samples: int, logprobs: int | None, names: dict[str, str]) -> Asked:
    parameters = at_least_one_token({name: value for name, value in body.items() if name in NAMES})
    if isinstance(parameters.get("stop"), str):
        parameters["stop"] = [parameters["stop"]]  # here a text that looks like JSON is a text
    stream = flag("stream", body["stream"]) if body.get("stream") is not None else False
    options = body.get("stream_options")
    usage = False
    if options is not None:
        if not stream:
            raise InvalidRequest("stream_options", "needs stream to be true")
        if not isinstance(options, dict) or not options.keys() <= {"include_usage", "include_obfuscation"}:
            raise InvalidRequest("stream_options", 'must be {"include_usage": true} or {"include_usage": false}')
        if options.get("include_obfuscation"):
            raise InvalidRequest("stream_options", "include_obfuscation cannot be honoured; leave it out")
        usage = flag("stream_options.include_usage", options.get("include_usage", False))
    return Asked(TextRequest(texts, parameters, samples, logprobs, names), stream, usage)


def _check_fields(body: dict[str, Any], known: tuple[str, ...], model: str) -> None:
    for name, value in body.items():
        if name in known or name in INFORMATIVE or value is None:
            continue
        if name not in NEUTRAL:
            raise InvalidRequest(name[:64], "is not a field that this server knows; leave it out")
        if not any(type(value) is type(one) and value == one for one in NEUTRAL[name]):
            raise InvalidRequest(name, "cannot be honoured by this server; leave it out")
    asked = body.get("model")
    if asked is None:
        raise InvalidRequest("model", f"is missing; {model!r} is served here")
    if asked != model:
        raise ModelNotFound(f"model: {shown(asked)} is not served here; {model!r} is")


def _samples(body: dict[str, Any]) -> int:
    return 1 if body.get("n") is None else number("n", body["n"], int)


def _prompts(prompt: Any, max_prompts: int) -> list[str]:
    if prompt is None:
        raise InvalidRequest("prompt", "is missing")
    texts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidRequest("prompt", "must be a string or a list of strings; token ids are not taken")
    if not texts:
        raise InvalidRequest("prompt", "the list is empty; send at least one prompt")
    if len(texts) > max_prompts:
        raise InvalidRequest("prompt", f"{len(texts)} prompts in one request; at most {max_prompts} are taken")
    return texts


def _last_message(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("messages", "must be a list of at least one message")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise InvalidRequest(f"messages[{index}]", "must be a JSON object with a role, which is a string")
    last, where = messages[-1], f"messages[{len(messages) - 1}]"
    if last["role"] != "user":
        raise InvalidRequest(where, f"the last message must be the user's, not of role {last['role'][:32]!r}")
    content = last.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise InvalidRequest(where, "content must be a string or a list of text parts")
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise InvalidRequest(where, "content may hold parts of type 'text' only")
    return "".join(part["text"] for part in content)
