"""The real server process, on every door: what stays as it is, sources that are found out, HTML, and terms."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from model.config import ConfigError
from model.text.spans import kept
from serving.kserve.sdk import pb
from serving.ways import Terms
from tests.helpers.servers import Server, start_server, wait_until

INFER = "/v2/models/prometheus-mini/infer"
TEXT = "Откройте %s, {name} и https://example.com/a?b=c. Напишите на a.b@example.com!\n- `код` &amp; <b>мир</b>"
Door = Callable[..., dict[str, Any]]


def generate(server: Server, text: str, **parameters: Any) -> dict[str, Any]:
    return server.post("/generate", {"prompt": text, **parameters}).json()


def generate_stream(server: Server, text: str, **parameters: Any) -> dict[str, Any]:
    response = server.post("/generate_stream", {"prompt": text, **parameters})
    events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
    return {**events[-1], "text": "".join(event["text"] for event in events)}


def completions(server: Server, text: str, **parameters: Any) -> dict[str, Any]:
    body = {"model": "prometheus-mini", "prompt": text, **parameters}
    return server.post("/v1/completions", body).json()["choices"][0]


def chat(server: Server, text: str, **parameters: Any) -> dict[str, Any]:
    body = {"model": "prometheus-mini", "messages": [{"role": "user", "content": text}], **parameters}
    choice = server.post("/v1/chat/completions", body).json()["choices"][0]
    return {**choice, "text": choice["message"]["content"]}


def open_inference(server: Server, text: str, **parameters: Any) -> dict[str, Any]:
    body = {"text_input": text, "parameters": parameters}
    answer = server.post("/v2/models/prometheus-mini/generate", body).json()
    return {**answer, "text": answer["text_output"]}


def infer(server: Server, text: str, **parameters: Any) -> dict[str, Any]:
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": [text]}
    answer = server.post(INFER, {"inputs": [tensor], "parameters": parameters}).json()
    facts = {name.removesuffix("[0]"): value for name, value in answer.get("parameters", {}).items()}
    return {"text": answer["outputs"][0]["data"][0], **facts}


def infer_grpc(server: Server, text: str, **parameters: Any) -> dict[str, Any]:
    kinds = {int: "int64_param", str: "string_param", bool: "bool_param"}
    words = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in parameters.items()}
    request = pb.ModelInferRequest(
        model_name="prometheus-mini",
        inputs=[
            {"name": "text_input", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [text.encode()]}}
        ],
        parameters={name: {kinds[type(value)]: value} for name, value in words.items()},
    )
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        answer = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=60)
    facts: dict[str, Any] = {name.removesuffix("[0]"): value.string_param for name, value in answer.parameters.items()}
    if "confidence" in facts:
        facts["confidence"] = float(facts["confidence"])
    return {"text": answer.raw_output_contents[0][4:].decode(), **facts}


DOORS: list[Door] = [generate, generate_stream, completions, chat, open_inference, infer, infer_grpc]
every_door = pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)


@every_door
def test_what_is_no_language_stays(server: Server, door: Door) -> None:
    """The model knows nothing: it copies none of it."""
    text = door(server, TEXT, target="en", max_tokens=8)["text"]
    assert kept(TEXT, text) == (8, 8)
    assert "\n- `код` &amp; <b>" in text


@every_door
def test_a_source_that_is_found_out_is_told(server: Server, door: Door) -> None:
    found = door(server, "привет, мир http://example.com", source="auto", max_tokens=8)
    assert (found["source"], found["confidence"]) == ("ru", 1.0)
    assert "note" not in found
    told = door(server, "привет, мир http://example.com", source="ru", target="en", max_tokens=8)
    assert "source" not in told
    assert found["text"] == told["text"]


@every_door
def test_a_text_in_its_targets_language_comes_back_with_a_note(server: Server, door: Door) -> None:
    found = door(server, "Привет,  мир!\n", source="auto", target="ru")
    assert (found["text"], found["source"], found["confidence"]) == ("Привет,  мир!\n", "ru", 1.0)
    assert found["note"] == "the text is in ru already"
    unsure = door(server, "привет Hello", source="auto", target="en", max_tokens=8)
    assert unsure["confidence"] < 0.75
    assert "note" not in unsure


@every_door
def test_html_keeps_its_tags(server: Server, door: Door) -> None:
    page = '<p class="a">привет <b>мир</b></p>\n<ul><li>да<li>нет</ul><pre>мир</pre><img alt="мир">1 &lt; 2'
    text = door(server, page, format="html", target="en", max_tokens=8)["text"]
    words = "[^<>а-я]*"
    pattern = f'<p class="a">{words}<b>{words}</b>{words}</p>\n<ul><li>{words}</li><li>{words}</li></ul>'
    assert re.fullmatch(pattern + f'<pre>мир</pre><img alt="{words}">1 &lt; 2', text), text


@every_door
def test_terms_of_a_request_are_used(server: Server, door: Door) -> None:
    text = door(server, "мир и серверы. Сервер", target="en", glossary={"сервер": "Wolke", "мир": "Erde"}, max_tokens=8)
    assert sorted(re.findall("Wolke|Erde", text["text"])) == ["Erde", "Wolke", "Wolke"]


def test_a_source_that_is_given_is_believed(server: Server) -> None:
    found = generate(server, "hello", source="ru", target="en", max_tokens=8)
    assert found["text"] == generate(server, "hello", target="en", max_tokens=8)["text"]
    assert generate(server, "hello", source="ru", max_tokens=8)["text"] == found["text"]
    assert generate(server, "привет", source="ru", target="ru")["note"] == "the text is in ru already"


def test_texts_of_a_call_are_told_apart(server: Server) -> None:
    texts = ["привет", "hello", "7"]
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [3], "data": texts}
    body = {"inputs": [tensor], "parameters": {"source": "auto", "target": "en", "max_tokens": 4}}
    assert server.post(INFER, body).json()["parameters"] == {
        "source[0]": "ru",
        "confidence[0]": 1.0,
        "source[1]": "en",
        "confidence[1]": 1.0,
        "note[1]": "the text is in en already",
    }


def test_a_text_that_nothing_tells_of(server: Server) -> None:
    found = generate(server, "日本", source="auto", target="en", max_tokens=4)
    assert (found["source"], found["confidence"]) == (None, 0.0)
    refused = server.post("/generate", {"prompt": "日本", "source": "auto"})
    assert refused.status_code == 400
    assert "the text does not tell its language" in refused.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "de"}, "source: unknown language 'de'; known: auto, ru, en"),
        ({"source": "auto", "split": False}, "source: is for texts that are cut into pieces"),
        ({"format": "markdown"}, "format: must be text or html, not 'markdown'"),
        ({"format": "html", "split": False}, "format: is for texts that are cut into pieces"),
        ({"format": "html", "prompt": "<i>" * 300 + "а"}, "prompt: the HTML has elements nested more than"),
        ({"glossary": 7}, "glossary: must be an object of terms"),
        ({"glossary": "{"}, "glossary: must be an object of terms"),
        ({"glossary": {"a": 1}}, "glossary: must be an object of terms"),
        ({"glossary": [["a", "b", "c"]]}, "glossary: must be an object of terms"),
        ({"glossary": {"!": "b"}}, "glossary: the term '!' of '!' must have a word"),
        ({"glossary": {str(i): "b" for i in range(1001)}}, "glossary: has 1001 terms, more than 1000"),
        ({"glossary": {"a": "b"}, "split": False}, "glossary: is for texts that are cut into pieces"),
    ],
)
def test_what_is_refused(server: Server, fields: dict[str, Any], message: str) -> None:
    refused = server.post("/generate", {"prompt": "мир", "target": "en", **fields})
    assert refused.status_code == 400
    assert message in refused.json()["error"]


def test_a_stop_string_ends_a_text_with_placeholders(server: Server) -> None:
    whole = generate(server, "мир %s и {x}", target="en", max_tokens=16)
    assert kept("мир %s и {x}", whole["text"]) == (2, 2)
    first = next(filter(str.isalpha, whole["text"]))
    ended = generate(server, "мир %s и {x}", target="en", max_tokens=16, stop=first)
    assert first not in ended["text"]
    assert ended["finish_reason"] == "stop_sequence"


@pytest.mark.parametrize(
    "fields", [{"prompt": "мир %s и {x} " * 20}, {"prompt": "<p>мир <b>и</b> x", "format": "html"}]
)
def test_who_leaves_while_attempts_run_frees_the_slots(slow: Path, tmp_path: Path, fields: dict[str, str]) -> None:
    with start_server(slow, tmp_path / "log", "--slots", "4") as server:
        body = json.dumps({"target": "en", "max_tokens": 2000, **fields}).encode()
        head = f"POST /generate_stream HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.http_port)) as caller:
            caller.sendall(head.encode() + body)
            wait_until(lambda: server.engine()["running"] > 0, "an attempt that runs")
        wait_until(lambda: server.engine()["running"] == server.engine()["waiting"] == 0, "no request in the engine")
        assert server.post("/generate", {"prompt": "мир", "target": "en", "max_tokens": 2}).status_code == 200


def test_log_probabilities_are_of_what_the_model_wrote(server: Server) -> None:
    body = {"model": "prometheus-mini", "prompt": "мир %s", "target": "en", "logprobs": 0, "max_tokens": 8}
    choice = server.post("/v1/completions", body).json()["choices"][0]
    assert "".join(choice["logprobs"]["tokens"]).startswith(choice["text"])


@pytest.fixture(scope="module")
def with_terms(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("terms")
    (folder / "terms.tsv").write_text("ru\ten\n# ours\nсервер\tWolke\nмир\tErde\n", "utf-8")
    with start_server(tiny, folder / "log", "--glossary", str(folder / "terms.tsv")) as server:
        yield server


def test_terms_of_the_server_are_used_both_ways_and_those_of_a_request_win(with_terms: Server) -> None:
    text = generate(with_terms, "серверы и мир", target="en", max_tokens=8)["text"]
    assert re.findall("Wolke|Erde", text) == ["Wolke", "Erde"]
    assert "сервер" in generate(with_terms, "the Wolke is", target="ru", max_tokens=8)["text"]
    text = generate(with_terms, "серверы и мир", target="en", max_tokens=8, glossary={"мир": "Frieden"})["text"]
    assert re.findall("Wolke|Frieden|Erde", text) == ["Wolke", "Frieden"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "the first line must name two of the bundle's languages: ru, en"),
        ("ru\tde\n", "the first line must name two of the bundle's languages: ru, en"),
        ("ru\ten\n\nсервер host\n", "terms.tsv:3: must be two columns with a tab between them"),
        ("ru\ten\n!\thost\n", "terms.tsv:2: the term '!' of '!' must have a word"),
    ],
)
def test_a_file_of_terms_that_cannot_be_used(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "terms.tsv").write_text(lines, "utf-8")
    with pytest.raises(ConfigError, match=re.escape(message)):
        Terms(str(tmp_path / "terms.tsv"), ["ru", "en"])
    with pytest.raises(ConfigError, match="cannot be read"):
        Terms(str(tmp_path / "none.tsv"), ["ru", "en"])
