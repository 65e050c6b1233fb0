"""Clients who ask and do not read, on the real server process: what they hold is bounded, in bytes and in time.

`python -m benchmarks.load.slow_readers` has 200 of them for 90 seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from benchmarks.load.slow_readers import GROWTH_MB, Attack
from serving.readers import REPRIEVE, Readers
from tests.helpers.bundles import tiny_bundle
from tests.helpers.servers import ROOT, Server, free_ports, start_server, wait_until
from tests.helpers.streams import speak

CLIENTS = 24
EIGHT = {"prompt": ["hello"] * 8, "max_tokens": 60}
SHORT = {"prompt": "hello", "target": "ru", "max_tokens": 3}


def figure(server: Server, name: str) -> float:
    found = re.search(rf"^slm_{name}(?:{{.*}})? (\S+)$", server.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def given_up(server: Server) -> int:
    return sum("of an answer are dropped" in line["message"] for line in server.lines())


@contextmanager
def unread(server: Server, request: bytes) -> Iterator[socket.socket]:
    """A connection that has asked, with next to no room for an answer."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.http_port))
        connection.settimeout(30)
        connection.sendall(request)
        yield connection


def post(path: str, body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    return b"POST %s HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (path.encode(), len(content), content)


def test_memory_stays_flat_and_nobody_outlives_the_deadline(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", family="seq2seq", max_positions=256)
    limits = ["--request_timeout", "8", "--idle_timeout", "8", "--max_unread_bytes", "2000000"]
    with start_server(bundle, tmp_path / "log", *limits) as server, ExitStack() as stack:
        process = psutil.Process(server.process.pid)
        attack = Attack(server.http_port, server.grpc_port, server.get("/info").json())
        assert server.post("/generate", SHORT).status_code == 200
        before, descriptors = process.memory_info().rss, process.num_fds()
        for number in range(CLIENTS):
            stack.enter_context(attack.open(number))
        seen = []

        def watched(over: bool) -> bool:
            seen.append((process.memory_info().rss - before, figure(server, "unread_bytes")))
            assert server.get("/health/live").status_code == 200
            return over

        wait_until(lambda: watched(figure(server, "readers_behind") > 0), "some are seen to be behind", 30)
        wait_until(lambda: watched(process.num_fds() <= descriptors + 2), "all of them are closed", 60)
        assert max(size for size, _ in seen) < GROWTH_MB * 1e6
        assert max(waiting for _, waiting in seen) > 64_000
        wait_until(lambda: server.engine()["running"] + server.engine()["waiting"] == 0, "every slot is free")
        assert server.post("/generate", SHORT).status_code == 200
        wait_until(lambda: figure(server, "readers_behind") == 0, "none is behind")
        assert not [line for line in server.lines() if "exception" in line]


def test_the_row_of_a_lagging_stream_ends_when_too_much_waits(slow: Path, tmp_path: Path) -> None:
    body = {"model": "prometheus-mini", "prompt": ["привет, мир"] * 8, "target": "en", "max_tokens": 2000}
    limits = ["--slots", "4", "--max_unread_bytes", "100000", "--request_timeout", "3600"]
    with (
        start_server(slow, tmp_path / "log", *limits) as server,
        httpx.Client(base_url=server.url, timeout=60) as other,
    ):
        expected = speak(other, "generate", "мир", target="en", max_tokens=300).text
        with unread(server, post("/openai/v1/completions", {**body, "stream": True})):
            wait_until(lambda: server.engine()["running"] > 0, "it runs")
            assert speak(other, "generate", "мир", target="en", max_tokens=300).text == expected
            wait_until(lambda: given_up(server) == 1, "it is given up", 60)
            wait_until(lambda: server.engine()["running"] + server.engine()["waiting"] == 0, "its rows are free")
        assert server.requests("/openai/v1/completions")[-1]["status"] == 499
        assert figure(server, "request_rejected_total") == 1


def test_few_bytes_have_the_same_deadline(tiny: Path, tmp_path: Path) -> None:
    """Less than counts as being behind: the page, asked for until nothing goes through any more."""
    with start_server(tiny, tmp_path / "log", "--request_timeout", "1", "--idle_timeout", "3600") as server:
        page = len(server.get("/").content)
        with unread(server, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * (1 + 1_000_000 // page)):
            wait_until(lambda: given_up(server) == 1, "it is closed", 30)


def test_an_answer_waits_for_the_one_before_it(tiny: Path, tmp_path: Path) -> None:
    """Thousands of requests in one packet, none of them answered before there is room; then all of them are."""
    count = 4000
    asked = b"GET /info HTTP/1.1\r\nhost: a\r\n\r\n" * count
    with start_server(tiny, tmp_path / "log", "--request_timeout", "3600") as server, ExitStack() as stack:
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        connections = [stack.enter_context(unread(server, asked)) for _ in range(10)]
        wait_until(lambda: figure(server, "readers_behind") == 10, "all are behind", 30)
        assert figure(server, "unread_bytes") < 10 * 200_000
        assert process.memory_info().rss - before < 20e6
        received = bytearray()
        while received.count(b"HTTP/1.1 200 ") < count or not received.endswith(b"}"):
            part = connections[0].recv(1 << 16)
            assert part, "the connection was closed"
            received += part
        wait_until(lambda: figure(server, "readers_behind") == 9, "one has caught up")


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (
            "completions",
            {"prompt": ["hello"] * 8, "logprobs": 20, "max_tokens": 60},
            "logprobs: 8 texts x max_tokens 60",
        ),
        (
            "completions",
            {"prompt": ["hello"] * 8, "logprobs": 20, "max_tokens": 60, "stream": True},
            "(1 + 20) = 10080",
        ),
        (
            "chat/completions",
            {
                "messages": [{"role": "user", "content": "hello"}],
                "n": 8,
                "temperature": 1,
                "logprobs": True,
                "top_logprobs": 20,
                "max_tokens": 60,
            },
            "10080 log-probabilities exceed the 5000",
        ),
    ],
)
def test_an_answer_too_large_is_refused_before_anything_runs(
    bounded: Server, path: str, body: dict[str, Any], words: str
) -> None:
    before = figure(bounded, "generation_tokens_total")
    answer = bounded.post(f"/openai/v1/{path}", {"model": "prometheus-mini", "target": "ru", **body})
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
    assert figure(bounded, "generation_tokens_total") == before
    assert bounded.post(f"/openai/v1/{path}", {"model": "prometheus-mini", **body, "max_tokens": 2}).status_code == 200


@pytest.fixture(scope="module")
def bounded(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_server(tiny, tmp_path_factory.mktemp("bounded") / "log", "--max_logprobs", "5000") as running:
        yield running


def test_an_idle_connection_keeps_no_results(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", family="seq2seq", max_positions=256)
    body = {"model": "prometheus-mini", "prompt": ["hello"] * 6, "max_tokens": 250, "logprobs": 20, "target": "ru"}
    with start_server(bundle, tmp_path / "log") as server, ExitStack() as stack:
        clients = [stack.enter_context(httpx.Client(base_url=server.url, timeout=60)) for _ in range(9)]
        process = psutil.Process(server.process.pid)
        sizes = []
        for client in clients:
            assert client.post("/openai/v1/completions", json=body).status_code == 200
            sizes.append(process.memory_info().rss)
        assert sizes[-1] - sizes[2] < 3e6


def test_a_log_that_nobody_reads_stops_nothing(tiny: Path) -> None:
    http_port, grpc_port = free_ports(2)
    command = [sys.executable, "-m", "serving", "--bundle", str(tiny), "--drain_delay", "0", "--threads", "1"]
    command += ["--http_port", str(http_port), "--grpc_port", str(grpc_port)]
    out, into = os.pipe()
    process = subprocess.Popen(command, cwd=ROOT, stdout=into, stderr=subprocess.DEVNULL)
    os.close(into)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=20) as client:

            def ready() -> bool:
                try:
                    return client.get("/health/ready").status_code == 200
                except httpx.TransportError:
                    return False

            wait_until(ready, "it is ready", 60)
            for _ in range(600):
                assert client.get("/info").status_code == 200
            with open(out, "rb", buffering=0) as log:
                lines = [log.read(1 << 20)]
                assert client.get("/info").status_code == 200
                process.terminate()
                while part := log.read(1 << 20):
                    lines.append(part)
            messages = [json.loads(line)["message"] for line in b"".join(lines).splitlines() if line.startswith(b"{")]
            assert any(re.fullmatch(r"\d+ log lines were dropped: nobody took them", message) for message in messages)
            assert messages[-1] == "stopped"
            assert process.wait(20) == 0
    finally:
        process.kill()


class Behind:
    """A reader as ``Readers`` sees it."""

    def __init__(self, size: int) -> None:
        self.size, self.why = size, ""

    def unread(self) -> int:
        return self.size

    def give_up(self, why: str) -> None:
        self.why = why


def test_those_who_hold_most_go_first_and_no_more_of_them_than_needed() -> None:
    async def run() -> None:
        readers = Readers(100)
        small, large = Behind(60), Behind(90)
        for reader in (small, large):
            readers.add(reader)
        assert readers.stats() == {"readers_behind": 2, "unread_bytes": 150}
        while not large.why:
            await asyncio.sleep(0.01)
        assert time.monotonic() - started >= REPRIEVE
        assert "more than 100 bytes" in large.why and not small.why
        readers.discard(small)
        assert readers.stats() == {"readers_behind": 0, "unread_bytes": 0}

    started = time.monotonic()
    asyncio.run(run())
