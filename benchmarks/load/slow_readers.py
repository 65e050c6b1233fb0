"""Clients that ask for as much as they may and read none of it: what do they cost the server, and everybody else?

A phase without them, one in which their calls are not read, and one in which the same calls are. The resident memory
has to stay within 50 MB of what the server held before, every slot and connection has to come free again, and other
clients must not wait longer than beside clients who read.

    python -m benchmarks.load.slow_readers                 # 200 of them for 90 s; writes results/slow_readers.json
    python -m benchmarks.load.slow_readers --seconds 20 --readers 40 --out /tmp/slow_readers.json
"""

import asyncio
import json
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.load.client import Client, get_json
from benchmarks.load.http2 import CALL_HEAD, PREFACE, frame
from benchmarks.load.messages import infer_request
from benchmarks.load.server import ServerProcess
from benchmarks.load.trial import conclude, p95, trial_parser
from benchmarks.machine import markdown
from model.options import Parser, read_settings, run
from model.settings import Count, Settings, setting

HOST = "127.0.0.1"
GROWTH_MB = 50.0
OTHERS, PAUSE = 4, 0.05  # well-behaved clients, and seconds between the calls of one
SLOWER = 1.5  # times the p95 beside clients who read: beyond it others have been affected
GRPC_CALLS = 100  # on one connection
PIPELINED = 2000


class ReaderSettings(Settings):
    """How long and by how many the server is held up."""

    seconds: float = setting(90.0, "How long the phase beside clients who do not read lasts.", "seconds", gt=0)
    readers: Count = setting(200, "How many of them there are.")


