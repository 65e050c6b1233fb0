"""The client of the load tests against a server of plain sockets, and the load test itself on a miniature bundle."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.load.client import Client, StatusError
from benchmarks.load.http import TARGETS, http_table
from benchmarks.serving.models import write_bundles
from benchmarks.serving.shapes import TINY
from model.config import NetworkConfig

ROOT = Path(__file__).resolve().parents[2]
OK = b"HTTP/1.1 200 OK\r\n"


async def against(answers: list[bytes], work: Callable[[Client], Awaitable[Any]]) -> Any:
    """Run ``work`` with a client of a server that gives these answers, one a request, and then closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
            for start in range(0, len(answer), 7):  # in pieces that respect nothing
                writer.write(answer[start : start + 7])
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Client("127.0.0.1", server.sockets[0].getsockname()[1]) as client:
        return await work(client)


def chunked(*parts: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return OK + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


def test_whole_answers_one_after_another() -> None:
    async def work(client: Client) -> list[tuple[int, bytes]]:
        return [await client.call("POST", "/x", b"abc") for _ in range(3)]

    answers = [
        OK + b"Content-Length: 5\r\n\r\nhello",
        chunked(b"he", b"llo!"),
        b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n",
    ]
    assert asyncio.run(against(answers, work)) == [(200, b"hello"), (200, b"hello!"), (404, b"")]


def test_a_body_in_chunks_is_the_same_body() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b"transfer-encoding: chunked" in head and b"content-length" not in head
        size, body = int(await reader.readuntil(b"\r\n"), 16), await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.write(OK + b"Content-Length: %d\r\n\r\n" % size + body[:size])

    async def run() -> tuple[int, bytes]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, Client("127.0.0.1", port, chunked=True) as client:
            return await client.call("POST", "/x", b"a body")

    assert asyncio.run(run()) == (200, b"a body")


def test_events_are_cut_where_they_end() -> None:
    async def work(client: Client) -> list[bytes]:
        return [event async for event in client.events("/x", b"{}")]

    pieces = (b"data: one\n\nda", b"ta: tw", b"o\n\ndata: three\n", b"\n")
    assert asyncio.run(against([chunked(*pieces)], work)) == [b"one", b"two", b"three"]


def test_errors_are_told() -> None:
    async def work(client: Client) -> None:
        async for _ in client.events("/x", b"{}"):
            pass

    with pytest.raises(StatusError, match="429: full"):
        asyncio.run(against([b"HTTP/1.1 429 No\r\ncontent-length: 4\r\n\r\nfull"], work))
    with pytest.raises(ConnectionError, match="in the middle"):
        asyncio.run(against([chunked(b"data: one\n\n")[:-5]], work))
    with pytest.raises(ConnectionError, match="before it answered"):
        asyncio.run(against([b""], work))


def test_the_load_test_in_miniature(tmp_path: Path) -> None:
    network = {**TINY.networks["seq2seq"], "max_positions": 128}
    write_bundles(tmp_path / "models", NetworkConfig(**network), {"int8": ("int8", "row")})
    command = [sys.executable, "-m", "benchmarks.load.http", "--bundle", str(tmp_path / "models" / "int8")]
    command += ["--streams", "8", "--tokens", "20", "--rounds", "1", "--calls", "20", "--starts", "1", "--threads", "1"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "http.json")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((tmp_path / "http.json").read_text("utf-8"))
    assert set(result["targets"]) == set(TARGETS)
    assert result["streams"]["tokens_per_stream"] == 20
    assert 0 < result["streams"]["first_token"]["p50"] <= result["streams"]["request"]["p95"]
    assert set(result["unary"]["own_cpu"]) == {"/generate", "v2 JSON", "v2 binary", "OpenAI", "v2 gRPC"}
    assert result["memory"]["peak_mb"] > 50 and result["starts"][0] > 0.1
    assert done.stdout.strip() == http_table(result)


def test_missed_targets_are_marked() -> None:
    found = {
        name: {"found": most[0] * (2 if name == "start" else 0.5), "must": most[0]} for name, most in TARGETS.items()
    }
    percentiles = {"p50": 0.1, "p95": 0.2, "max": 0.3}
    table = http_table(
        {
            "targets": found, "slots": 64, "date": "2026-01-02T00:00:00Z", "bundle": {"precision": "int8"},
            "streams": {"streams": 100, "rounds": 5, "tokens_per_stream": 50.0, "tokens_per_second": 1e4,
                        "request": percentiles, "first_token": percentiles},
            "unary": {"tokens": 8, "engine_cpu": 1e-3, "own_cpu": {"/generate": 4e-4}},
            "machine": {"cpu": "A CPU", "cores": 2, "load_average": 0.0},
        }
    )  # fmt: skip
    assert table.count("(missed)") == 1
    assert "| process start to ready, median | 3 s | 6 s (missed) |" in table
    assert "500 ms | 250 ms |" in table and "400 MB | 200 MB |" in table
