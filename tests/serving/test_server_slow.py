"""Clients who send half a request, or a byte now and then, on the raw ports of the real server process.

Every test opens its connections at once: together they take as long as the limits, not as long as their number.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import grpc
import httpx
import pytest

from benchmarks.load.http2 import CALL_HEAD, PREFACE, frame
from benchmarks.load.messages import INFER, infer_request
from tests.helpers.servers import Server, start_server, wait_until

RECEIVE, IDLE = 1.0, 4.0
LATE = 2.5  # seconds that a busy machine may add
BODY = json.dumps({"prompt": "привет", "target": "en", "max_tokens": 3}).encode()
LONG = {"model": "prometheus-mini", "prompt": ["привет, мир"] * 8, "target": "en", "max_tokens": 2000}
POST = b"POST /generate HTTP/1.1\r\nhost: a\r\n"
LENGTH = b"content-length: %d\r\n\r\n" % len(BODY)
GET = b"GET /health/ready HTTP/1.1\r\nhost: a\r\n\r\n"


class Seen(NamedTuple):
    """What a client got, and the seconds until the server closed; infinite when it did not."""

    seconds: float
    received: bytes


@pytest.fixture(scope="module")
def strict(slow: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One request at a time, and little patience."""
    log = tmp_path_factory.mktemp("strict") / "log"
    limits = ["--receive_timeout", str(RECEIVE), "--idle_timeout", str(IDLE), "--request_timeout", "300"]
    with start_server(slow, log, "--slots", "1", *limits) as running:
        yield running


def watch(port: int, sent: bytes, drip: bytes = b"", wait: float = 3 * IDLE) -> Seen:
    """Send bytes, then one byte of ``drip`` every 0.1 s, until the server closes."""
    received = b""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as connection, contextlib.suppress(ConnectionError):
        connection.settimeout(0.1)
        connection.sendall(sent)
        while time.monotonic() - started < wait:
            with contextlib.suppress(TimeoutError):
                if not (part := connection.recv(65536)):
                    return Seen(time.monotonic() - started, received)
                received += part
            connection.sendall(drip[:1])
            drip = drip[1:]
        return Seen(float("inf"), received)
    return Seen(time.monotonic() - started, received)  # reset: a byte came after the server had closed


def watch_all(port: int, cases: dict[str, tuple[bytes, bytes]]) -> dict[str, Seen]:
    with ThreadPoolExecutor(len(cases)) as pool:
        futures = {name: pool.submit(watch, port, *case) for name, case in cases.items()}
        return {name: future.result() for name, future in futures.items()}


def test_half_a_head_is_closed_without_a_word(strict: Server) -> None:
    cases = {
        "half a line": (POST[:9], b""),
        "half a head": (POST, b""),
        "byte by byte": (POST[:4], POST[4:] + b"x: " + b"y" * 1000),
        "empty lines": (b"\r\n", b"\r\n" * 500),
        "the second request's": (GET + POST, b""),
    }
    for name, seen in watch_all(strict.http_port, cases).items():
        assert RECEIVE * 0.9 < seen.seconds < RECEIVE + LATE, (name, seen)
        assert b"HTTP/1.1 4" not in seen.received, (name, seen)
    assert "its request was not complete after 1 seconds" in strict.log.read_text()


def test_half_a_body_is_told_so(strict: Server) -> None:
    chunked = b"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"
    cases = {
        "none of it": (POST + LENGTH, b""),
        "half of it": (POST + LENGTH + BODY[:9], b""),
        "byte by byte": (POST + b"content-length: 1000\r\n\r\n", b"{" * 900),
        "chunked": (POST + chunked, b""),
        "chunk by chunk": (POST + chunked, b"1\r\n{\r\n" * 500),
        "trailers by byte": (POST + chunked + b"0\r\n", b"x: " + b"y" * 1000),
        "openai": (POST.replace(b"/generate", b"/openai/v1/completions") + LENGTH + BODY[:9], b""),
    }
    for name, seen in watch_all(strict.http_port, cases).items():
        assert RECEIVE * 0.9 < seen.seconds < RECEIVE + LATE, (name, seen)
        assert seen.received.startswith(b"HTTP/1.1 408 "), (name, seen)
        assert b"connection: close\r\n" in seen.received
        error = json.loads(seen.received.split(b"\r\n\r\n")[1])["error"]
        sentence = error["message"] if name == "openai" else error
        assert sentence == "body: not complete after 1 seconds", name
    told = [name for name in cases if name != "openai"]
    wait_until(
        lambda: sum(line["status"] == 408 for line in strict.requests("/generate")) >= len(told), "each is logged"
    )