class Attack:
    """The calls, made for one server; ``info`` is what its ``/info`` said."""

    def __init__(self, http_port: int, grpc_port: int, info: dict[str, Any]) -> None:
        self.http_port, self.grpc_port = http_port, grpc_port
        self.model = info["name"]
        tokens = min(info["limits"]["max_new_tokens"], 256)
        text = "the quick brown fox jumps over"
        told = max(1, min(64, (1 << 15) // (tokens * 21)))
        common = {"model": self.model, "max_tokens": tokens}
        completions, chat = "/openai/v1/completions", "/openai/v1/chat/completions"
        many = {**common, "prompt": [text] * 64}
        few = {**common, "prompt": [text] * told, "logprobs": 20}
        talk = {
            **common,
            "messages": [{"role": "user", "content": text}],
            "logprobs": True,
            "top_logprobs": 20,
            "temperature": 2,
        }
        v2 = {
            "inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [64], "data": [text] * 64}],
            "parameters": {"max_tokens": tokens},
        }
        self.kinds = {
            "too many log-probabilities": _post(completions, {**many, "logprobs": 20, "stream": True}),
            "log-probabilities, streamed": _post(completions, {**few, "stream": True}),
            "log-probabilities, whole": _post(completions, few),
            "a chat's, whole": _post(chat, {**talk, "n": min(8, told)}),
            "64 texts, streamed": _post(completions, {**many, "stream": True}),
            "64 texts, v2": _post(f"/v2/models/{self.model}/infer", v2),
            "pipelined": b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n" * PIPELINED,
            "gRPC": self._grpc(text),
        }

    def open(self, number: int) -> socket.socket:
        """The connection of one client, its call sent."""
        kind = list(self.kinds)[number % len(self.kinds)]
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((HOST, self.grpc_port if kind == "gRPC" else self.http_port))
        connection.setblocking(False)
        connection.send(self.kinds[kind])
        return connection

    def _grpc(self, text: str) -> bytes:
        """Many calls over one connection that takes no answer at all."""
        message = infer_request(self.model, text, {"max_tokens": 1})
        data = b"\0" + struct.pack(">I", len(message)) + message
        no_window = frame(4, 0, 0, struct.pack(">HI", 4, 0))
        calls = [frame(1, 4, 2 * i + 1, CALL_HEAD) + frame(0, 1, 2 * i + 1, data) for i in range(GRPC_CALLS)]
        return PREFACE + no_window + b"".join(calls)


async def slow_readers(http_port: int, grpc_port: int, pid: int, seconds: float, readers: int) -> dict[str, Any]:
    """Attack a running server; what happened, with ``problems``, which is empty when all is well."""
    attack = Attack(http_port, grpc_port, await get_json(HOST, http_port, "/info"))
    process = psutil.Process(pid)
    fds = process.num_fds()
    alone = await _phase(attack, process, seconds / 4, 0, read=False)
    unread = await _phase(attack, process, seconds, readers, read=False)
    read = await _phase(attack, process, seconds / 2, readers, read=True)
    until = time.monotonic() + 20
    while process.num_fds() > fds + 8 and time.monotonic() < until:
        await asyncio.sleep(0.2)
    growth = unread["most_mb"] - alone["most_mb"]
    problems = []
    if growth > GROWTH_MB:
        problems.append(f"resident memory grew by {growth:.1f} MB")
    if unread["p95"] > SLOWER * read["p95"]:
        problems.append(f"others waited {unread['p95']:.3f} s at p95, beside readers {read['p95']:.3f}")
    if unread["failed"] * (read["calls"] + 1) > (read["failed"] + 1) * unread["calls"]:
        problems.append(f"{unread['failed']} calls of others failed, beside readers {read['failed']}")
    if process.num_fds() > fds + 8:
        problems.append(f"{process.num_fds()} file descriptors are open at the end, {fds} at the beginning")
    return {
        "seconds": seconds,
        "readers": readers,
        "phases": {"alone": alone, "beside clients who do not read": unread, "beside clients who read": read},
        "growth_mb": round(growth, 1),
        "problems": problems,
    }


async def _phase(attack: Attack, process: psutil.Process, seconds: float, readers: int, read: bool) -> dict[str, Any]:
    """Well-behaved clients for some seconds, and the others beside them; one that is closed comes again."""
    over = time.monotonic() + seconds
    seen: list[float] = []
    sizes: list[float] = []
    unread: list[int] = []
    failed = closed = 0

    async def other() -> None:
        nonlocal failed
        body = json.dumps({"prompt": "hello", "target": "ru", "max_tokens": 8}).encode()
        async with Client(HOST, attack.http_port) as client:
            while time.monotonic() < over:
                began = time.monotonic()
                status, _ = await client.call("POST", "/generate", body)
                if status == 200:
                    seen.append(time.monotonic() - began)
                else:
                    failed += 1
                await asyncio.sleep(PAUSE)

    async def one(number: int) -> None:
        nonlocal closed
        loop = asyncio.get_running_loop()
        await asyncio.sleep(number / max(1, readers) * seconds / 3)
        while time.monotonic() < over:
            connection = attack.open(number)
            try:
                while time.monotonic() < over:
                    if read:
                        async with asyncio.timeout(max(0.01, over - time.monotonic())):
                            if not await loop.sock_recv(connection, 1 << 16):
                                break
                    else:
                        await asyncio.sleep(0.5)
                        connection.getpeername()  # fails once the server has reset the connection
                        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                            break
            except (OSError, TimeoutError):
                pass
            finally:
                connection.close()
            closed += time.monotonic() < over
            await asyncio.sleep(1.0)

    async def watch() -> None:
        async with Client(HOST, attack.http_port) as client:
            while time.monotonic() < over:
                figures = (await client.call("GET", "/metrics"))[1].decode()
                waiting = [line for line in figures.splitlines() if line.startswith("slm_unread_bytes{")]
                unread.append(int(float(waiting[0].split()[-1])) if waiting else 0)
                sizes.append(process.memory_info().rss / 1e6)
                await asyncio.sleep(0.25)

    await asyncio.gather(watch(), *(other() for _ in range(OTHERS)), *(one(number) for number in range(readers)))
    return {
        "first_mb": round(sizes[0], 1),
        "most_mb": round(max(sizes), 1),
        "last_mb": round(sizes[-1], 1),
        "most_unread_mb": round(max(unread) / 1e6, 2),
        "calls": len(seen),
        "failed": failed,
        "p95": p95(seen) if seen else float("inf"),
        "closed": closed,
    }


def _post(path: str, body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    return b"POST %s HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (path.encode(), len(content), content)


def table(result: dict[str, Any]) -> str:
    """Markdown: one line per phase."""
    head = ["", "MB, first", "most", "last", "unread MB, most", "others' calls", "failed", "p95, s", "closed"]
    rows = [[name, *map(str, phase.values())] for name, phase in result["phases"].items()]
    verdict = "; ".join(result["problems"]) or "memory is flat, others are unaffected"
    return f"{markdown(head, rows)}\n\n{result['readers']} clients, {result['seconds']:.0f} s. Verdict: {verdict}."


def parser() -> Parser:
    """What to serve, and how many read nothing of it."""
    return trial_parser("slow_readers", __doc__, ReaderSettings)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve, attack, and judge."""
    options = parser().parse_args(argv)
    given = read_settings(ReaderSettings, options)
    with tempfile.TemporaryDirectory() as folder, ServerProcess(options.bundle, Path(folder) / "log") as server:
        ports = server.http_port, server.grpc_port
        result = asyncio.run(slow_readers(*ports, server.pid, given.seconds, given.readers))
    return conclude("slow_readers", result, options.out, table(result))


if __name__ == "__main__":
    sys.exit(run(main))
