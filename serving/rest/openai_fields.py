"""What OpenAI's clients send, read into a :class:`TextRequest`; knows no HTTP.

A field that would change the answer and cannot be honoured is refused by name, never dropped; what cannot change it is
taken. A ``max_tokens`` beyond what there is room for is cut to it: clients send numbers of their own. What a request
leaves out is greedy and 128 tokens, as on all our addresses, where OpenAI draws at temperature 1. Our own parameters
(``target``, ``author``, ``top_k``, ...) may stand beside OpenAI's; its Python client sends them as ``extra_body``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serving.errors import InvalidRequest, ModelNotFound, shown
from serving.parameters import NAMES, at_least_one_token, flag, number
from serving.texts import TextRequest

# Who asks, how the caller files it, and hints: nothing in the answer depends on these, whatever their value.
INFORMATIVE = (
    *("user", "safety_identifier", "metadata", "request_id"),
    *("prompt_cache_key", "prompt_cache_retention", "prediction", "service_tier", "priority"),
    *("parallel_tool_calls", "reasoning_effort", "include_reasoning"),  # of tools and thoughts, which there are none of
)
# Fields that we have no means to honour, and the values with which there is nothing to honour. A number matches its
# equals of either type, and false is no number.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (0,),
    "logit_bias": (),  # but for biases of 0
    "store": (False,),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "best_of": (1,),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    # vLLM's
    "min_tokens": (0,),
    "use_beam_search": (False,),
    "stop_token_ids": ([],),
    "bad_words": ([],),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "include_stop_str_in_output": (False,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "add_special_tokens": (True, False),
    "chat_template_kwargs": ({},),
    "documents": ([],),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
}
STREAM_OPTIONS = ("include_usage", "continuous_usage_stats", "include_obfuscation")
COMMON = ("model", "stream", "stream_options", "n", "logprobs", *NAMES)
COMPLETION = ("prompt", "best_of", *COMMON)
CHAT = ("messages", "max_completion_tokens", "top_logprobs", *COMMON)


@dataclass(frozen=True)
class OpenAIRequest:
    """One call: what to generate and how to send it."""

    generation: TextRequest
    stream: bool
    usage: bool  # a streamed answer ends with the counts of tokens
    running_usage: bool  # each of its chunks has the counts so far


def read_completion(body: dict[str, Any], model: str, max_prompts: int) -> OpenAIRequest:
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
        # false is what clients of the chat call send when they want none.
        logprobs = None if logprobs is False else number("logprobs", logprobs, int)
    return _request(body, texts, samples, logprobs, {"text": "prompt"})


def read_chat(body: dict[str, Any], model: str) -> OpenAIRequest:
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
    # 0 is what clients of the other call send when they want none.
    wanted = body.get("logprobs") not in (None, 0) and flag("logprobs", body["logprobs"])
    top = body.get("top_logprobs")
    top = 0 if top is None else number("top_logprobs", top, int)
    if top and not wanted:
        raise InvalidRequest("top_logprobs", "needs logprobs to be true")
    return _request(body, [text], _samples(body), top if wanted else None, names)


def _request(
    body: dict[str, Any], texts: list[str], samples: int, logprobs: int | None, names: dict[str, str]
) -> OpenAIRequest:
    parameters = at_least_one_token({name: value for name, value in body.items() if name in NAMES})
    if parameters.get("stop") == "":
        del parameters["stop"]
    if type(parameters.get("top_k")) is int and parameters["top_k"] == -1:  # vLLM's word for all of them
        del parameters["top_k"]
    stream = body.get("stream") is not None and flag("stream", body["stream"])
    generation = TextRequest(texts, parameters, samples, logprobs, fit=True, names=names)
    return OpenAIRequest(generation, stream, *_usage(body.get("stream_options")))


def _usage(options: Any) -> tuple[bool, bool]:
    """Whether a stream counts tokens at its end, and with each chunk, by ``stream_options``."""
    if options is None:
        return False, False
    if not isinstance(options, dict):
        raise InvalidRequest("stream_options", 'must be an object, such as {"include_usage": true}')
    for name, value in options.items():
        if name not in STREAM_OPTIONS:
            raise InvalidRequest("stream_options", f"unknown option {shown(name)}; known: {', '.join(STREAM_OPTIONS)}")
        if value is not None:
            flag(f"stream_options.{name}", value)
    usage = bool(options.get("include_usage"))
    return usage, usage and bool(options.get("continuous_usage_stats"))


def _check_fields(body: dict[str, Any], known: tuple[str, ...], model: str) -> None:
    for name, value in body.items():
        if name in known or name in INFORMATIVE or value is None:
            continue
        if name == "logit_bias" and isinstance(value, dict) and not any(value.values()):
            continue
        if name not in NEUTRAL:
            raise InvalidRequest(name[:64], "is not a field that this server knows; leave it out")
        if not any(value == one and isinstance(value, bool) is isinstance(one, bool) for one in NEUTRAL[name]):
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