def test_half_a_body_that_no_answer_waits_for_is_closed(strict: Server) -> None:
    half = b"content-length: 1000\r\n\r\nhalf"
    cases = {
        "read by no one": (GET[:-2] + half, b"{" * 900),
        "no such address": (b"POST /nowhere HTTP/1.1\r\nhost: a\r\n" + half, b""),
    }
    for name, seen in watch_all(strict.http_port, cases).items():
        assert RECEIVE * 0.9 < seen.seconds < RECEIVE + LATE, (name, seen)
        assert seen.received.count(b"HTTP/1.1 ") == 1
        assert seen.received.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 404 "))


def test_idle_connections_live_longer_than_half_sent_requests(strict: Server) -> None:
    for name, seen in watch_all(strict.http_port, {"silent": (b"", b""), "answered": (GET, b"")}).items():
        assert IDLE * 0.9 < seen.seconds < IDLE + LATE, (name, seen)
    with socket.create_connection(("127.0.0.1", strict.http_port)) as connection:
        connection.settimeout(10)
        for pause in (RECEIVE * 1.5, 0.0):
            connection.sendall(POST)
            time.sleep(RECEIVE * 0.3)
            connection.sendall(LENGTH + BODY[:9])
            time.sleep(RECEIVE * 0.3)
            connection.sendall(BODY[9:])
            received = b""
            while not received.endswith(b"}"):  # head and body may come one after the other
                received += connection.recv(65536)
            assert received.startswith(b"HTTP/1.1 200 ")
            time.sleep(pause)


def test_answers_longer_than_the_limits_are_not_cut(strict: Server) -> None:
    body = json.dumps({**LONG, "stream": True}).encode()
    stream = POST.replace(b"/generate", b"/openai/v1/completions") + b"content-length: %d\r\n\r\n" % len(body) + body
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", strict.http_port))
        connection.settimeout(300)
        connection.sendall(stream + POST)  # the next request has begun, too, and waits for its turn
        time.sleep(2 * RECEIVE)  # a slow reader
        received = b""
        while not received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
            part = connection.recv(4096)
            assert part, "the stream was cut"
            received += part
        connection.sendall(LENGTH + BODY)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    wait_until(lambda: any(line["status"] == 200 for line in strict.requests("/openai/v1/completions")), "it is logged")
    (line,) = [line for line in strict.requests("/openai/v1/completions") if line["status"] == 200]
    assert line["seconds"] > RECEIVE


def test_a_head_without_end_is_refused(strict: Server) -> None:
    chunked = POST + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"
    cases = {
        "a long value": POST + b"x: ",
        "many headers": POST + b"x: y\r\n",
        "a long address": b"GET /",
        "a long trailer": chunked + b"0\r\nx: ",
        "a long chunk extension": chunked + b"1;x=",
    }
    for name, beginning in cases.items():
        received = bytearray()
        with socket.create_connection(("127.0.0.1", strict.http_port), timeout=10) as connection:
            connection.sendall(beginning)
            rest = b"x: y\r\n" * 100 if name == "many headers" else b"y" * 600

            def flood(connection: socket.socket = connection, rest: bytes = rest) -> None:
                with contextlib.suppress(OSError):
                    for _ in range(2000):
                        connection.sendall(rest)

            sender = threading.Thread(target=flood)
            sender.start()
            with contextlib.suppress(ConnectionError):  # what we went on to send makes a reset of the close
                while part := connection.recv(65536):
                    received += part
            sender.join()
        assert received.startswith(b"HTTP/1.1 431 ") or not received, (name, received)
    assert not [line for line in strict.lines() if "exception" in line]


