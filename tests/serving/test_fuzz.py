"""Rubbish on the raw ports: afterwards the server is alive, ready, correct, and holds nothing that it should not.

Every case is seeded, bounded in count and time, and checked on its own where there is an answer: bad framing gets a 4xx
or a closed connection, never a 5xx and never silence while the connection is kept open for more.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import psutil
import pytest

from benchmarks.load.http2 import PREFACE, frame
from benchmarks.load.messages import INFER, infer_request
from tests.helpers.bundles import tiny_bundle
from tests.helpers.servers import Server, start_server

ASKED = {"prompt": "привет, мир", "target": "en", "max_tokens": 12}
SPARE_FDS = 8  # connections of the checks themselves, and what libraries open once
METHODS = (
    INFER,
    "/inference.GRPCInferenceService/ModelMetadata",
    "/inference.GRPCInferenceService/RepositoryModelLoad",
    "/inference.GRPCInferenceService/NoSuchMethod",
)
BODY = json.dumps(ASKED).encode()
POST = b"POST /generate HTTP/1.1\r\nhost: a\r\n"
HIDDEN = b"GET /info HTTP/1.1\r\nhost: a\r\n\r\n"
FRAMING = {
    "no method": b" / HTTP/1.1\r\n\r\n",
    "version 9": b"GET /health HTTP/9.9\r\n\r\n",
    "http2 preface": PREFACE,
    "tls hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "header without colon": b"GET /health HTTP/1.1\r\nhost\r\n\r\n",
    "nul in header": b"GET /health HTTP/1.1\r\nhost: a\x00b\r\n\r\n",
    "space in name": b"GET /health HTTP/1.1\r\nho st: a\r\n\r\n",
    "negative length": POST + b"content-length: -5\r\n\r\n" + BODY,
    "length in words": POST + b"content-length: ten\r\n\r\n" + BODY,
    "two lengths": POST + b"content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
    "huge length": POST + b"content-length: 99999999999999999999999\r\n\r\n",
    "bad chunk size": POST + b"transfer-encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n",
    "chunk too short": POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
    "length and chunks": POST + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "unknown coding": POST + b"transfer-encoding: zebra\r\n\r\n" + BODY,
    "long path": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
    "long header": b"GET /health HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "many headers": b"GET /health HTTP/1.1\r\nhost: a\r\n"
    + b"".join(b"x%d: y\r\n" % i for i in range(20_000))
    + b"\r\n",
    "body cut short": POST + b"content-length: 500\r\n\r\n" + BODY,
    "bad escapes": b"GET /v2/models/%zz%ff%00/infer?%%%%=%%% HTTP/1.1\r\nhost: a\r\n\r\n",
    "pipelined rubbish": b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n" + bytes(range(256)) * 20,
}

GOOD_BEGINNING = ("long header", "many headers", "pipelined rubbish")  # large, or followed by rubbish, but no mistake


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("fuzz")
    bundle = tiny_bundle(folder / "bundle", family="seq2seq")
    with start_server(bundle, folder / "log", "--slots", "4", "--max_body_bytes", "65536") as server:
        yield server


@pytest.fixture(autouse=True)
def unharmed(target: Server) -> Iterator[None]:
    """Whatever a test does, the server then is as it was before."""
    expected = target.post("/generate", ASKED).json()["text"]
    before = psutil.Process(target.process.pid).num_fds()
    yield
    assert target.process.poll() is None, f"the server has left:\n{target.log.read_text()[-3000:]}"
    assert target.get("/health/ready").status_code == 200
    assert target.post("/generate", ASKED).json()["text"] == expected
    until = time.monotonic() + 60
    while time.monotonic() < until:
        engine = target.get("/health").json()["engine"]
        held = {name: engine[name] for name in ("running", "waiting", "slots_used")}
        held["descriptors"] = max(0, psutil.Process(target.process.pid).num_fds() - before - SPARE_FDS)
        if not any(held.values()):
            return
        time.sleep(0.1)
    pytest.fail(f"still held after 60 s: {held}")


def exchange(port: int, sent: bytes, close: bool = True, wait: float = 2.0) -> bytes:
    """Send bytes, read what comes until the server closes or falls silent."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.settimeout(wait)
        with contextlib.suppress(OSError):  # closed before all was sent, or silent for too long
            connection.sendall(sent)
            if close:
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                received += part
    return received


