"""A model of running text draws at 0.8 where nothing else is asked for, on every protocol; 0 stays possible."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from serving.kserve.sdk import pb
from tests.helpers.bundles import tiny_bundle
from tests.helpers.servers import Server, start_server

MODEL = "prometheus-mini"


@pytest.fixture(scope="module")
def text_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("text")
    introduction: Any = {
        "about": "", "rows": 40, "characters": 900, "sources": ["novel.txt"],
        "examples": [{"text": "Once upon a", "language": ""}],
    }  # fmt: skip
    bundle = tiny_bundle(folder / "bundle", "decoder", introduction=introduction)
    with start_server(bundle, folder / "log") as running:
        yield running


def _post(path: str, body: dict[str, Any], read: Callable[[Any], str]) -> Callable[..., str]:
    def ask(server: Server, **parameters: Any) -> str:
        nested = {"parameters": parameters} if path.startswith("/v2/") else parameters
        answer = server.post(path, {**body, **nested})
        assert answer.status_code == 200, answer.text
        return read(answer.json())

    return ask


def _grpc(server: Server, **parameters: Any) -> str:
    words = {name: pb.InferParameter(string_param=str(value)) for name, value in parameters.items()}
    text = pb.InferTensorContents(bytes_contents=[b"hello"])
    tensor = pb.ModelInferRequest.InferInputTensor(name="text_input", datatype="BYTES", shape=[1], contents=text)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        answer = infer(pb.ModelInferRequest(model_name=MODEL, inputs=[tensor], parameters=words), timeout=60)
    output = answer.outputs[0]
    raw = output.contents.bytes_contents[0] if output.contents.bytes_contents else answer.raw_output_contents[0][4:]
    return raw.decode()


TENSOR = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["hello"]}
DOORS: dict[str, Callable[..., str]] = {
    "generate": _post("/generate", {"prompt": "hello"}, lambda answer: answer["text"]),
    "openai": _post("/v1/completions", {"model": MODEL, "prompt": "hello"}, lambda a: a["choices"][0]["text"]),
    "chat": _post(
        "/v1/chat/completions",
        {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]},
        lambda answer: answer["choices"][0]["message"]["content"],
    ),
    "v2": _post(f"/v2/models/{MODEL}/infer", {"inputs": [TENSOR]}, lambda answer: answer["outputs"][0]["data"][0]),
    "v2 generate": _post(f"/v2/models/{MODEL}/generate", {"text_input": "hello"}, lambda a: a["text_output"]),
    "grpc": _grpc,
}


@pytest.mark.parametrize("door", DOORS)
def test_text_is_drawn_at_its_default_on_every_protocol(text_server: Server, door: str) -> None:
    ask, few = DOORS[door], {"max_tokens": 20}
    left_out = ask(text_server, seed=7, **few)
    assert left_out == ask(text_server, seed=7, temperature=0.8, **few)
    greedy = ask(text_server, temperature=0, **few)
    assert greedy == ask(text_server, temperature=0, **few)
    assert left_out != greedy


def test_info_tells_the_defaults_and_what_the_bundle_says_of_itself(text_server: Server) -> None:
    info = text_server.get("/info").json()
    assert info["defaults"] == {"temperature": 0.8, "max_tokens": 128, "beams": 1}
    assert info["about"] == "Trained on 40 pieces of text, 900 characters from novel.txt."
    assert info["introduction"]["examples"] == [{"text": "Once upon a", "language": ""}]
    assert info["versions"]["bundle_format"] == 2