def test_bad_framing_is_told_in_json(strict: Server) -> None:
    seen = watch(strict.http_port, b"GET /health HTTP/9.9\r\n\r\n")
    assert seen.received.startswith(b"HTTP/1.1 400 ")
    assert json.loads(seen.received.split(b"\r\n\r\n")[1]) == {"error": "the request is not valid HTTP"}
    assert watch(strict.http_port, b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n").received == seen.received


@pytest.mark.parametrize("pieces", [1, 2, 50])
def test_an_offer_of_another_protocol_is_ignored(server: Server, pieces: int) -> None:
    """Java's client offers HTTP/2 with every request, bodies included."""
    offer = b"connection: upgrade, http2-settings\r\nhttp2-settings: AAEAAEAA\r\nupgrade: h2c\r\n"
    chunked = b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    socketed = GET[:-2] + b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=10) as connection:
        for request in (POST + offer + LENGTH + BODY, POST + offer + chunked, socketed, POST + LENGTH + BODY):
            size = -(-len(request) // pieces)
            for i in range(0, len(request), size):
                connection.sendall(request[i : i + size])
                time.sleep(0.002 if pieces > 1 else 0)
            received = b""
            while not received.endswith(b"}"):
                received += connection.recv(65536)
            assert received.startswith(b"HTTP/1.1 200 "), (request, received)
            assert (b'"text":' in received) == (BODY in request)
        connection.sendall((GET[:-2] + offer + b"\r\n") * 300)
        received = b""
        while received.count(b"HTTP/1.1 200 ") < 300:
            received += connection.recv(65536)


def test_a_websocket_that_is_not_served_needs_the_token_too(tiny: Path, tmp_path: Path) -> None:
    """uvicorn would ask the application about it in other terms than those of HTTP, which the token goes by."""
    (tmp_path / "token").write_text("secret")
    with start_server(tiny, tmp_path / "log", "--token_file", str(tmp_path / "token")) as server:
        headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
        answer = httpx.get(f"{server.url}/info", headers={**headers, "sec-websocket-key": "A" * 22 + "=="})
    assert answer.status_code == 401


BEGUN = PREFACE + frame(4, 0, 0, b"")
CALLED = BEGUN + frame(1, 4, 1, CALL_HEAD)


def test_half_a_call_over_grpc(strict: Server) -> None:
    message = infer_request("prometheus-mini", "привет", {"target": "en", "max_tokens": 3})
    data = b"\0" + struct.pack(">I", len(message)) + message
    dripped = b"".join(frame(0, 0, 1, data[i : i + 1]) for i in range(len(data)))
    connecting = {
        "silent": (b"", b""),
        "half a preface": (BEGUN[:10], b""),
        "preface by byte": (b"", BEGUN),
        "no settings": (BEGUN[:24], b""),
    }
    idle = {
        "no call": (BEGUN, b""),
        "half a frame's head": (CALLED[: len(BEGUN) + 5], b""),
        "half of the headers": (CALLED[:-20], b""),
        "headers without end": (BEGUN + frame(1, 0, 1, CALL_HEAD), b""),
    }
    called = {
        "no message": (CALLED, b""),
        "half a message": (CALLED + frame(0, 0, 1, data[:-3]), b""),
        "half a frame": (CALLED + frame(0, 1, 1, data)[:-3], b""),
        "message by byte": (CALLED, dripped),
    }
    found = watch_all(strict.grpc_port, {**connecting, **idle, **called})
    for name, seen in found.items():
        least = RECEIVE if name in connecting else IDLE if name in idle else RECEIVE + IDLE
        most = least + IDLE if name in called else least  # gRPC's clock of idle connections is that coarse after a call
        assert least * 0.8 < seen.seconds < most + LATE, (name, seen)
        assert (b"message: not complete after 1 seconds" in seen.received) == (name in called), (name, seen)

    def told() -> int:
        return sum(line.get("error") == "BodyTooSlow" and line["protocol"] == "grpc" for line in strict.lines())

    wait_until(lambda: told() >= len(called), "each is logged")


def test_grpc_calls_longer_than_the_limits_and_after_them(strict: Server) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{strict.grpc_port}") as channel:
        infer = channel.unary_unary(INFER)
        short = infer_request("prometheus-mini", "привет", {"target": "en", "max_tokens": 3})
        with ThreadPoolExecutor(4) as pool:
            long = infer_request("prometheus-mini", "привет, мир", {"target": "en", "max_tokens": 2000})
            started = time.monotonic()
            assert all(pool.map(lambda _: infer(long, timeout=300), range(8)))
            assert time.monotonic() - started > RECEIVE
        time.sleep(IDLE * 1.2)  # the server closes the connection, the client opens another
        assert infer(short, timeout=60)
