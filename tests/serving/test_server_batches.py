"""Each text of a call has its own outcome, on every protocol of the real server: one without letters comes back as it
is, one in fault says so, and neither decides for the others."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client import CollectorRegistry

from model.bundle import Bundle
from serving.config import ServerConfig
from serving.engine import Engine, EngineConfig
from serving.engine.sampling import SamplingState
from serving.errors import InvalidRequest, Overloaded, ServingError
from serving.kserve.sdk import pb
from serving.metrics import Metrics
from serving.service import TextService
from serving.texts import TextRequest, has_letters
from tests.helpers.bundles import tiny_bundle
from tests.helpers.servers import Server, start_server, wait_until
from tests.helpers.streams import PATHS, events_of, speak, text_of, unary

MODEL = "prometheus-mini"
AS_THEY_ARE = [
    "",
    " ",
    " \n\t",
    "2024",
    "12:30",
    "12.05.2024, 7:00–9:30",
    "♪",
    "---",
    "…",
    "😀👍",
    "€ 1,50 (−3 %)",
    "½ ²",
    "\0",
    "\u0301",
]
LONG = "a" * 100


def completions(client: httpx.Client, texts: list[str], **parameters: Any) -> list[tuple[str, str, str]]:
    """(text, how it ended, why it failed) of each, by OpenAI's API."""
    answer = client.post("/v1/completions", json={"model": MODEL, "prompt": texts, **parameters})
    assert answer.status_code == 200, answer.text
    return [
        (one["text"], one["finish_reason"], one.get("error", {}).get("message", "")) for one in answer.json()["choices"]
    ]


def completions_streamed(client: httpx.Client, texts: list[str], **parameters: Any) -> list[tuple[str, str, str]]:
    body = {"model": MODEL, "prompt": texts, "stream": True, **parameters}
    told: dict[int, list[str]] = {index: ["", "", ""] for index in range(len(texts))}
    with client.stream("POST", "/v1/completions", json=body) as response:
        assert response.status_code == 200, response.read()
        *events, done = events_of(response.iter_lines())
    assert done is None
    for event in events:
        for choice in event["choices"]:
            one = told[choice["index"]]
            assert not one[1], "more after the end"
            one[0] += choice["text"]
            one[1] = choice["finish_reason"] or ""
            one[2] = choice.get("error", {}).get("message", "")
    return [tuple(one) for one in told.values()]


def v2_body(texts: list[str], **parameters: Any) -> dict[str, Any]:
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
    return {"inputs": [tensor], "parameters": parameters}


def packed(texts: list[str]) -> bytes:
    return b"".join(struct.pack("<I", len(item)) + item for item in map(str.encode, texts))


def unpacked(raw: bytes) -> list[str]:
    found = []
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        found.append(raw[4 : 4 + length].decode())
        raw = raw[4 + length :]
    return found


def together(texts: list[str], reasons: list[str], errors: dict[str, str]) -> list[tuple[str, str, str]]:
    """v2's outputs in the words of OpenAI's."""
    finish = {"eos_token": "stop"}
    rows = zip(texts, reasons, strict=True)
    return [(text, finish.get(why, why), errors.get(f"error[{i}]", "")) for i, (text, why) in enumerate(rows)]


def v2_json(client: httpx.Client, texts: list[str], **parameters: Any) -> list[tuple[str, str, str]]:
    answer = client.post(f"/v2/models/{MODEL}/infer", json=v2_body(texts, **parameters))
    assert answer.status_code == 200, answer.text
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    return together(outputs["text_output"], outputs["finish_reason"], answer.json().get("parameters", {}))


