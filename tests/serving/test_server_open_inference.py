"""The Open Inference generate calls on the real server process: answers, details, statuses of their spec."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.helpers.streams import events_of

MODEL = "/v2/models/prometheus-mini"
FINISH = {"length", "eos_token", "stop_sequence"}


def asked(text: str = "привет", **parameters: Any) -> dict[str, Any]:
    return {"text_input": text, "parameters": {"target": "en", "max_tokens": 20, **parameters}}


def streamed(client: httpx.Client, body: dict[str, Any]) -> list[dict[str, Any]]:
    with client.stream("POST", f"{MODEL}/generate_stream", json=body) as response:
        assert response.status_code == 200, response.read()
        return list(events_of(response.iter_lines()))


@pytest.mark.parametrize("prefix", [MODEL, f"{MODEL}/versions/1"])
def test_generate(client: httpx.Client, prefix: str) -> None:
    expected = client.post("/generate", json={"prompt": "привет", "target": "en", "max_tokens": 20}).json()
    answer = client.post(f"{prefix}/generate", json=asked()).json()
    assert answer == {"text_output": expected["text"], "model_name": "prometheus-mini", "model_version": "1"}
    assert client.post(f"{prefix}/generate", json={"text_input": "привет"}).status_code == 200


def test_details(client: httpx.Client) -> None:
    for parameters in ({}, {"temperature": 1.5, "seed": 2}, {"repetition_penalty": 3.0, "stop": ["1", "а", "c"]}):
        answer = client.post(f"{MODEL}/generate", json=asked(details=True, **parameters)).json()
        details = answer["details"]
        assert details["finish_reason"] in FINISH
        assert all(set(token) == {"id", "text", "logprob", "special"} for token in details["logprobs"])
        assert all(token["logprob"] <= 0 and not token["special"] for token in details["logprobs"])
        assert "".join(token["text"] for token in details["logprobs"]).startswith(answer["text_output"][:3])
        # The stream tells the same, one event a token; its details come with the end.
        events = streamed(client, asked(details=True, **parameters))
        assert "".join(event["text_output"] for event in events) == answer["text_output"]
        assert [event["token"] for event in events if not event["token"]["special"]] == details["logprobs"]
        assert ["details" in event for event in events] == [False] * (len(events) - 1) + [True]
        assert events[-1]["details"] == {"finish_reason": details["finish_reason"], "token": events[-1]["token"]}
    assert "details" not in client.post(f"{MODEL}/generate", json=asked(details=False)).json()


def test_a_text_that_ends_by_itself_has_its_details(client: httpx.Client) -> None:
    """Its last event is the end-of-sequence token, which is no part of the text."""
    for seed in range(60):
        parameters = {"temperature": 8.0, "seed": seed, "max_tokens": 60, "details": True}
        details = client.post(f"{MODEL}/generate", json=asked(**parameters)).json()["details"]
        if details["finish_reason"] == "eos_token":
            *tokens, last = streamed(client, asked(**parameters))
            assert [event["token"] for event in tokens] == details["logprobs"]
            assert last["details"]["finish_reason"] == "eos_token"
            assert last["token"]["special"]
            assert last["token"]["text"] == ""
            assert last["token"]["logprob"] < 0
            return
    pytest.fail("no seed of 60 ended by itself")


BAD: dict[str, tuple[Any, str]] = {
    "no text": ({"parameters": {}}, "text_input: is missing"),
    "text a number": ({"text_input": 5}, "text_input: must be a string, not int"),
    "too long": (asked("a" * 100, split=False), "text_input: has 102 tokens.*64"),
    "parameters a list": ({"text_input": "a", "parameters": []}, "parameters: must be a JSON object"),
    "a field in the wrong place": ({"text_input": "a", "max_tokens": 3}, "max_tokens: unknown field"),
    "a typo": (asked(tempature=1), "tempature: unknown parameter; known: details, max_tokens"),
    "details of text": (asked(details="yes"), "details: must be true or false"),
    "details of beams": (asked(details=True, beams=2), "details: are not told by a beam search"),
    "max_tokens": (asked(max_tokens=0), "max_tokens: must be between 1 and 64"),
    "temperature": (asked(temperature=-1), "temperature: must be at least 0"),
    "top_p": (asked(top_p=1.5), "top_p: must be above 0 and at most 1"),
    "stop": (asked(stop=[4]), "stop: must be a string or a list"),
    "stop of one": (asked(stop="a"), "stop: must be a list of strings, not a string"),
    "number as text": (asked(temperature="1"), "temperature: must be a number, not a string"),
    "no object": ([1], "body: must be a JSON object"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(client: httpx.Client, case: str) -> None:
    body, pattern = BAD[case]
    whole = client.post(f"{MODEL}/generate", json=body)
    assert whole.status_code == 422, whole.text
    assert list(whole.json()) == ["error"]
    assert re.search(pattern, whole.json()["error"]), whole.json()["error"]
    stream = client.post(f"{MODEL}/versions/1/generate_stream", json=body)
    assert stream.status_code == 422
    assert stream.headers["content-type"].startswith("text/event-stream")  # as the spec has it, for errors too
    assert list(events_of(iter(stream.text.splitlines()))) == [whole.json()]


def test_other_models_and_versions(client: httpx.Client) -> None:
    for path, words in (("/v2/models/other", "'other' is not served"), (f"{MODEL}/versions/7", "no version '7'")):
        response = client.post(f"{path}/generate", json=asked())
        assert response.status_code == 404
        assert words in response.json()["error"]


def test_top_p_of_0_is_the_most_likely_token(client: httpx.Client) -> None:
    greedy = client.post(f"{MODEL}/generate", json=asked()).json()
    assert client.post(f"{MODEL}/generate", json=asked(temperature=2.0, top_p=0)).json() == greedy
