"""A server's life: overload, deadlines, callers who leave, SIGTERM with requests running, an engine that dies."""

from __future__ import annotations

import json
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from serving.kserve.sdk import pb
from tests.helpers.bundles import tiny_bundle
from tests.helpers.servers import ROOT, Server, free_ports, start_server, wait_until

LONG = {"prompt": "привет, мир", "target": "en", "max_tokens": 2000}
SHORT = {"prompt": "привет", "target": "en", "max_tokens": 3}


@pytest.fixture(scope="module")
def narrow(slow: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One request at a time, one more may wait."""
    log = tmp_path_factory.mktemp("narrow") / "log"
    with start_server(slow, log, "--slots", "1", "--queue", "1") as running:
        yield running


def grpc_request(**parameters: Any) -> pb.ModelInferRequest:
    given = {"target": {"string_param": "en"}, **{k: {"int64_param": v} for k, v in parameters.items()}}
    text = "привет, мир".encode()
    return pb.ModelInferRequest(
        model_name="prometheus-mini",
        inputs=[{"name": "text_input", "datatype": "BYTES", "shape": [1]}],
        raw_input_contents=[struct.pack("<I", len(text)) + text],
        parameters=given,
    )


def grpc_infer(server: Server, request: pb.ModelInferRequest) -> Any:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        return GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=60)


def test_overload_is_refused_and_leaves_readiness_alone(narrow: Server) -> None:
    with ThreadPoolExecutor(2) as pool:
        running = []
        for gauge in ("running", "waiting"):
            running.append(pool.submit(narrow.post, "/generate", LONG))
            wait_until(lambda gauge=gauge: narrow.engine()[gauge] == 1, f"one is {gauge}")
        refused = narrow.post("/generate", SHORT)
        with pytest.raises(grpc.RpcError) as caught:
            grpc_infer(narrow, grpc_request(max_tokens=3))
        ready = narrow.get("/health/ready")
        assert [future.result().status_code for future in running] == [200, 200]
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert "error" in refused.json()
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ready.status_code == 200
    assert narrow.post("/generate", SHORT).status_code == 200


def test_a_caller_who_leaves_frees_the_slot(narrow: Server) -> None:
    def leave_rest() -> None:
        body = json.dumps(LONG).encode()
        with socket.create_connection(("127.0.0.1", narrow.http_port)) as connection:
            connection.sendall(
                b"POST /generate HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
            )
            wait_until(lambda: narrow.engine()["running"] == 1, "the request runs")

    def leave_grpc() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{narrow.grpc_port}") as channel:
            call = GRPCInferenceServiceStub(channel).ModelInfer.future(grpc_request(max_tokens=2000))
            wait_until(lambda: narrow.engine()["running"] == 1, "the call runs")
            assert call.cancel()

    for leave in (leave_rest, leave_grpc):
        leave()
        wait_until(lambda: narrow.engine()["running"] == 0, "the slot is free")
    metrics = narrow.get("/metrics").text
    assert 'slm_request_success_total{finished_reason="cancelled",model_name="prometheus-mini"} 2.0' in metrics
    wait_until(lambda: '"status":499' in narrow.log.read_text(), "the log says that the client left")


def test_sigterm_answers_on_until_nothing_comes_any_more(slow: Path, tmp_path: Path) -> None:
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    with (
        start_server(slow, tmp_path / "log", "--slots", "4", "--drain_delay", "60") as server,
        ThreadPoolExecutor(2) as pool,
        httpx.Client(base_url=server.url, timeout=60) as kept,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        stub = GRPCInferenceServiceStub(channel)
        expected = server.post("/generate", LONG).json()["text"]
        assert kept.get("/health/ready").status_code == 200
        assert stub.ServerReady(pb.ServerReadyRequest()).ready
        rest = pool.submit(server.post, "/generate", LONG)
        rpc = pool.submit(grpc_infer, server, grpc_request(max_tokens=2000))
        wait_until(lambda: server.engine()["running"] == 2, "both run")
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.get("/health/ready").status_code == 503, "it is not ready")
        assert not stub.ServerReady(pb.ServerReadyRequest()).ready
        assert server.get("/health/live").status_code == 200
        for answer in (kept.post("/generate", json=SHORT), server.post("/generate", SHORT)):
            assert answer.status_code == 200
            assert answer.headers["connection"] == "close"
        assert stub.ModelInfer(grpc_request(max_tokens=3), timeout=30).outputs
        assert rest.result().status_code == 200
        assert rest.result().headers["connection"] == "close"
        assert rest.result().json()["text"] == expected
        assert rpc.result().raw_output_contents[0][4:].decode() == expected
        channel.close()  # with its connection the last one is gone
        assert server.process.wait(60) == 0
        with pytest.raises(httpx.TransportError):
            server.post("/generate", SHORT)
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
    assert '"message":"stopped"' in log.splitlines()[-1]


def test_a_promise_to_keep_a_connection_is_kept_while_it_drains(slow: Path, tmp_path: Path) -> None:
    """A stream that began before SIGTERM has said nothing of a close: its client sends the next call behind it."""
    with (
        start_server(slow, tmp_path / "log", "--drain_delay", "0") as server,
        httpx.Client(base_url=server.url, timeout=60, limits=httpx.Limits(max_connections=1)) as client,
    ):
        with client.stream("POST", "/generate_stream", json=LONG) as stream:
            lines = stream.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not server.listening(), "the port is closed")
            assert "error" not in [*lines, ""][-2]
        assert "connection" not in stream.headers
        after = client.post("/generate", json=SHORT)
        assert after.status_code == 200
        assert after.headers["connection"] == "close"
        assert server.process.wait(60) == 0


def test_ctrl_c_waits_for_what_runs_and_twice_for_nothing(slow: Path, tmp_path: Path) -> None:
    options = ["--slots", "1", "--drain_delay", "3600", "--grace_period", "3600", "--request_timeout", "3600"]
    for number, sent in enumerate(([signal.SIGINT], [signal.SIGINT] * 2, [signal.SIGTERM] * 2)):
        log = tmp_path / f"log{number}"
        with start_server(slow, log, *options) as server, ThreadPoolExecutor(20) as pool:
            calls = 1 if len(sent) == 1 else 20
            running = [pool.submit(server.post, "/generate", LONG) for _ in range(calls)]
            wait_until(lambda server=server, calls=calls: server.engine()["waiting"] == calls - 1, "one runs")
            for signum in sent:
                server.process.send_signal(signum)
                wait_until(lambda log=log: "leaving" in log.read_text(), "it was told")  # two at once would be one
            assert server.process.wait(60) == 0
        statuses = [future.result().status_code for future in running]
        assert statuses == [200] if calls == 1 else statuses.count(503) > 10
        assert ("answering what still comes" in log.read_text()) == (sent[0] == signal.SIGTERM)


def test_a_decoder_bundle_and_a_deadline(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", family="decoder", max_positions=4096, decoder_layers=12, d_ff=512)
    options = ["--model_name", "mini-gpt", "--slots", "2", "--request_timeout", "0.3"]
    with start_server(bundle, tmp_path / "log", *options) as server:
        answer = server.post("/generate", {"prompt": "абв", "max_tokens": 4})
        assert answer.status_code == 200, answer.text
        assert answer.json()["prompt_tokens"] == 4
        assert server.get("/v2/models/mini-gpt").json()["platform"] == "onnxruntime_decoder_fp32"
        refused = server.post("/generate", {"prompt": "абв", "target": "en"})
        assert refused.status_code == 400
        assert "target" in refused.json()["error"]
        crowded = server.post("/generate", {"prompt": "а" * 200, "max_tokens": 4000})
        assert crowded.status_code == 400
        assert "max_tokens" in crowded.json()["error"]
        late = server.post("/generate", {"prompt": "абв", "max_tokens": 4000, "ignore_eos": True})
        assert late.status_code == 504
        assert "error" in late.json()
        assert server.post("/generate", {"prompt": "", "max_tokens": 1}).status_code == 200
        assert server.terminate() == 0


def test_a_taken_port_is_named(narrow: Server, slow: Path) -> None:
    free = free_ports(1)[0]
    for name, ports in (("http_port", (narrow.http_port, free)), ("grpc_port", (free, narrow.grpc_port))):
        command = [sys.executable, "-m", "serving", "--bundle", str(slow)]
        command += ["--http_port", str(ports[0]), "--grpc_port", str(ports[1])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert re.search(rf"{name} \d+ cannot be used .*in use.*--{name}", done.stderr), done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "required: --bundle"),
        (["--bundle", "/nowhere"], "/nowhere: no such directory"),
        (["--bundle", "x", "--http_port", "0"], "--http_port: must be at least 1, not 0"),
        (["--bundle", "x", "--request_timeout", "inf"], "--request_timeout: must be a finite number, not inf"),
        (["--bundle", "x", "--receive_timeout", "nan"], "--receive_timeout: must be a finite number, not nan"),
        (["--bundle", "x", "--idle_timeout", "0"], "--idle_timeout: must be above 0, not 0.0"),
        (["--bundle", "x", "--slots", "0"], "--slots: must be at least 1, not 0"),
        (["--bundle", "x", "--slot", "3"], "unrecognized arguments: --slot"),
    ],
)
def test_command_line_errors(options: list[str], words: str) -> None:
    command = [sys.executable, "-m", "serving", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_help_teaches() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "serving", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for words in (
        "curl localhost:8080/generate",
        "--grace_period",
        "--receive_timeout",
        "--slots",
        "SIGTERM",
        "(default: 127.0.0.1)",
    ):
        assert words in done.stdout