def v2_binary(client: httpx.Client, texts: list[str], **parameters: Any) -> list[tuple[str, str, str]]:
    raw = packed(texts)
    body = v2_body(texts, binary_data_output=True, **parameters)
    body["inputs"][0] |= {"parameters": {"binary_data_size": len(raw)}}
    del body["inputs"][0]["data"]
    head = json.dumps(body | {"outputs": [{"name": "text_output"}, {"name": "finish_reason"}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = client.post(f"/v2/models/{MODEL}/infer", content=head + raw, headers=headers)
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    told, tail = json.loads(answer.content[:length]), answer.content[length:]
    size = told["outputs"][0]["parameters"]["binary_data_size"]
    return together(unpacked(tail[:size]), unpacked(tail[size:]), told.get("parameters", {}))


def v2_grpc(client: httpx.Client, texts: list[str], **parameters: Any) -> list[tuple[str, str, str]]:
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    kinds = {int: "int64_param", str: "string_param", bool: "bool_param"}
    request = pb.ModelInferRequest(
        model_name=MODEL,
        inputs=[{"name": "text_input", "datatype": "BYTES", "shape": [len(texts)]}],
        raw_input_contents=[packed(texts)],
        parameters={name: {kinds[type(value)]: value} for name, value in parameters.items()},
    )
    with grpc.insecure_channel(f"127.0.0.1:{client.headers['grpc-port']}") as channel:
        answer = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)
    raw = dict(zip([output.name for output in answer.outputs], answer.raw_output_contents, strict=True))
    errors = {name: value.string_param for name, value in answer.parameters.items()}
    return together(unpacked(raw["text_output"]), unpacked(raw["finish_reason"]), errors)


Batch = Callable[..., list[tuple[str, str, str]]]
BATCHES: list[Batch] = [completions, completions_streamed, v2_json, v2_binary, v2_grpc]
every_batch = pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: batch.__name__)


@pytest.fixture
def client(server: Server, client: httpx.Client) -> httpx.Client:
    client.headers["grpc-port"] = str(server.grpc_port)
    return client


@every_batch
def test_texts_without_letters_come_back_beside_others(client: httpx.Client, batch: Batch) -> None:
    (alone,) = batch(client, ["привет"], max_tokens=5)
    for start in range(0, len(AS_THEY_ARE), 7):
        some = AS_THEY_ARE[start : start + 7]
        found = batch(client, [*some, "привет"], max_tokens=5)  # no target: only "привет" has to tell its own
        assert found == [*((text, "stop", "") for text in some), alone]


@every_batch
def test_a_text_in_fault_decides_for_no_other(client: httpx.Client, batch: Batch) -> None:
    texts = ["привет", LONG, "мир", "hi да", "7"]
    alone = [batch(client, [text], max_tokens=5)[0] for text in (texts[0], texts[2])]
    first, long, second, mixed, number = batch(client, texts, max_tokens=5, split=False)
    assert [first, second] == alone
    assert number == ("7", "stop", "")
    assert long[:2] == mixed[:2] == ("", "error")
    assert "[1]: has 102 tokens, this model takes at most 64" in long[2]
    assert "target: the text does not tell its language" in mixed[2]


@every_batch
def test_what_holds_for_all_is_refused_for_all(client: httpx.Client, batch: Batch) -> None:
    for texts in (["привет", "7"], ["7"], ["7", ""]):
        for fields in ({"temperature": 99}, {"target": "fr"}, {"author": "Nobody"}, {"heat": 1}):
            with pytest.raises((AssertionError, grpc.RpcError), match="|".join(fields)):
                batch(client, texts, **fields)
    with pytest.raises((AssertionError, grpc.RpcError), match=r"\[0\]: has 102 tokens"):
        batch(client, [LONG, "b" * 200], split=False)


@pytest.mark.parametrize("binary", [False, True])
def test_an_element_that_is_no_text_decides_for_no_other(client: httpx.Client, binary: bool) -> None:
    body = v2_body(["привет", None, "7"], max_tokens=4)
    head, tail, words = json.dumps(body).encode(), b"", "element 1 must be a string, not NoneType"
    if binary:
        tail, words = packed(["привет"]) + struct.pack("<I", 2) + b"\xff\xfe" + packed(["7"]), "element 1 is not UTF-8"
        del body["inputs"][0]["data"]
        body["inputs"][0]["parameters"] = {"binary_data_size": len(tail)}
        head = json.dumps(body).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = client.post(f"/v2/models/{MODEL}/infer", content=head + tail, headers=headers).json()
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    assert outputs["finish_reason"] == ["length", "error", "eos_token"]
    assert outputs["text_output"][1:] == ["", "7"]
    assert outputs["generated_tokens"] == [4, 0, 0]
    assert answer["parameters"] == {"error[1]": f"text_input: {words}"}


@pytest.mark.parametrize("api", PATHS)
@pytest.mark.parametrize("text", ["2024", "", "♪ ♪"])
def test_one_text_without_letters(client: httpx.Client, api: str, text: str) -> None:
    before = client.get("/health").json()["engine"]
    path, body = unary(api, text, max_tokens=5)
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert text_of(api, answer.json()) == text
    found = speak(client, api, text)
    assert found.text == text
    assert found.finish == {"generate": "eos_token", "open_inference": None}.get(api, "stop")
    assert found.done is (api in ("completions", "chat"))
    if api in ("completions", "chat"):
        assert answer.json()["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    if api == "generate":
        assert (answer.json()["finish_reason"], answer.json()["tokens_used"]) == ("eos_token", 0)
    after = client.get("/health").json()["engine"]
    assert after["prefills"] == before["prefills"], "the model was run"


def test_samples_and_logprobs_of_a_text_without_letters(client: httpx.Client) -> None:
    body = {"model": MODEL, "prompt": ["7", "мир"], "n": 2, "temperature": 1, "seed": 1, "logprobs": 2, "max_tokens": 3}
    choices = client.post("/v1/completions", json=body).json()["choices"]
    assert [choice["text"] for choice in choices[:2]] == ["7", "7"]
    nothing = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    assert [choice["logprobs"] for choice in choices[:2]] == [nothing, nothing]
    assert all(choice["logprobs"]["tokens"] for choice in choices[2:])
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "7"}], "logprobs": True, "top_logprobs": 2}
    (choice,) = client.post("/v1/chat/completions", json=chat).json()["choices"]
    assert (choice["message"]["content"], choice["logprobs"]) == ("7", {"content": [], "refusal": None})
    drawn = client.post("/generate", json={"prompt": "7", "num_return_sequences": 3, "do_sample": True}).json()
    assert drawn["texts"] == ["7"] * 3
    detailed = {"text_input": "7", "parameters": {"details": True}}
    answer = client.post(f"/v2/models/{MODEL}/generate", json=detailed).json()
    assert answer["details"] == {"finish_reason": "eos_token", "logprobs": []}
    (event,) = speak(client, "open_inference", "7", details=True).events
    assert event["details"]["finish_reason"] == "eos_token"
    assert event["token"]["special"]


