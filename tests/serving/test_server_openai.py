"""OpenAI's API on the real server process: every field that cannot be honoured is refused by name, in its format."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

COMPLETIONS, CHAT = "/openai/v1/completions", "/openai/v1/chat/completions"
MODEL = "prometheus-mini"


def completion(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "prompt": "привет", "target": "en", "max_tokens": 4, **fields}


def chat(*contents: Any, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content} for content in contents or ("привет",)]
    return {"model": MODEL, "messages": messages, "target": "en", "max_tokens": 4, **fields}


BAD: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "no model": (COMPLETIONS, {"prompt": "a"}, "model", "is missing; 'prometheus-mini'"),
    "no prompt": (COMPLETIONS, {"model": MODEL}, "prompt", "is missing"),
    "token ids": (COMPLETIONS, completion(prompt=[1, 2]), "prompt", "token ids are not taken"),
    "lists of token ids": (COMPLETIONS, completion(prompt=[[1, 2]]), "prompt", "token ids are not taken"),
    "no prompts": (COMPLETIONS, completion(prompt=[]), "prompt", "the list is empty"),
    "too many prompts": (COMPLETIONS, completion(prompt=["a"] * 9), "prompt", "9 prompts.*at most 8"),
    "too many texts": (COMPLETIONS, completion(prompt=["a"] * 3, n=3, temperature=1), "n", "3 texts.*exceed the 8"),
    "prompts too long": (COMPLETIONS, completion(prompt=["a" * 99, "b" * 99]), "prompt", r"prompt\[0\]: has 101"),
    "n too large": (COMPLETIONS, completion(n=9, temperature=1), "n", "between 1 and 8, not 9"),
    "n of nothing": (COMPLETIONS, completion(n=0), "n", "between 1 and 8, not 0"),
    "n of one text": (COMPLETIONS, completion(n=2), "n", "greedy gives one and the same text"),
    "n of beams": (COMPLETIONS, completion(n=2, beams=2), "n", "beam search gives one text"),
    "logprobs": (COMPLETIONS, completion(logprobs=21), "logprobs", "between 0 and 20, not 21"),
    "logprobs of beams": (COMPLETIONS, completion(logprobs=1, beams=2), "logprobs", "beam search"),
    "best_of": (COMPLETIONS, completion(best_of=3), "best_of", "cannot be honoured"),
    "echo": (COMPLETIONS, completion(echo=True), "echo", "cannot be honoured"),
    "suffix": (COMPLETIONS, completion(suffix="x"), "suffix", "cannot be honoured"),
    "logit_bias": (COMPLETIONS, completion(logit_bias={"5": 1}), "logit_bias", "cannot be honoured"),
    "a typo": (COMPLETIONS, completion(temprature=1), "temprature", "not a field that this server knows"),
    "target": (COMPLETIONS, completion(target="fr"), "target", "'fr'.*ru, en"),
    "penalty": (COMPLETIONS, completion(frequency_penalty=3), "frequency_penalty", "at most 2"),
    "top_p": (COMPLETIONS, completion(top_p=1.1), "top_p", "at most 1"),
    "stop": (COMPLETIONS, completion(stop=[1]), "stop", "string or a list of strings"),
    "stream": (COMPLETIONS, completion(stream="yes"), "stream", "true or false"),
    "unknown option": (COMPLETIONS, completion(stream=True, stream_options={"x": 1}), "stream_options", "include_us"),
    "no messages": (CHAT, {"model": MODEL, "messages": []}, "messages", "at least one message"),
    "messages of text": (CHAT, chat(messages="привет"), "messages", "must be a list"),
    "message of text": (CHAT, chat(messages=["привет"]), "messages", "with a role"),
    "no content": (CHAT, chat(messages=[{"role": "user"}]), "messages", "content must be"),
    "image": (CHAT, chat([{"type": "image_url", "image_url": {"url": "x"}}]), "messages", "type 'text' only"),
    "too long": (CHAT, chat("a" * 100), "messages", "102 tokens.*at most 64"),
    "top_logprobs alone": (CHAT, chat(top_logprobs=3), "top_logprobs", "needs logprobs"),
    "top_logprobs of a completion": (COMPLETIONS, completion(top_logprobs=2), "top_logprobs", "cannot be honoured"),
    "top_logprobs": (CHAT, chat(logprobs=True, top_logprobs=21), "top_logprobs", "between 0 and 20"),
    "logprobs of a number": (CHAT, chat(logprobs=1), "logprobs", "true or false"),
    "two lengths": (CHAT, chat(max_completion_tokens=4), "max_completion_tokens", "means the same as max_tokens"),
    "response_format": (
        CHAT, chat(response_format={"type": "json_object"}), "response_format", "cannot be honoured",
    ),
    "tool_choice": (CHAT, chat(tool_choice="required"), "tool_choice", "cannot be honoured"),
    "modalities": (CHAT, chat(modalities=["text", "audio"]), "modalities", "cannot be honoured"),
    "store": (CHAT, chat(store=True), "store", "cannot be honoured"),
    "zero that is false": (CHAT, chat(presence_penalty=False), "presence_penalty", "cannot be honoured"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_bad_fields_are_refused_by_name(client: httpx.Client, case: str, stream: bool) -> None:
    path, body, param, pattern = BAD[case]
    if stream and "stream" not in body:
        body = {**body, "stream": True}
    response = client.post(path, json=body)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert re.search(pattern, error["message"]), error["message"]


def test_fields_that_change_nothing_are_taken(client: httpx.Client) -> None:
    plain = client.post(CHAT, json=chat()).json()["choices"][0]
    neutral = {
        "user": "someone", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "tools": [], "seed": None,
        "response_format": {"type": "text"}, "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": None,
        "n": 1, "logprobs": False, "modalities": ["text"], "parallel_tool_calls": None, "top_p": 1,
    }  # fmt: skip
    answer = client.post(CHAT, json=chat(**neutral))
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0] == plain
    # top_p 0 is in OpenAI's range: the most likely token alone
    drawn = client.post(CHAT, json=chat(temperature=2, top_p=0)).json()["choices"][0]
    assert drawn["message"] == plain["message"]


def test_only_the_last_message_is_read(client: httpx.Client) -> None:
    alone = client.post(CHAT, json=chat("привет", repetition_penalty=3.0)).json()["choices"]
    history = [
        {"role": "system", "content": "Translate into Russian."},
        {"role": "user", "content": "мир"},
        {"role": "assistant", "content": "peace"},
        {"role": "user", "content": "привет"},
    ]
    assert client.post(CHAT, json=chat(messages=history, repetition_penalty=3.0)).json()["choices"] == alone


def test_stop_is_a_text_even_when_it_looks_like_json(client: httpx.Client) -> None:
    text = client.post(COMPLETIONS, json=completion(repetition_penalty=3.0, max_tokens=20)).json()["choices"][0]["text"]
    as_json = f'["{text[3]}"]'
    found = client.post(COMPLETIONS, json=completion(repetition_penalty=3.0, max_tokens=20, stop=as_json)).json()
    assert found["choices"][0]["text"] == text


def test_other_errors_have_the_format_too(client: httpx.Client) -> None:
    for method, path, content, status, kind, code in (
        ("GET", "/openai/v1/nowhere", None, 404, "not_found_error", None),
        ("GET", COMPLETIONS, None, 405, "invalid_request_error", None),
        ("POST", CHAT, b"{", 400, "invalid_request_error", None),
        ("POST", CHAT, b"x" * 70_000, 413, "invalid_request_error", "request_too_large"),
        ("GET", "/openai/v1/models/a/b", None, 404, "not_found_error", "model_not_found"),
    ):
        response = client.request(method, path, content=content)
        assert response.status_code == status, response.text
        error = response.json()["error"]
        assert (error["type"], error["code"]) == (kind, code)
        assert error["message"]
