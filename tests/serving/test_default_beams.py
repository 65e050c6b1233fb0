"""A bundle that says to search with 4 beams: doors do for whole texts; what streams or is drawn stays as it was."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from model.bundle import Bundle, copy_bundle
from prometheus_mini import load
from serving.engine import Engine, EngineConfig
from serving.kserve.sdk import pb
from serving.translate.texts import Translator
from tests.helpers.engines import LIVELY, talkative_bundle
from tests.helpers.servers import ROOT, Server, start_server
from tests.helpers.streams import PATHS, speak, text_of, unary
from tests.helpers.triton_streams import KeptStream, joined

TEXT, TARGET = "Hello there", "ru"
INFER = "/v2/models/prometheus-mini/infer"


@dataclass(frozen=True)
class Known:
    """What the model writes of TEXT."""

    greedy: str
    searched: str


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As bundles were before they had defaults."""
    return talkative_bundle(tmp_path_factory.mktemp("plain") / "bundle", **LIVELY["seq2seq"])


@pytest.fixture(scope="module")
def searching(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("searching") / "bundle"
    copy_bundle(plain, out, {}, {}, beams=4)
    return out


@pytest.fixture(scope="module")
def known(plain: Path) -> Known:
    with load(plain) as model:
        found = Known(model.translate(TEXT, to=TARGET), model.translate(TEXT, to=TARGET, beams=4))
    assert found.greedy != found.searched, "else these tests could not fail"
    return found


@pytest.fixture(scope="module")
def server(searching: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_server(searching, tmp_path_factory.mktemp("server") / "log") as running:
        yield running


def generate(server: Server, **parameters: Any) -> str:
    return server.post("/generate", {"prompt": TEXT, "target": TARGET, **parameters}).json()["text"]


def infer(server: Server, **parameters: Any) -> str:
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": [TEXT]}
    answer = server.post(INFER, {"inputs": [tensor], "parameters": {"target": TARGET, **parameters}})
    return answer.json()["outputs"][0]["data"][0]


def libretranslate(server: Server, **parameters: Any) -> str:
    body = {"q": TEXT, "source": "en", "target": TARGET, **parameters}
    return server.post("/translate", body).json()["translatedText"]


def deepl(server: Server, **parameters: Any) -> str:
    body = {"text": [TEXT], "target_lang": TARGET.upper(), **parameters}
    return server.post("/v2/translate", body).json()["translations"][0]["text"]


def rpc_request(**parameters: Any) -> Any:
    tensor = {
        "name": "text_input", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [TEXT.encode()]}
    }  # fmt: skip
    words = {"target": {"string_param": TARGET}, **{name: {"int64_param": one} for name, one in parameters.items()}}
    return pb.ModelInferRequest(model_name="prometheus-mini", inputs=[tensor], parameters=words)


def infer_grpc(server: Server, **parameters: Any) -> str:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        answer = call(rpc_request(**parameters), timeout=60)
    return answer.raw_output_contents[0][4:].decode()


def infer_stream(server: Server, **parameters: Any) -> str:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        return joined(KeptStream(channel).ask(rpc_request(**parameters).SerializeToString()))["text_output"][0]


def whole(api: str, server: Server, **parameters: Any) -> str:
    path, body = unary(api, TEXT, target=TARGET, **parameters)
    answer = server.post(path, body)
    assert answer.status_code == 200, answer.text
    return text_of(api, answer.json())


@pytest.mark.parametrize("door", [generate, infer, infer_grpc, libretranslate, deepl])
def test_a_text_that_is_wanted_whole_is_searched_for(server: Server, known: Known, door: Any) -> None:
    assert door(server) == known.searched
    assert door(server, beams=4) == known.searched
    assert door(server, beams=1) == known.greedy, "who asks for 1 gets it"


@pytest.mark.parametrize("api", PATHS)
def test_a_stream_is_greedy_unless_it_asks(server: Server, known: Known, api: str) -> None:
    assert whole(api, server) == known.searched
    assert whole(api, server, beams=1) == known.greedy
    with httpx.Client(base_url=server.url, timeout=60) as client:
        told = speak(client, api, TEXT, target=TARGET)
        assert told.text == known.greedy and len(told.pieces) > 3, "it comes token by token"
        asked = speak(client, api, TEXT, target=TARGET, beams=4)
        assert asked.text == known.searched and len(asked.pieces) == 1


def test_a_grpc_stream_is_greedy_unless_it_asks(server: Server, known: Known) -> None:
    assert infer_stream(server) == known.greedy
    assert infer_stream(server, beams=4) == known.searched


def test_what_a_search_cannot_do_is_done_as_before(server: Server, known: Known) -> None:
    drawn = generate(server, temperature=2.0, seed=1)
    assert drawn == generate(server, temperature=2.0, seed=1, beams=1) not in (known.searched, known.greedy)
    assert generate(server, temperature=0) == known.searched, "nothing is drawn, and that is all it says"
    assert generate(server, do_sample=False) == known.searched
    assert generate(server, num_beams=1) == known.greedy
    assert len(generate(server, ignore_eos=True, max_tokens=60)) > len(known.greedy)
    several = server.post("/generate", {"prompt": TEXT, "temperature": 1.0, "num_return_sequences": 2}).json()
    assert len(several["texts"]) == 2
    greedy = server.post("/generate", {"prompt": TEXT, "num_return_sequences": 2}).json()["error"]
    assert greedy == "num_return_sequences: greedy gives one and the same text; set a temperature above 0"
    body = {"model": "prometheus-mini", "prompt": TEXT, "target": TARGET}
    told = server.post("/v1/completions", {**body, "logprobs": 1}).json()["choices"][0]
    assert told["text"] == known.greedy and told["logprobs"]["tokens"]
    refused = server.post("/v1/completions", {**body, "use_beam_search": False}).json()["choices"][0]
    assert refused["text"] == known.greedy
    others = server.post("/translate", {"q": TEXT, "source": "en", "target": TARGET, "alternatives": 2}).json()
    assert others["translatedText"] == known.searched and others["alternatives"]


def test_a_file_is_searched_for(server: Server, searching: Path, known: Known) -> None:
    files = {"file": ("a.txt", TEXT.encode())}
    answer = httpx.post(
        f"{server.url}/translate_file", files=files, data={"source": "en", "target": TARGET}, timeout=60
    )
    assert httpx.get(answer.json()["translatedFileUrl"], timeout=60).text == known.searched
    command = [sys.executable, "-m", "serving.translate", "--bundle", str(searching), "--to", TARGET]
    done = subprocess.run(command, input=f"{TEXT}\n", cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"{known.searched}\n"


def test_the_server_says_what_it_does(server: Server, plain: Path, tmp_path: Path) -> None:
    info = server.get("/info").json()
    assert info["defaults"] == {"temperature": 0, "max_tokens": 128, "beams": 4}
    assert info["versions"]["bundle_format"] == 3
    assert server.get("/v2/models/prometheus-mini").json()["properties"]["default_beams"] == "4"
    with start_server(plain, tmp_path / "log") as older:
        assert older.get("/info").json()["defaults"]["beams"] == 1
        assert older.get("/v2/models/prometheus-mini").json()["properties"]["default_beams"] == "1"


def test_python_searches_where_it_waits(plain: Path, searching: Path, known: Known) -> None:
    with load(searching) as model:
        assert model.translate(TEXT, to=TARGET) == known.searched
        assert model.translate([TEXT, TEXT], to=TARGET) == [known.searched] * 2
        assert model.translate(TEXT, to=TARGET, beams=1) == known.greedy
        assert "".join(model.stream(TEXT, to=TARGET)) == known.greedy
        assert "".join(model.stream(TEXT, to=TARGET, beams=4)) == known.searched
        assert len(model.translate(TEXT, temperature=2.0, alternatives=3)) == 3
    with load(plain) as model:
        assert model.translate(TEXT, to=TARGET) == known.greedy


def test_the_terminal_answers_as_it_goes(searching: Path, known: Known) -> None:
    command = [sys.executable, "-m", "serving.chat", "--bundle", str(searching)]
    lines = f"/to {TARGET}\n{TEXT}\n/set beams 4\n{TEXT}\n"
    done = subprocess.run(command, input=lines, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"{known.greedy}\n{known.searched}\n"


def test_an_engine_without_room_for_the_beams_is_greedy(searching: Path, known: Known) -> None:
    with Engine(Bundle.load(searching), EngineConfig(slots=3)) as engine:
        assert engine.default_beams == 1
        assert Translator(engine, TARGET)([TEXT]) == [known.greedy]