def statuses(received: bytes) -> list[int]:
    """Status codes of the answers in a connection's bytes."""
    lines = [line for line in received.split(b"\r\n") if line.startswith(b"HTTP/1.")]
    return [int(line.split(b" ")[1]) for line in lines]


@pytest.mark.parametrize("name", FRAMING)
def test_broken_framing_is_refused(target: Server, name: str) -> None:
    answered = statuses(exchange(target.http_port, FRAMING[name]))
    assert all(status < 500 for status in answered), answered
    if name not in GOOD_BEGINNING:
        assert 200 not in answered, f"{name} was taken: {answered}"


def test_random_bytes(target: Server) -> None:
    dice = random.Random(1)
    for port in (target.http_port, target.grpc_port):
        for i in range(60):
            rubbish = dice.randbytes(dice.choice((1, 9, 100, 3000)))
            answered = statuses(exchange(port, rubbish, close=i % 2 == 0, wait=0.05))
            assert all(400 <= status < 500 for status in answered), (rubbish[:50], answered)


def test_damaged_requests(target: Server) -> None:
    """Good requests with a few bytes changed, cut out or doubled."""
    dice = random.Random(2)
    good = POST + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
    for _ in range(150):
        damaged = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(damaged))
            kind = dice.randrange(3)
            if kind == 0:
                damaged[at] = dice.randrange(256)
            elif kind == 1:
                del damaged[at : at + dice.randint(1, 20)]
            else:
                damaged[at:at] = damaged[at : at + dice.randint(1, 20)]
        answered = statuses(exchange(target.http_port, bytes(damaged)))
        assert all(status < 500 for status in answered), (bytes(damaged), answered)


def rubbish_json(dice: random.Random, depth: int = 0) -> Any:
    """Some JSON value."""
    kind = dice.randrange(9 if depth < 4 else 6)
    if kind == 0:
        return dice.choice((None, True, False))
    if kind == 1:
        return dice.choice((0, -1, 2**31, 2**63, -(2**70), 10**30))
    if kind == 2:
        return dice.choice((0.0, -0.5, 1e308, 1e-308))
    if kind <= 5:
        return dice.choice(("", "text", "ё" * 300, "\x00\u2028\ufeff", "🙂" * 40, "[1,2", "prometheus-mini", "BYTES"))
    if kind <= 7:
        names = ("prompt", "text_input", "inputs", "parameters", "outputs", "messages", "stream", "n", "shape", "data")
        names += ("q", "text", "source", "target", "api_key", "format", "alternatives", "glossary", "target_lang")
        names += (
            "name",
            "datatype",
            "max_tokens",
            "temperature",
            "stop",
            "logprobs",
            "model",
            "role",
            "content",
            "seed",
        )
        return {dice.choice(names): rubbish_json(dice, depth + 1) for _ in range(dice.randint(0, 6))}
    return [rubbish_json(dice, depth + 1) for _ in range(dice.randint(0, 5))]