def test_what_a_letter_is() -> None:
    assert not any(map(has_letters, AS_THEY_ARE))
    assert all(map(has_letters, ["a", "5 kg", "№ пять", "日本", "ひ", "한", "ไ", "अ", "א", "ا", "e\u0301", "5 µ", "ª"]))


def test_a_model_that_continues_text_is_given_whatever_there_is(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", family="decoder")
    with start_server(bundle, tmp_path / "log") as server, httpx.Client(base_url=server.url, timeout=30) as client:
        texts = ["", "2024", "а" * 60, "а" * 63, "а" * 64]
        found = completions(client, texts, max_tokens=9, temperature=0)
        alone = [completions(client, [text], max_tokens=9, temperature=0)[0] for text in texts[:3]]
        assert found[:3] == alone
        assert [len(text) for text, *_ in alone] == [9, 9, 3], "max_tokens is cut to the room"
        assert [reason for _, reason, _ in found] == ["length", "length", "length", "error", "error"]
        assert "prompt[3]: has 64 tokens, this model takes at most 63" in found[3][2]
        assert "prompt[4]: has 65 tokens" in found[4][2]
        # Where a number that does not fit is refused, it is so for the text that it does not fit.
        told = v2_json(client, texts[:3], max_tokens=9, temperature=0)
        assert [reason for _, reason, _ in told] == ["length", "length", "error"]
        assert "max_tokens: 9 new tokens after a prompt of 61 exceed the context of 64" in told[2][2]


@pytest.fixture
def service(tiny: Path) -> Iterator[TextService]:
    bundle = Bundle.load(tiny)
    with Engine(bundle, EngineConfig(slots=2, threads=1, queue=2)) as engine:
        yield TextService(engine, ServerConfig(bundle=str(tiny)), Metrics(MODEL, CollectorRegistry()))


def asked(*texts: str, **parameters: Any) -> TextRequest:
    return TextRequest(list(texts), {"target": "en", "max_tokens": 8, **parameters}, names={"text": "prompt"})


async def streamed(service: TextService, request: TextRequest) -> dict[int, Any]:
    """The results of a stream."""
    results = {}
    async with aclosing(service.stream(request)) as events:
        async for index, event in events:
            if event.result is not None:
                results[index] = event.result
    return results


def test_a_fault_inside_the_engine_is_one_texts_own(service: TextService, monkeypatch: pytest.MonkeyPatch) -> None:
    request = asked("привет", "мир", "7", temperature=1.0, seed=5)
    expected = [result.text for result in asyncio.run(service.complete(request))]
    choose = SamplingState.sample
    seen: list[SamplingState] = []

    def fails_for_one(self: SamplingState, logits: Any) -> int:
        if self not in seen:
            seen.append(self)
        if seen.index(self) == 1:
            raise RuntimeError("secret")
        return choose(self, logits)

    monkeypatch.setattr(SamplingState, "sample", fails_for_one)
    for run in (lambda: asyncio.run(service.complete(request)), lambda: asyncio.run(streamed(service, request))):
        seen.clear()
        results = run()
        assert [results[0].text, results[1].text, results[2].text] == [expected[0], "", "7"]
        assert [results[i].finish_reason for i in range(3)] == ["length", "error", "eos_token"]
        assert "could not be finished" in str(results[1].error)
    seen[:] = [None, None]  # type: ignore[list-item]
    monkeypatch.setattr(SamplingState, "sample", lambda self, logits: 1 / 0)
    for run in (
        lambda: service.complete(asked("a", "b", temperature=1)),
        lambda: streamed(service, asked("a", "b", temperature=1)),
    ):
        with pytest.raises(ServingError, match="could not be finished"):
            asyncio.run(run())


def test_a_queue_that_is_too_full_refuses_the_call_and_starts_none_of_it(service: TextService) -> None:
    crowd = asked(*["привет"] * 40, "7", max_tokens=60)

    def idle() -> bool:
        stats = service.engine.stats()
        return not stats["waiting"] and not stats["running"]

    for run in (service.complete, lambda request: streamed(service, request)):
        with pytest.raises(Overloaded):
            asyncio.run(run(crowd))
        wait_until(idle, "what was started has ended")
    assert asyncio.run(service.complete(asked("привет")))[0].generated_tokens > 0


def test_a_call_of_faults_alone_raises_the_first(service: TextService) -> None:
    for run in (service.complete, lambda request: streamed(service, request)):
        with pytest.raises(InvalidRequest, match=r"prompt\[0\]: has 102 tokens"):
            asyncio.run(run(asked(LONG, LONG, split=False)))
