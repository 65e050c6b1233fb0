"""The access token, on every protocol of the real server process, and its file's errors."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from serving.kserve.sdk import pb
from tests.helpers.servers import ROOT, TOKEN, Server
from tests.helpers.streams import PATHS, speak, stream_body, unary

RIGHT = {"authorization": f"Bearer {TOKEN}"}
WRONG = {
    "none": ({}, "is missing"),
    "empty": ({"authorization": ""}, "is missing"),
    "another": ({"authorization": "Bearer other"}, "not the right one"),
    "longer": ({"authorization": f"Bearer {TOKEN}x"}, "not the right one"),
    "shorter": ({"authorization": f"Bearer {TOKEN[:-1]}"}, "not the right one"),
    "no token": ({"authorization": "Bearer"}, "must be 'Bearer TOKEN'"),
    "not ASCII": ({"authorization": "Bearer тайна".encode()}, "not the right one"),
    "no scheme": ({"authorization": TOKEN}, "must be 'Bearer TOKEN'"),
    "another scheme": ({"authorization": f"Basic {TOKEN}"}, "must be 'Bearer TOKEN'"),
}


def call(server: Server, method: str, path: str, **extra: Any) -> httpx.Response:
    return httpx.request(method, server.url + path, timeout=30, verify=False, **extra)


@pytest.mark.parametrize("case", WRONG)
def test_rest_refuses(guarded: Server, case: str) -> None:
    headers, words = WRONG[case]
    response = call(guarded, "POST", "/generate", json={"prompt": "привет", "target": "en"}, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert words in response.json()["error"]
    assert TOKEN not in response.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_rest_lets_in(guarded: Server, scheme: str) -> None:
    headers = {"authorization": f"{scheme} {TOKEN}"}
    body = {"prompt": "привет", "target": "en", "max_tokens": 3}
    assert call(guarded, "POST", "/generate", json=body, headers=headers).status_code == 200


def test_every_address_but_probes_metrics_and_the_page_is_closed(guarded: Server) -> None:
    for path in (
        "/",
        "/docs",
        "/languages",
        "/frontend/settings",
        "/health",
        "/health/live",
        "/health/ready",
        "/v2/health/live",
        "/v2/health/ready",
        "/metrics",
    ):
        assert call(guarded, "GET", path).status_code == 200, path
    model = "/v2/models/prometheus-mini"
    closed = ["/info", "/v2", "/v2/models", model, f"{model}/ready", f"{model}/versions/1", "/openai/v1/models"]
    closed += ["/nowhere", "/openapi.json", "/v1/models", "//metrics", "/health/../info"]
    for path in closed:
        assert call(guarded, "GET", path).status_code == 401, path
    for api in PATHS:
        path, body = unary(api, "привет", target="en", max_tokens=3)
        assert call(guarded, "POST", path, json=body).status_code == 401, path
        assert call(guarded, "POST", path, json=body, headers=RIGHT).status_code == 200, path
        streamed = call(guarded, "POST", PATHS[api], json=stream_body(api, "привет", target="en", max_tokens=3))
        assert streamed.status_code == 401, api
    for path in (f"{model}/infer", "/v2/repository/models/prometheus-mini/unload", "/v1/models/x:predict"):
        assert call(guarded, "POST", path, json={}).status_code == 401, path
    assert call(guarded, "GET", "/info", headers=RIGHT).status_code == 200


def test_errors_wear_the_clothes_of_their_address(guarded: Server) -> None:
    error = call(guarded, "POST", "/openai/v1/completions", json={}).json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("authentication_error", "invalid_api_key", None)
    assert "authorization" in error["message"]
    events = call(guarded, "POST", PATHS["open_inference"], json={})
    assert events.headers["content-type"].startswith("text/event-stream")
    assert events.text.startswith('data: {"error":"authorization')
    with httpx.Client(base_url=guarded.url, headers=RIGHT, timeout=30) as client:
        assert speak(client, "chat", "привет", target="en", max_tokens=3).done


def test_grpc(guarded: Server) -> None:
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    text = "привет".encode()
    request = pb.ModelInferRequest(
        model_name="prometheus-mini",
        inputs=[{"name": "text_input", "datatype": "BYTES", "shape": [1]}],
        raw_input_contents=[struct.pack("<I", len(text)) + text],
        parameters={"target": {"string_param": "en"}, "max_tokens": {"int64_param": 3}},
    )
    with grpc.insecure_channel(f"127.0.0.1:{guarded.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert stub.ServerLive(pb.ServerLiveRequest()).live
        assert stub.ServerReady(pb.ServerReadyRequest()).ready
        unknown = channel.stream_stream("/inference.GRPCInferenceService/ModelTrace")
        streamed = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        for metadata in ((), (("authorization", "Bearer other"),), (("authorization", TOKEN),)):
            for refused in (
                lambda: stub.ModelInfer(request, metadata=metadata),  # noqa: B023
                lambda: stub.ModelMetadata(pb.ModelMetadataRequest(name="prometheus-mini"), metadata=metadata),  # noqa: B023
                lambda: stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="x"), metadata=metadata),  # noqa: B023
                lambda: list(unknown(iter([b""]), metadata=metadata)),  # noqa: B023
                lambda: list(streamed(iter([request.SerializeToString()]), metadata=metadata)),  # noqa: B023
            ):
                with pytest.raises(grpc.RpcError) as caught:
                    refused()
                assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
                assert "authorization" in caught.value.details()
        right = (("authorization", f"Bearer {TOKEN}"),)
        assert stub.ModelInfer(request, metadata=right).raw_output_contents[0]
        assert list(streamed(iter([request.SerializeToString()]), metadata=right))
        with pytest.raises(grpc.RpcError) as caught:
            list(unknown(iter([b""]), metadata=right))
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_the_token_is_in_no_log_and_refusals_are_counted(guarded: Server) -> None:
    call(guarded, "GET", "/info", headers={"authorization": "Bearer wrong-secret"})
    log = guarded.log.read_text()
    assert TOKEN not in log
    assert "wrong-secret" not in log
    assert '"status":401' in log
    assert (
        'slm_request_rejected_total{model_name="prometheus-mini",reason="Unauthorized"}'
        in call(guarded, "GET", "/metrics").text
    )


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"  \n", "is empty"),
        (b"two words", "must hold one token in ASCII without spaces"),
        ("тайна".encode(), "must hold one token in ASCII"),
        (b"\xff\xfe", "cannot be read (it is not text)"),
    ],
)
def test_a_token_file_of_no_use_stops_the_start(tiny: Path, tmp_path: Path, contents: bytes | None, words: str) -> None:
    path = tmp_path / "token"
    if contents is not None:
        path.write_bytes(contents)
    command = [sys.executable, "-m", "serving", "--bundle", str(tiny), "--http_port", "1", "--grpc_port", "2"]
    done = subprocess.run(
        [*command, "--token_file", str(path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert f"token_file {path}" in done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
