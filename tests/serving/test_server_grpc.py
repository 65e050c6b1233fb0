"""gRPC of the real server process, with hand-made messages: answers, every bad input, limits, closed repository."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest

from serving.kserve.sdk import pb
from tests.helpers.triton_streams import texts_of


@pytest.fixture(scope="module")
def stub(server: Any) -> Iterator[Any]:
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield GRPCInferenceServiceStub(channel)


def packed(*items: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def message(
    raw: list[bytes] | None = None,
    shape: tuple[int, ...] = (1,),
    name: str = "text_input",
    datatype: str = "BYTES",
    contents: dict[str, list] | None = None,
    parameters: dict[str, Any] | None = None,
    **fields: Any,
) -> pb.ModelInferRequest:
    if raw is None and contents is None:
        raw = [packed(b"abc")]
    tensor = {"name": name, "datatype": datatype, "shape": shape, "contents": contents}
    given = {"target": {"string_param": "en"}, "max_tokens": {"int64_param": 4}, **(parameters or {})}
    fields = {"model_name": "prometheus-mini", "inputs": [tensor], **fields}
    return pb.ModelInferRequest(raw_input_contents=raw, parameters={k: v for k, v in given.items() if v}, **fields)


def test_infer_equals_rest(stub: Any, server: Any) -> None:
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [2], "data": ["привет", "ab"]}
    body = {"inputs": [tensor], "parameters": {"target": "en", "max_tokens": 4}}
    rest = httpx.post(f"{server.url}/v2/models/prometheus-mini/infer", json=body).json()
    expected = {output["name"]: output["data"] for output in rest["outputs"]}
    texts = ["привет".encode(), b"ab"]
    for request in (
        message([packed(*texts)], (2,), id="7"),
        message(shape=(2,), contents={"bytes_contents": texts}, id="7"),
        message([packed(*texts)], (2,), id="7", model_version="1"),
    ):
        response = stub.ModelInfer(request)
        raw = dict(zip([output.name for output in response.outputs], response.raw_output_contents, strict=True))
        assert texts_of(raw["text_output"]) == expected["text_output"]
        assert texts_of(raw["finish_reason"]) == expected["finish_reason"]
        assert list(struct.unpack("<2i", raw["prompt_tokens"])) == expected["prompt_tokens"]
        assert list(struct.unpack("<2i", raw["generated_tokens"])) == expected["generated_tokens"]
        assert (response.id, response.model_name, response.model_version) == ("7", "prometheus-mini", "1")
        assert [list(output.shape) for output in response.outputs] == [[2]] * 4


def test_output_selection_and_ids(stub: Any) -> None:
    response = stub.ModelInfer(message(outputs=[{"name": "finish_reason"}]))
    assert [output.name for output in response.outputs] == ["finish_reason"]
    assert len(response.raw_output_contents) == 1
    assert response.id


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no input": ({"inputs": []}, "inputs.*text_input"),
    "wrong name": ({"name": "text"}, "inputs.*'text'.*text_input"),
    "wrong type": ({"datatype": "INT32", "raw": [b"\0" * 4]}, "text_input.*BYTES.*INT32"),
    "unknown type": ({"datatype": "STRING"}, "text_input.*BYTES.*STRING"),
    "empty batch": ({"shape": (0,), "raw": [b""]}, "text_input.*empty"),
    "empty batch in contents": ({"shape": (0,), "contents": {"bytes_contents": []}}, "text_input.*empty"),
    "nothing at all": ({"raw": []}, "text_input.*1 elements.*0"),
    "two dimensions": ({"shape": (1, 1)}, "text_input.*shape"),
    "no shape": ({"shape": ()}, "text_input.*shape"),
    "negative shape": ({"shape": (-1,)}, "text_input.*shape"),
    "huge shape": ({"shape": (2**60,)}, "text_input.*at most 8"),
    "too many prompts": ({"shape": (9,), "raw": [packed(*[b"a"] * 9)]}, "text_input.*9 prompts.*at most 8"),
    "not UTF-8": ({"raw": [packed(b"\xff\xfe")]}, "text_input.*element 0.*UTF-8"),
    "not UTF-8 in contents": ({"contents": {"bytes_contents": [b"\xff"]}}, "text_input.*element 0.*UTF-8"),
    "truncated": ({"raw": [packed(b"hello")[:-1]]}, "text_input.*5 bytes, 4 are left"),
    "left over": ({"raw": [packed(b"a", b"b")]}, "text_input.*left over"),
    "too few": ({"shape": (3,)}, "text_input.*element 1 of 3"),
    "wrong contents": ({"contents": {"int_contents": [1]}}, "text_input.*bytes_contents.*int_contents"),
    "both contents": ({"contents": {"bytes_contents": [b"a"]}, "raw": [packed(b"a")]}, "text_input.*both"),
    "raw for two": ({"raw": [packed(b"a")] * 2}, "raw_input_contents.*2"),
    "text over the limit": (
        {"raw": [packed(b"a" * 100)], "parameters": {"split": {"bool_param": False}}},
        "text_input.*102 tokens.*64",
    ),
    "unknown output": ({"outputs": [{"name": "logits"}]}, "outputs.*'logits'"),
    "classes of an output": (
        {"outputs": [{"name": "text_output", "parameters": {"classification": {"int64_param": 3}}}]},
        "outputs.*'classification' cannot be honoured",
    ),
    "unknown parameter": ({"parameters": {"heat": {"int64_param": 1}}}, "heat.*unknown.*temperature"),
    "out of range": ({"parameters": {"temperature": {"string_param": "99"}}}, "temperature.*10.*99"),
    "wrong type of value": ({"parameters": {"top_k": {"bool_param": True}}}, "top_k.*integer"),
    "several texts": ({"parameters": {"n": {"int64_param": 2}}}, "n: v2 returns one output for each input"),
    "too many beams": ({"parameters": {"beams": {"int64_param": 9}}}, "beams: must be between 1 and 8"),
    "beams that draw": (
        {"parameters": {"beams": {"int64_param": 2}, "temperature": {"string_param": "1"}}},
        "beams: a beam search draws nothing",
    ),
    "no target": ({"raw": [packed("hi да".encode())], "parameters": {"target": None}}, "target.*ru.*en"),
    "unknown target": ({"parameters": {"target": {"string_param": "fr"}}}, "target.*'fr'"),
    "parameter without value": ({"parameters": {"seed": {"bool_param": None}}}, "seed"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(stub: Any, case: str) -> None:
    fields, pattern = BAD[case]
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(message(**fields))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT, caught.value.details()
    assert re.search(pattern, caught.value.details()), caught.value.details()


def test_unknown_model_version_and_size(stub: Any) -> None:
    for request, code, words in (
        (message(model_name="other"), grpc.StatusCode.NOT_FOUND, "other"),
        (message(model_version="7"), grpc.StatusCode.NOT_FOUND, "no version '7'"),
        (message([packed(b"a" * 70_000)]), grpc.StatusCode.RESOURCE_EXHAUSTED, "65536"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request)
        assert caught.value.code() == code
        assert words in caught.value.details()


def test_repository_is_closed(stub: Any) -> None:

    for call in (
        lambda: stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="prometheus-mini")),
        lambda: stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="prometheus-mini")),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert stub.ModelReady(pb.ModelReadyRequest(name="prometheus-mini")).ready
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    assert stub.ServerLive(pb.ServerLiveRequest()).live


def test_calls_that_are_not_served_are_named(server: Any) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        service = "/inference.GRPCInferenceService/"
        for call, words in (
            (lambda: channel.unary_unary(f"{service}RepositoryIndex")(b""), "RepositoryIndex is not served here"),
            (lambda: list(channel.stream_stream(f"{service}ModelTrace")(iter([b""]))), "ModelTrace is not"),
            (lambda: list(channel.stream_stream(f"{service}ModelTrace")(iter([]))), "ModelTrace is not"),
            (lambda: channel.unary_unary("/grpc.health.v1.Health/Check")(b""), "Health/Check is not served here"),
            (lambda: channel.unary_unary("/" + "x" * 5000)(b""), "is not served here"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
            assert words in caught.value.details()
            assert len(caught.value.details()) < 200


def test_bytes_that_are_no_message(server: Any) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        for data in (b"\xff\xff\xff", b"\x0a\x05ab"):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(data)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert caught.value.details() == "message: the bytes are no ModelInferRequest"


def test_metadata(stub: Any) -> None:

    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="prometheus-mini"))
    assert metadata.platform == "onnxruntime_seq2seq_fp32"
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("text_input", "BYTES", [-1])]
    assert [t.name for t in metadata.outputs] == ["text_output", "finish_reason", "prompt_tokens", "generated_tokens"]
    server = stub.ServerMetadata(pb.ServerMetadataRequest())
    assert list(server.extensions) == ["binary_tensor_data"]