def test_rubbish_json_is_never_the_servers_fault(target: Server) -> None:
    dice = random.Random(3)
    v2 = "/v2/models/prometheus-mini"
    paths = ("/generate", "/generate_stream", f"{v2}/infer", f"{v2}/generate", f"{v2}/generate_stream")
    paths += ("/openai/v1/completions", "/openai/v1/chat/completions")
    paths += ("/translate", "/detect", "/translate_file", "/v2/translate")
    good = {
        "/generate": {"prompt": "a", "target": "ru", "max_tokens": 3},
        f"{v2}/infer": {"inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["a"]}]},
        f"{v2}/generate": {"text_input": "a", "parameters": {"max_tokens": 3}},
        "/translate": {"q": "a", "source": "auto", "target": "ru", "max_tokens": 3},
        "/detect": {"q": "a"},
        "/v2/translate": {"text": ["a"], "target_lang": "RU", "max_tokens": 3},
        "/openai/v1/completions": {"model": "prometheus-mini", "prompt": "a", "max_tokens": 3},
        "/openai/v1/chat/completions": {"model": "prometheus-mini", "messages": [{"role": "user", "content": "a"}]},
    }
    with httpx.Client(base_url=target.url, timeout=20, verify=False) as client:
        for i in range(350):
            path = paths[i % len(paths)]
            body = rubbish_json(dice)
            base = good.get(path.removesuffix("_stream"))
            if isinstance(body, dict) and base and dice.random() < 0.7:
                body = {**base, **body}
            answer = client.post(path, content=json.dumps(body).encode())
            assert answer.status_code < 500, (path, body, answer.text)
            if answer.status_code == 200 and path.endswith("_stream"):
                assert '"error"' not in answer.text, (path, body, answer.text)


def test_slow_callers_do_not_keep_others_waiting(target: Server) -> None:
    """150 requests that never end: half a head, or half a body."""
    head = POST + b"content-length: %d\r\n" % len(BODY)
    slow = [socket.create_connection(("127.0.0.1", target.http_port), timeout=5) for _ in range(150)]
    try:
        for i, connection in enumerate(slow):
            connection.sendall(head + b"\r\n" + BODY[:5] if i % 2 else head)
        for i in range(5):
            slow[1].sendall(BODY[5 + i : 6 + i])
            started = time.monotonic()
            assert target.post("/generate", ASKED).status_code == 200
            assert time.monotonic() - started < 10  # a third of what the slow ones are given
    finally:
        for connection in slow:
            connection.close()


def test_half_closed_and_reset_connections(target: Server) -> None:
    whole = b"POST /generate_stream HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
    for i in range(40):
        connection = socket.create_connection(("127.0.0.1", target.http_port), timeout=5)
        connection.sendall(whole)
        if i % 2:
            connection.shutdown(socket.SHUT_WR)
        else:  # a reset instead of a goodbye
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if i % 3 == 0:
            connection.settimeout(0.5)
            with contextlib.suppress(TimeoutError, ConnectionError):
                connection.recv(10)
        connection.close()


def test_http2_rubbish_on_the_grpc_port(target: Server) -> None:
    dice = random.Random(4)
    settings = frame(4, 0, 0, b"")
    cases = [
        PREFACE,
        PREFACE[:10],
        b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n",
        PREFACE + settings * 500,
        PREFACE + settings + frame(6, 0, 0, bytes(8)) * 500,  # pings
        PREFACE + settings + frame(0, 1, 1, b"data without headers"),
        PREFACE + settings + frame(1, 5, 1, b"\xff" * 50),  # headers that are not HPACK
        PREFACE
        + settings
        + b"".join(frame(1, 4, 2 * i + 1, b"\x82\x86") + frame(3, 0, 2 * i + 1, bytes(4)) for i in range(300)),
        PREFACE + settings + frame(1, 0, 1, b"\x82") + frame(9, 0, 1, b"\x82") * 300,  # continuations without end
        PREFACE + settings + frame(8, 0, 0, struct.pack(">I", 2**31 - 1)) * 3,  # the window overflows
        PREFACE
        + settings
        + b"\xff\xff\xff"
        + bytes((0, 0))
        + struct.pack(">I", 1),  # a frame of 16 MB that never comes
    ]
    cases += [
        PREFACE
        + settings
        + frame(dice.randrange(12), dice.randrange(256), dice.randrange(9), dice.randbytes(dice.randrange(60)))
        for _ in range(40)
    ]
    for case in cases:
        exchange(target.grpc_port, case, wait=0.2)


def test_damaged_messages_over_grpc(target: Server) -> None:
    dice = random.Random(5)
    good = infer_request("prometheus-mini", "привет", {"target": "en", "max_tokens": 3})
    seen = set()
    with grpc.insecure_channel(f"127.0.0.1:{target.grpc_port}") as channel:
        for i in range(200):
            message = bytearray(good)
            if i % 4 == 0:
                message = bytearray(dice.randbytes(dice.randrange(200)))
            elif i % 4 == 1:
                del message[dice.randrange(len(message)) :]
            else:
                for _ in range(dice.randint(1, 5)):
                    message[dice.randrange(len(message))] = dice.randrange(256)
            call = channel.unary_unary(INFER if i % 4 else METHODS[i // 4 % len(METHODS)])
            try:
                call(bytes(message), timeout=10)
                seen.add("OK")
            except grpc.RpcError as error:
                seen.add(error.code().name)
                assert "Traceback" not in error.details() and 'File "' not in error.details()
    known = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "PERMISSION_DENIED"}
    assert seen <= known, seen
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND"} <= seen, seen


def test_the_log_stays_readable(target: Server) -> None:
    """One JSON object a line, and no exception, after all of the above (this test comes last)."""
    lines = target.log.read_text("utf-8", "replace").splitlines()
    broken = [line for line in lines if not line.startswith("{") or "Traceback" in line]
    assert not broken, "\n".join(broken[:20])
