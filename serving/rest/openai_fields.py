"""What OpenAI's clients send, read into a :class:`TextRequest`; knows no HTTP.

A field that would change the answer and cannot be honoured is refused by name, never dropped; what cannot change it is
taken. A ``max_tokens`` beyond what there is room for is cut to it: clients send numbers of their own. What a request
leaves out is as on all our addresses (serving/parameters.py), where OpenAI draws at temperature 1. Our own parameters
(``target``, ``author``, ``top_k``, ...) may stand beside OpenAI's; its Python client sends them as ``extra_body``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from serving.engine.limits import MAX_LOGPROBS
from serving.errors import InvalidRequest, ModelNotFound, shown
from serving.parameters import NAMES, at_least_one_token, flag, given, number
from serving.rest.fields import PARAMETERS, TEXTS, Field, as_it_is, truth
from serving.texts import MAX_SAMPLES, TextRequest

# Who asks, how the caller files it, and hints: nothing in the answer depends on these, whatever their value.
INFORMATIVE = (
    *("user", "safety_identifier", "metadata", "request_id"),
    *("prompt_cache_key", "prompt_cache_retention", "prediction", "service_tier", "priority"),
    *("parallel_tool_calls", "reasoning_effort", "include_reasoning"),  # of tools and thoughts, which there are none of
)
# Fields that we have no means to honour, and the values with which there is nothing to honour. A number matches its
# equals of either type, and false is no number.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("presence_penalty", "top_logprobs", "min_tokens"), (0,)),
    **dict.fromkeys(("store", "echo", "use_beam_search", "include_stop_str_in_output"), (False,)),
    **dict.fromkeys(("continue_final_message", "return_token_ids", "return_tokens_as_token_ids"), (False,)),
    **dict.fromkeys(("skip_special_tokens", "spaces_between_special_tokens", "add_generation_prompt"), (True,)),
    **dict.fromkeys(("tools", "functions", "stop_token_ids", "bad_words", "documents"), ([],)),
    **dict.fromkeys(("tool_choice", "function_call"), ("none", "auto")),
    "logit_bias": (),  # but for biases of 0
    "suffix": ("",),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "best_of": (1,),
    "verbosity": ("medium",),
    "add_special_tokens": (True, False),
    "chat_template_kwargs": ({},),
}
STREAM_OPTIONS = ("include_usage", "continuous_usage_stats", "include_obfuscation")
_COUNT = {"type": "integer", "minimum": 0, "maximum": MAX_LOGPROBS}
_N = {"type": "integer", "minimum": 1, "maximum": MAX_SAMPLES}


def _neutral(values: tuple[Any, ...]) -> Field:
    """A field that is taken with one of these values alone."""

    def read(name: str, value: Any) -> Any:
        none = name == "logit_bias" and isinstance(value, dict) and not any(value.values())
        if not none and not any(value == one and isinstance(value, bool) is isinstance(one, bool) for one in values):
            raise InvalidRequest(name, "cannot be honoured by this server; leave it out")
        return value

    return Field("Taken where it asks for nothing.", {"enum": list(values) or [{}]}, read)


# What is read ``as_it_is`` here is looked at below, in words of its own.
_COMMON = {
    "model": Field("The name of the model that is served.", {"type": "string"}, as_it_is, required=True),
    "stream": truth("Send the answer token by token."),
    "stream_options": Field(
        "What a stream tells besides.",
        {
            "type": "object",
            "properties": {name: {"type": "boolean"} for name in STREAM_OPTIONS},
            "additionalProperties": False,
        },
        as_it_is,
    ),
    "n": Field("How many texts to draw.", _N, as_it_is),
    **PARAMETERS,
    **{name: Field("Taken, and changes nothing.", {}, as_it_is) for name in INFORMATIVE},
    **{name: _neutral(values) for name, values in NEUTRAL.items()},
}
COMPLETION = {
    "prompt": Field("A text, or several.", TEXTS, as_it_is, required=True),
    **_COMMON,
    "best_of": Field("Must be n.", _N, as_it_is),
    "logprobs": Field("How many alternatives to tell with each token.", _COUNT, as_it_is),
}
CHAT = {
    "messages": Field(
        "The last one, the user's, is the text.",
        {
            "type": "array",
            "items": {"type": "object", "properties": {"role": {"type": "string"}, "content": {"type": "string"}}},
        },
        as_it_is,
        required=True,
    ),
    **_COMMON,
    "max_completion_tokens": replace(PARAMETERS["max_tokens"], about="Means the same as max_tokens."),
    "logprobs": Field("Tell the log-probability of each token.", {"type": "boolean"}, as_it_is),
    "top_logprobs": Field("How many alternatives to tell with each token.", _COUNT, as_it_is),
}


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
    body = _known_fields(body, COMPLETION, model)
    texts = _prompts(body.get("prompt"), max_prompts)
    if "best_of" in body and number("best_of", body["best_of"], int) != _samples(body):
        raise InvalidRequest("best_of", "cannot be honoured; leave it out")
    # false is what clients of the chat call send when they want none.
    wanted = body.get("logprobs", False) is not False
    return _request(body, texts, number("logprobs", body["logprobs"], int) if wanted else None, {"text": "prompt"})


def read_chat(body: dict[str, Any], model: str) -> OpenAIRequest:
    """Read the body of ``/chat/completions``. The last message, which must be the user's, is the text; the model has
    no memory, so the messages before it, the system's too, are checked and not read.

    Raises:
        InvalidRequest: naming the field. ModelNotFound.
    """
    body = _known_fields(body, CHAT, model)
    text = _last_message(body.get("messages"))
    names = {"text": "messages", "logprobs": "top_logprobs"}
    if "max_completion_tokens" in body:
        if "max_tokens" in body:
            raise InvalidRequest("max_completion_tokens", "means the same as max_tokens; send one of them")
        body["max_tokens"] = number("max_completion_tokens", body["max_completion_tokens"], int)
        names["max_tokens"] = "max_completion_tokens"
    # 0 is what clients of the other call send when they want none.
    wanted = body.get("logprobs", 0) != 0 and flag("logprobs", body["logprobs"])
    top = number("top_logprobs", body.get("top_logprobs", 0), int)
    if top and not wanted:
        raise InvalidRequest("top_logprobs", "needs logprobs to be true")
    return _request(body, [text], top if wanted else None, names)


def _request(body: dict[str, Any], texts: list[str], logprobs: int | None, names: dict[str, str]) -> OpenAIRequest:
    parameters = at_least_one_token({name: value for name, value in body.items() if name in NAMES})
    if parameters.get("stop") == "":
        del parameters["stop"]
    if type(parameters.get("top_k")) is int and parameters["top_k"] == -1:  # vLLM's word for all of them
        del parameters["top_k"]
    if body.get("use_beam_search") is False:  # vLLM's word for greedy, whatever the bundle's default
        parameters.setdefault("beams", 1)
    options = body.get("stream_options", {})
    if not isinstance(options, dict):
        raise InvalidRequest("stream_options", 'must be an object, such as {"include_usage": true}')
    for name in options:
        if name not in STREAM_OPTIONS:
            raise InvalidRequest("stream_options", f"unknown option {shown(name)}; known: {', '.join(STREAM_OPTIONS)}")
    options = {name: flag(f"stream_options.{name}", value) for name, value in given(options).items()}
    usage = options.get("include_usage", False)
    return OpenAIRequest(
        TextRequest(texts, parameters, _samples(body), logprobs, fit=True, names=names),
        stream=flag("stream", body.get("stream", False)),
        usage=usage,
        running_usage=usage and options.get("continuous_usage_stats", False),
    )


def _known_fields(body: dict[str, Any], known: Mapping[str, Field], model: str) -> dict[str, Any]:
    """The fields that are given, each of them one that may be."""
    body = given(body)
    for name, value in body.items():
        if name not in known:
            raise InvalidRequest(name[:64], "is not a field that this server knows; leave it out")
        known[name].read(name, value)
    if "model" not in body:
        raise InvalidRequest("model", f"is missing; {model!r} is served here")
    if body["model"] != model:
        raise ModelNotFound(f"model: {shown(body['model'])} is not served here; {model!r} is")
    return body


def _samples(body: dict[str, Any]) -> int:
    return number("n", body.get("n", 1), int)


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
