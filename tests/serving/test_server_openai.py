"""OpenAI's API on the real server process: every field that cannot be honoured is refused by name, in its format."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

COMPLETIONS, CHAT = "/openai/v1/completions", "/v1/chat/completions"
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
    "prompts too long": (COMPLETIONS, completion(prompt=["a" * 99] * 2, split=False), "prompt", r"\[0\]: has 101"),
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
    "too long": (CHAT, chat("a" * 100, split=False), "messages", "102 tokens.*at most 64"),
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
    "ignore_eos of beams": (COMPLETIONS, completion(ignore_eos=True, beams=2), "ignore_eos", "a beam search ends"),
    "ignore_eos": (COMPLETIONS, completion(ignore_eos=1), "ignore_eos", "true or false"),
    "min_tokens": (COMPLETIONS, completion(min_tokens=3), "min_tokens", "cannot be honoured"),
    "verbosity": (CHAT, chat(verbosity="low"), "verbosity", "cannot be honoured"),
    "max_tokens of nothing": (CHAT, chat(max_tokens=0), "max_tokens", "between 1 and 64, not 0"),
    "max_tokens of words": (CHAT, chat(max_tokens="many"), "max_tokens", "must be an integer"),
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


NEUTRAL: dict[str, list[Any]] = {
    "user": ["someone", ""], "metadata": [{"a": "b"}, {}], "safety_identifier": ["x"], "prompt_cache_key": ["x"],
    "store": [False], "service_tier": ["auto", "default", "flex"], "tools": [[]], "tool_choice": ["none", "auto"],
    "functions": [[]], "function_call": ["none", "auto"], "parallel_tool_calls": [True, False],
    "response_format": [{"type": "text"}], "modalities": [["text"]], "reasoning_effort": ["none", "high"],
    "verbosity": ["medium"], "prediction": [{"type": "content", "content": "hello"}], "seed": [0],
    "presence_penalty": [0, 0.0], "frequency_penalty": [0, 0.0], "repetition_penalty": [1, 1.0],
    "logit_bias": [{}, {"5": 0}],
    "n": [1], "best_of": [1], "echo": [False], "suffix": [""], "top_p": [1, 1.0], "top_k": [0, -1], "min_p": [0],
    "temperature": [0], "stop": [[], ""], "logprobs": [False], "top_logprobs": [0], "stream": [False],
    "stream_options": [{}, {"include_usage": True}], "ignore_eos": [False], "min_tokens": [0], "priority": [0, 3],
    "skip_special_tokens": [True], "spaces_between_special_tokens": [True], "stop_token_ids": [[]],
    "use_beam_search": [False], "include_stop_str_in_output": [False], "add_special_tokens": [True],
    "chat_template_kwargs": [{}], "length_penalty": [1.0], "return_token_ids": [False], "request_id": ["x"],
}  # fmt: skip


@pytest.mark.parametrize("field", NEUTRAL)
@pytest.mark.parametrize("body", [completion, chat], ids=["completion", "chat"])
def test_fields_that_change_nothing_are_taken(client: httpx.Client, field: str, body: Any) -> None:
    path = CHAT if body is chat else COMPLETIONS
    plain = client.post(path, json=body()).json()["choices"]
    for value in [*NEUTRAL[field], None]:
        answer = client.post(path, json=body(**{field: value}))
        assert answer.status_code == 200, (value, answer.text)
        assert answer.json()["choices"] == plain, value


def test_a_top_p_of_0_is_the_likeliest_token(client: httpx.Client) -> None:
    plain = client.post(CHAT, json=chat()).json()["choices"][0]
    drawn = client.post(CHAT, json=chat(temperature=2, top_p=0)).json()["choices"][0]
    assert drawn["message"] == plain["message"]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_max_tokens_beyond_the_room_is_cut_to_it(client: httpx.Client, name: str) -> None:
    most = chat(repetition_penalty=3.0)
    del most["max_tokens"]
    answers = [client.post(CHAT, json={**most, name: length}).json() for length in (64, 65, 256, 10**30)]
    assert {answer["usage"]["completion_tokens"] for answer in answers} == {64}
    assert {answer["choices"][0]["finish_reason"] for answer in answers} == {"length"}
    assert len({answer["choices"][0]["message"]["content"] for answer in answers}) == 1


def test_ignore_eos_makes_answers_of_a_known_length(client: httpx.Client) -> None:
    for seed in range(60):
        drawn = completion(temperature=8.0, seed=seed, max_tokens=60)
        ended = client.post(COMPLETIONS, json=drawn).json()
        if ended["choices"][0]["finish_reason"] == "stop":
            break
    else:
        pytest.fail("no seed of 60 ended by itself")
    longer = client.post(COMPLETIONS, json={**drawn, "ignore_eos": True}).json()
    assert longer["choices"][0]["text"].startswith(ended["choices"][0]["text"])
    assert (longer["choices"][0]["finish_reason"], longer["usage"]["completion_tokens"]) == ("length", 60)


def test_counts_of_a_stream_run_along_where_they_are_asked_for(client: httpx.Client) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True, "include_obfuscation": True}
    body = completion(prompt=["привет", "мир"], stream=True, stream_options=options, n=2, temperature=1)
    text = client.post(COMPLETIONS, json=body).text
    events = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n")[:-2]]
    counts = [event["usage"]["completion_tokens"] for event in events]
    assert counts == sorted(counts)
    assert counts[0] >= 1
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == events[-2]["usage"]
    assert events[-1]["usage"]["prompt_tokens"] == 8 + 5
    body["stream_options"] = {"continuous_usage_stats": True}  # of a usage that nobody asked for
    assert '"usage"' not in client.post(COMPLETIONS, json=body).text


def test_models_are_openais_and_kserves(client: httpx.Client) -> None:
    for prefix in ("/v1", "/openai/v1"):
        listed = client.get(f"{prefix}/models").json()
        assert (listed["object"], listed["data"][0]["id"], listed["models"]) == ("list", MODEL, [MODEL])
        one = client.get(f"{prefix}/models/{MODEL}").json()
        assert (one["id"], one["object"], one["name"], one["ready"]) == (MODEL, "model", MODEL, True)
    predict = client.post(f"/v1/models/{MODEL}:predict", json={"instances": ["a"]})
    assert predict.status_code == 404
    assert predict.json() == {"error": f"protocol v1 is not served; POST /v2/models/{MODEL}/infer or /generate"}


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
