"""Faults of the real server process: an engine that breaks, SIGTERM while texts stream, a grace period that ends."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from serving.kserve.sdk import pb
from tests.helpers.fragile import fragile_bundle
from tests.helpers.servers import Server, start_server, wait_until
from tests.helpers.streams import PATHS, speak, text_of, unary

LONG = {"target": "en", "max_tokens": 2000}


def spoken(server: Server, api: str) -> Any:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        return speak(client, api, "привет, мир", **LONG)


def grpc_infer(server: Server) -> Any:
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    request = pb.ModelInferRequest(
        model_name="prometheus-mini",
        inputs=[
            {"name": "text_input", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"\xd0\xb0"]}}
        ],
        parameters={"target": {"string_param": "en"}, "max_tokens": {"int64_param": 2000}},
    )
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        return GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=60)


def test_an_engine_that_breaks_fails_everyone_and_ends_the_process(tmp_path: Path) -> None:
    bundle = fragile_bundle(tmp_path / "bundle", tokens=1500, max_positions=2048, decoder_layers=8, d_ff=512)
    with start_server(bundle, tmp_path / "log", "--slots", "1") as server:
        assert server.post("/generate", {"prompt": "привет", "target": "en", "max_tokens": 9}).status_code == 200
        with ThreadPoolExecutor(8) as pool:
            streamed = pool.submit(spoken, server, "chat")
            wait_until(lambda: server.engine()["running"] == 1, "the stream that will break the engine runs")
            waiting = [pool.submit(server.post, *unary(api, "привет", **LONG)) for api in PATHS]
            waiting_stream = pool.submit(server.post, "/generate_stream", {"prompt": "привет", **LONG})
            waiting_grpc = pool.submit(grpc_infer, server)
            wait_until(lambda: server.engine()["waiting"] == 6, "six wait for the slot")
            assert server.get("/health/live").status_code == 200
            found = streamed.result()
            broken = time.monotonic()
            answers = [future.result() for future in [*waiting, waiting_stream]]
            with pytest.raises(grpc.RpcError) as caught:
                waiting_grpc.result()
            assert time.monotonic() - broken < 2
        assert len(found.pieces) > 1000
        assert "engine failed" in found.error["message"]
        assert found.error["type"] == "server_error"
        assert not found.done
        for answer in answers:
            assert answer.status_code == 500
            assert "the engine failed; the server's log says why" in answer.text
            assert "Gather" not in answer.text
        assert caught.value.code() == grpc.StatusCode.INTERNAL
        assert server.process.wait(20) == 1
        assert any("Gather" in line.get("exception", "") for line in server.lines())
        assert any("the engine has died" in line["message"] for line in server.lines())


def test_sigterm_cuts_no_stream_and_takes_no_new_one(slow: Path, tmp_path: Path) -> None:
    with (
        start_server(slow, tmp_path / "log", "--slots", "4", "--grace_period", "120") as server,
        ThreadPoolExecutor(4) as pool,
    ):
        expected = server.post("/generate", {"prompt": "привет, мир", **LONG}).json()["text"]
        kept = httpx.Client(base_url=server.url, timeout=60)
        assert kept.get("/health/ready").status_code == 200
        streams = [pool.submit(spoken, server, api) for api in PATHS]
        wait_until(lambda: server.engine()["running"] == 4, "all four run")
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not server.listening(), "the port is closed")
        with pytest.raises(httpx.TransportError):
            server.post("/generate_stream", {"prompt": "привет", "target": "en"})
        with pytest.raises(grpc.RpcError) as caught:
            grpc_infer(server)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        for api, stream in zip(PATHS, streams, strict=True):
            found = stream.result()
            assert found.error is None, api
            assert found.text == expected, api
            assert found.done == ("openai" in PATHS[api])
        assert server.process.wait(60) == 0
        kept.close()
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
    assert '"message":"stopped"' in log.splitlines()[-1]


def test_what_outlives_the_grace_period_is_told_so(slow: Path, tmp_path: Path) -> None:
    with (
        start_server(slow, tmp_path / "log", "--slots", "2", "--grace_period", "0") as server,
        ThreadPoolExecutor(2) as pool,
    ):
        stream = pool.submit(spoken, server, "completions")
        whole = pool.submit(server.post, *unary("generate", "привет, мир", **LONG))
        wait_until(lambda: server.engine()["running"] == 2, "both run")
        server.process.send_signal(signal.SIGTERM)
        assert "shut down" in stream.result().error["message"]
        assert stream.result().error["code"] == "shutting_down"
        assert whole.result().status_code == 503
        assert "shut down" in whole.result().json()["error"]
        assert server.process.wait(60) == 0


def test_the_text_of_a_stream_that_breaks_is_what_came_whole(tmp_path: Path) -> None:
    """The helper's graph is sound up to its length: what it says until then is what the sound bundle says."""
    bundle = fragile_bundle(tmp_path / "bundle", tokens=40)
    body = {"prompt": "привет", "target": "en", "max_tokens": 30, "repetition_penalty": 3.0}
    with start_server(bundle, tmp_path / "log") as server:
        fragile = server.post("/generate", body)
    with start_server(bundle.with_name("bundle-sound"), tmp_path / "sound-log") as server:
        assert text_of("generate", fragile.json()) == server.post("/generate", body).json()["text"]
