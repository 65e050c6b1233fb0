"""The v2 protocol over REST of the real server process: answers, every bad input, batches, what they count for."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import re
import struct
from typing import Any

import httpx
import pytest

INFER = "/v2/models/prometheus-mini/infer"
PARAMETERS = {"target": "en", "max_tokens": 6}


def request_of(texts: list[Any], **parameters: Any) -> dict[str, Any]:
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
    return {"inputs": [tensor], "parameters": {**PARAMETERS, **parameters}}


def outputs_of(response: httpx.Response) -> dict[str, list]:
    assert response.status_code == 200, response.text
    return {output["name"]: output["data"] for output in response.json()["outputs"]}


def binary_body(raw: bytes, count: int, size: int | None = None, **extra: Any) -> tuple[bytes, dict[str, str]]:
    size = len(raw) if size is None else size
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [count], "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor], "parameters": PARAMETERS, **extra}).encode()
    return head + raw, {"Inference-Header-Content-Length": str(len(head))}


def packed(*items: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def test_v2_json(client: httpx.Client) -> None:
    response = client.post(INFER, json={**request_of(["привет", "hello"]), "id": "42"})
    outputs = outputs_of(response)
    assert response.json()["id"] == "42"
    assert response.json()["model_name"] == "prometheus-mini"
    assert set(outputs) == {"text_output", "finish_reason", "prompt_tokens", "generated_tokens"}
    assert len(outputs["text_output"]) == 2
    assert all(outputs["text_output"])
    assert outputs["prompt_tokens"] == [8, 7]  # <2en>, one token a character, </s>
    assert set(outputs["finish_reason"]) <= {"length", "eos_token"}
    assert all(0 < n <= 6 for n in outputs["generated_tokens"])


def test_v2_without_content_type_and_versioned(client: httpx.Client) -> None:
    body = json.dumps(request_of(["привет"])).encode()
    expected = outputs_of(client.post(INFER, json=request_of(["привет"])))
    plain = client.post("/v2/models/prometheus-mini/versions/1/infer", content=body)
    assert "content-type" not in plain.request.headers
    assert outputs_of(plain) == expected
    zipped = client.post(INFER, content=gzip.compress(body), headers={"content-encoding": "gzip"})
    assert outputs_of(zipped) == expected


def test_v2_binary_in_and_out(client: httpx.Client) -> None:
    expected = outputs_of(client.post(INFER, json=request_of(["привет", "ab"])))
    asked = [
        {"name": "generated_tokens", "parameters": {"binary_data": True}},
        {"name": "text_output", "parameters": {"binary_data": True}},
        {"name": "finish_reason"},
    ]
    body, headers = binary_body(packed("привет".encode(), b"ab"), 2, outputs=asked)
    response = client.post(INFER, content=body, headers=headers)
    assert response.status_code == 200, response.text
    length = int(response.headers["inference-header-content-length"])
    head, tail = json.loads(response.content[:length]), response.content[length:]
    assert [output["name"] for output in head["outputs"]] == ["generated_tokens", "text_output", "finish_reason"]
    assert head["outputs"][2]["data"] == expected["finish_reason"]
    assert list(struct.unpack("<2i", tail[:8])) == expected["generated_tokens"]
    assert tail[8:] == packed(*(text.encode() for text in expected["text_output"]))


def test_parameters_change_the_answer_and_text_numbers_count(client: httpx.Client) -> None:
    def text(**parameters: Any) -> str:
        return outputs_of(client.post(INFER, json=request_of(["привет, мир"], max_tokens=20, **parameters)))[
            "text_output"
        ][0]

    # Random weights repeat one character for ever; the penalty makes the order of the others visible.
    varied = text(repetition_penalty=3)
    assert len(set(varied)) > 10
    assert text(repetition_penalty="3.0") == varied
    assert text(repetition_penalty=3, target="ru") != varied
    assert text(repetition_penalty=3, author="guide") != varied
    stopped = text(repetition_penalty=3, stop=[varied[5:7]])
    assert stopped == varied[: varied.index(varied[5:7])]
    assert text(repetition_penalty=3, stop=json.dumps(["zz", varied[5:7]])) == varied  # a text that looks like JSON
    greedy = text(temperature=0)
    assert text() == greedy
    assert text(frequency_penalty=2.0) != greedy
    assert text(temperature=2.0, seed=1) == text(temperature="2.0", seed="1")
    assert len({text(temperature=2.0, seed=seed) for seed in range(4)}) > 1
    assert text(temperature=2.0, seed=3, top_k=1) == greedy
    assert text(priority=0, timeout=5, sequence_id=3, sequence_start=True, sequence_end=False) == greedy


V2_BAD: dict[str, tuple[Any, str]] = {
    "empty batch": (request_of([]), "text_input.*empty"),
    "too many prompts": (request_of(["a"] * 9), "text_input.*9 prompts.*at most 8"),
    "no inputs": ({"parameters": {}}, "inputs.*missing"),
    "inputs is no list": ({"inputs": {"name": "text_input"}}, "inputs.*list"),
    "inputs hold no objects": ({"inputs": ["text_input"]}, "inputs.*objects"),
    "no input at all": ({"inputs": []}, "inputs.*text_input"),
    "two inputs": ({"inputs": request_of(["a"])["inputs"] * 2}, "inputs.*exactly one"),
    "wrong tensor name": (
        {"inputs": [{**request_of(["a"])["inputs"][0], "name": "text"}]},
        "inputs.*'text'.*text_input",
    ),
    "wrong tensor type": ({"inputs": [{**request_of(["a"])["inputs"][0], "datatype": "INT32"}]}, "text_input.*BYTES"),
    "type missing": ({"inputs": [{"name": "text_input", "shape": [1], "data": ["a"]}]}, "text_input.*datatype"),
    "shape missing": ({"inputs": [{"name": "text_input", "datatype": "BYTES", "data": ["a"]}]}, "text_input.*shape"),
    "two dimensions": ({"inputs": [{**request_of(["a"])["inputs"][0], "shape": [1, 1]}]}, "text_input.*shape.*N"),
    "negative shape": ({"inputs": [{**request_of(["a"])["inputs"][0], "shape": [-1]}]}, "text_input.*shape"),
    "shape of text": ({"inputs": [{**request_of(["a"])["inputs"][0], "shape": ["1"]}]}, "text_input.*shape"),
    "shape too large": ({"inputs": [{**request_of(["a"])["inputs"][0], "shape": [3]}]}, "text_input.*3 elements.*1"),
    "no data": ({"inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [1]}]}, "text_input.*data"),
    "data of numbers": (request_of([1]), "text_input.*element 0.*string"),
    "nested data": (request_of([["a"]]), "text_input.*element 0.*string"),
    "null data": (request_of([None]), "text_input.*element 0.*string"),
    "text over the limit": (request_of(["a" * 100], split=False), "text_input: has 102 tokens.*64"),
    "texts over the limit": (request_of(["a" * 100, "b" * 200], split=False), r"text_input\[0\].*102 tokens.*64"),
    "text far over the limit": (request_of(["a" * 5000], split=False), "text_input.*5000 characters"),
    "id of a number": ({**request_of(["a"]), "id": 4}, "id.*string"),
    "unknown output": ({**request_of(["a"]), "outputs": [{"name": "logits"}]}, "outputs.*'logits'.*text_output"),
    "classes of an output": (
        {**request_of(["a"]), "outputs": [{"name": "text_output", "parameters": {"classification": 3}}]},
        "outputs.*'classification' cannot be honoured",
    ),
    "shared memory": (
        {"inputs": [{**request_of(["a"])["inputs"][0], "parameters": {"shared_memory_region": "x"}}]},
        "inputs.*'shared_memory_region' cannot be honoured",
    ),
    "outputs no list": ({**request_of(["a"]), "outputs": "text_output"}, "outputs.*list"),
    "binary_data no boolean": (
        {**request_of(["a"]), "outputs": [{"name": "text_output", "parameters": {"binary_data": 1}}]},
        "binary_data.*true or false",
    ),
    "parameters no object": ({**request_of(["a"]), "parameters": [1]}, "parameters.*object"),
    "unknown parameter": (request_of(["a"], tempature=1), "tempature.*unknown.*temperature"),
    "temperature too high": (request_of(["a"], temperature=99), "temperature.*10.*99"),
    "temperature below 0": (request_of(["a"], temperature=-0.1), "temperature.*0"),
    "temperature no number": (request_of(["a"], temperature="hot"), "temperature.*number.*hot"),
    "temperature not finite": (request_of(["a"], temperature="nan"), "temperature.*number"),
    "temperature a list": (request_of(["a"], temperature=[1]), "temperature.*number"),
    "top_p too high": (request_of(["a"], top_p=1.5), "top_p.*1"),
    "top_k fraction": (request_of(["a"], top_k=1.5), "top_k.*integer"),
    "top_k negative": (request_of(["a"], top_k=-1), "top_k.*0"),
    "max_tokens 0": (request_of(["a"], max_tokens=0), "max_tokens.*1.*64"),
    "max_tokens too high": (request_of(["a"], max_tokens=65), "max_tokens.*64.*65"),
    "max_tokens a boolean": (request_of(["a"], max_tokens=True), "max_tokens.*integer"),
    "max_tokens huge": (request_of(["a"], max_tokens=10**30), "max_tokens"),
    "repetition_penalty 0": (request_of(["a"], repetition_penalty=0), "repetition_penalty.*at least 0.01"),
    "seed negative": (request_of(["a"], seed=-1), "seed.*0"),
    "stop a number": (request_of(["a"], stop=5), "stop.*string"),
    "stop empty": (request_of(["a"], stop=""), "stop.*1 to"),
    "stop too many": (request_of(["a"], stop=["x"] * 50), "stop.*50.*at most"),
    "several texts": (request_of(["a"], n=2), "n: v2 returns one output for each input"),
    "n no number": (request_of(["a"], n="many"), "n: must be an integer"),
    "too many beams": (request_of(["a"], beams=9), "beams.*between 1 and 8"),
    "beams that draw": (request_of(["a"], beams=2, temperature=1), "beams: a beam search draws nothing"),
    "length_penalty": (request_of(["a"], length_penalty=6), "length_penalty.*at most 5"),
    "frequency_penalty": (request_of(["a"], frequency_penalty=-3), "frequency_penalty.*at least -2"),
    "logprobs have no tensor": (request_of(["a"], logprobs=1), "logprobs: unknown parameter"),
    "unknown target": (request_of(["a"], target="fr"), "target.*'fr'.*ru.*en"),
    "target missing": (request_of(["hi да"], target=None), "target.*ru.*en"),
    "unknown author": (request_of(["a"], author="Nobody"), "author.*'Nobody'.*guide"),
    "target an object": (request_of(["a"], target={"a": 1}), "target.*string"),
}


@pytest.mark.parametrize("case", V2_BAD)
def test_v2_bad_input(client: httpx.Client, case: str) -> None:
    body, pattern = V2_BAD[case]
    response = client.post(INFER, json=body)
    assert response.status_code == 400, response.text
    assert list(response.json()) == ["error"]
    assert re.search(pattern, response.json()["error"]), response.json()["error"]


RAW_BAD: dict[str, tuple[bytes, dict[str, str], str]] = {
    "malformed JSON": (b'{"inputs": [', {}, "body.*JSON"),
    "empty body": (b"", {}, "body.*JSON"),
    "JSON not UTF-8": (b'{"inputs": "\xff\xfe"}', {}, "body.*UTF-8"),
    "half a surrogate pair": (json.dumps(request_of(["\ud800"])).encode(), {}, "body|text_input"),
    "header length too large": (b"{}", {"Inference-Header-Content-Length": "99"}, "99 bytes.*2"),
    "header length no number": (b"{}", {"Inference-Header-Content-Length": "x"}, "inference-header.*number"),
    "binary not UTF-8": (*binary_body(packed(b"\xff\xfe"), 1), "text_input.*element 0.*UTF-8"),
    "binary truncated": (*binary_body(packed(b"hello")[:-2], 1), "text_input.*5 bytes, 3 are left"),
    "binary without length": (*binary_body(b"\x01", 1), "text_input.*ends before"),
    "binary too long": (*binary_body(packed(b"a", b"b"), 1), "text_input.*left over"),
    "binary size wrong": (*binary_body(packed(b"hello"), 1, size=99), "binary_data_size.*99.*9 bytes"),
    "binary size negative": (*binary_body(packed(b"hello"), 1, size=-9), "binary_data_size"),
    "binary empty batch": (*binary_body(b"", 0), "text_input.*empty"),
    "more than gzip": (
        gzip.compress(json.dumps(request_of(["a"])).encode()) + b"more",
        {"Content-Encoding": "gzip"},
        "body.*goes on after its gzip stream",
    ),
    "not gzip": (b"{}", {"Content-Encoding": "gzip"}, "body.*gzip"),
    "unknown encoding": (b"{}", {"Content-Encoding": "br"}, "content-encoding.*gzip"),
}


@pytest.mark.parametrize("case", RAW_BAD)
def test_v2_bad_bytes(client: httpx.Client, case: str) -> None:
    body, headers, pattern = RAW_BAD[case]
    response = client.post(INFER, content=body, headers=headers)
    assert response.status_code == 400, response.text
    assert re.search(pattern, response.json()["error"]), response.json()["error"]


def test_connection_survives_errors(server: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=20)
    connection.connect()
    first = connection.sock
    bodies = [json.dumps(body).encode() for body, _ in V2_BAD.values()] + [body for body, _, _ in RAW_BAD.values()]
    bodies += [b"x" * 300_000, json.dumps(request_of(["a"])).encode()]
    for body in bodies:
        connection.request("POST", INFER, body)
        response = connection.getresponse()
        response.read()
        assert response.status in (200, 400, 413)
        assert connection.sock is first, f"closed after {body[:60]!r}"
    assert response.status == 200


def test_concurrent_requests_get_the_answers_they_get_alone(server: Any) -> None:
    bodies = [request_of(["привет мир"[: 3 + i % 7] + "abc"[: i % 4]], max_tokens=4 + i % 40) for i in range(32)]
    bodies += [request_of(["мир"], max_tokens=30, temperature=1.5, seed=i) for i in range(8)]

    async def at_once() -> list[Any]:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as many:
            return [outputs_of(r) for r in await asyncio.gather(*(many.post(INFER, json=body) for body in bodies))]

    with httpx.Client(base_url=server.url, timeout=30) as one:
        alone = [outputs_of(one.post(INFER, json=body)) for body in bodies]
    assert asyncio.run(at_once()) == alone


def figures(client: httpx.Client) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line.startswith("slm_"))}


def test_metrics_move(client: httpx.Client) -> None:
    model = 'model_name="prometheus-mini"'
    client.post(INFER, json=request_of(["a"], max_tokens=0))
    before = figures(client)
    outputs = outputs_of(client.post(INFER, json=request_of(["привет", "ab"], max_tokens=9)))
    assert client.post(INFER, json=request_of(["a"], max_tokens=0)).status_code == 400
    after = figures(client)

    def moved(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert moved(f"slm_prompt_tokens_total{{{model}}}") == sum(outputs["prompt_tokens"])
    assert moved(f"slm_generation_tokens_total{{{model}}}") == sum(outputs["generated_tokens"])
    assert moved(f"slm_e2e_request_latency_seconds_count{{{model}}}") == 2
    assert moved(f"slm_time_to_first_token_seconds_count{{{model}}}") == 2
    assert moved(f"slm_inter_token_latency_seconds_count{{{model}}}") == sum(outputs["generated_tokens"]) - 2
    assert moved(f'slm_request_rejected_total{{{model},reason="InvalidRequest"}}') == 1
    assert sum(moved(name) for name in after if name.startswith("slm_request_success_total")) == 2
    assert after[f"slm_num_requests_running{{{model}}}"] == 0
    assert f'slm_inter_token_latency_seconds_bucket{{le="0.0002",{model}}}' in after
