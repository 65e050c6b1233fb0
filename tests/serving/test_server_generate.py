"""/generate of the real server process: its own names for parameters, the same answers as v2, every bad input."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

INFER = "/v2/models/prometheus-mini/infer"


def infer(client: httpx.Client, text: str, **parameters: Any) -> dict[str, Any]:
    """The outputs of the same request by v2."""
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": [text]}
    response = client.post(INFER, json={"inputs": [tensor], "parameters": {"target": "en", **parameters}})
    assert response.status_code == 200, response.text
    return {output["name"]: output["data"][0] for output in response.json()["outputs"]}


def test_generate(client: httpx.Client) -> None:
    body = {"prompt": "привет", "target": "en", "max_length": 5}
    answer = client.post("/generate", json=body).json()
    expected = infer(client, "привет", max_tokens=5)
    assert answer["text"] == expected["text_output"]
    assert answer["finish_reason"] == expected["finish_reason"]
    assert answer["prompt_tokens"] == 8
    assert answer["tokens_used"] == 8 + expected["generated_tokens"]
    assert 0 < answer["generation_time"] < 5
    assert answer["model_info"]["family"] == "seq2seq"
    many = client.post("/generate", json={**body, "do_sample": True, "num_return_sequences": 4, "seed": 7}).json()
    again = client.post("/generate", json={**body, "temperature": 1.0, "num_return_sequences": 4, "seed": 7}).json()
    assert len(many["texts"]) == 4
    assert many["texts"] == again["texts"]
    assert len(set(many["texts"])) > 1
    greedy = client.post("/generate", json={**body, "do_sample": False, "temperature": 1.5}).json()
    assert greedy["text"] == answer["text"]


def test_beams_and_length_penalty(client: httpx.Client) -> None:
    body = {"prompt": "привет, мир", "target": "en", "max_length": 12}
    one = client.post("/generate", json={**body, "num_beams": 4}).json()
    assert one["text"]
    assert client.post("/generate", json={**body, "beams": 4}).json()["text"] == one["text"]
    wanted = infer(client, "привет, мир", max_tokens=12, beams=4, length_penalty=1.0)
    assert wanted["text_output"] == one["text"]
    shortest = client.post("/generate", json={**body, "num_beams": 4, "length_penalty": -5.0}).json()
    assert shortest["generated_tokens"] <= one["generated_tokens"]


GENERATE_BAD: dict[str, tuple[Any, str]] = {
    "no prompt": ({"target": "en"}, "prompt.*missing"),
    "prompt a list": ({"prompt": ["a"], "target": "en"}, "prompt.*string"),
    "unknown field": ({"prompt": "a", "target": "en", "temprature": 1}, "temprature.*unknown.*temperature"),
    "prompt too long": ({"prompt": "a" * 100, "target": "en", "split": False}, "prompt.*102 tokens.*64"),
    "split text": ({"prompt": "a", "target": "en", "split": "no"}, "split: must be true or false"),
    "both lengths": ({"prompt": "a", "target": "en", "max_length": 3, "max_tokens": 3}, "max_length.*max_tokens"),
    "max_length text": ({"prompt": "a", "target": "en", "max_length": "x"}, "max_length.*integer"),
    "do_sample text": ({"prompt": "a", "target": "en", "do_sample": "yes"}, "do_sample.*true or false"),
    "contradiction": ({"prompt": "a", "target": "en", "do_sample": True, "temperature": 0}, "do_sample.*temperature 0"),
    "too many samples": ({"prompt": "a", "target": "en", "num_return_sequences": 9}, "num_return_sequences.*8.*9"),
    "too many beams": ({"prompt": "a", "target": "en", "num_beams": 9}, "num_beams: must be between 1 and 8"),
    "two widths": ({"prompt": "a", "target": "en", "num_beams": 2, "beams": 2}, "num_beams.*same as beams"),
    "samples of beams": (
        {"prompt": "a", "target": "en", "num_beams": 2, "num_return_sequences": 2},
        "num_return_sequences: beam search gives one text; leave out num_beams",
    ),
    "max_length too high": ({"prompt": "a", "target": "en", "max_length": 65}, "max_length: must be between 1 and 64"),
    "greedy samples": ({"prompt": "a", "target": "en", "num_return_sequences": 2}, "num_return_sequences.*greedy"),
    "no object": ([1], "body.*object"),
}


@pytest.mark.parametrize("case", GENERATE_BAD)
def test_generate_bad_input(client: httpx.Client, case: str) -> None:
    body, pattern = GENERATE_BAD[case]
    response = client.post("/generate", json=body)
    assert response.status_code == 400, response.text
    assert re.search(pattern, response.json()["error"]), response.json()["error"]
