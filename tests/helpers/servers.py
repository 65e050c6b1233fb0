"""The real server process, for every test that speaks to it over the network.

with start_server(bundle, tmp_path / "log", "--slots", "2") as server:
    server.post("/generate", {"prompt": "hello", "target": "ru"})
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "correct-horse-battery-staple"  # of servers that ask for one


@dataclass
class Server:
    """A running ``python -m serving``."""

    process: subprocess.Popen
    http_port: int
    grpc_port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def get(self, path: str) -> httpx.Response:
        """GET over a new connection. ``verify`` is off because reading certificates takes longer than the request."""
        return httpx.get(self.url + path, timeout=60, verify=False)

    def post(self, path: str, body: Any) -> httpx.Response:
        """POST a JSON body over a new connection."""
        return httpx.post(self.url + path, json=body, timeout=60, verify=False)

    def engine(self) -> dict[str, Any]:
        """The engine's own figures: running, waiting, slots ..."""
        return self.get("/health").json()["engine"]

    def listening(self) -> bool:
        """Whether the HTTP port takes connections."""
        with socket.socket() as found:
            return found.connect_ex(("127.0.0.1", self.http_port)) == 0

    def lines(self) -> list[dict[str, Any]]:
        """The log. ONNX Runtime's own lines are not JSON and left out; a JSON string may hold what ``splitlines`` takes
        for the end of a line."""
        return [json.loads(line) for line in self.log.read_text("utf-8").split("\n") if line.startswith("{")]

    def requests(self, route: str) -> list[dict[str, Any]]:
        """Log lines of the requests that were POSTed to an address."""
        return [line for line in self.lines() if line.get("route") == f"POST {route}"]

    def logged(self, route: str, count: int = 1) -> dict[str, Any]:
        """The log line of the last of ``count`` requests POSTed to an address, all there have been.

        A line is written after its answer: who has the answer may still have to wait for the line.
        """
        wait_until(lambda: len(self.requests(route)) >= count, f"{count} lines of {route} in the log")
        lines = self.requests(route)
        assert len(lines) == count, lines
        return lines[-1]

    def terminate(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait for a condition; fails naming ``what`` when it does not come true, however busy the machine is."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for: {what}"
        time.sleep(0.005)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for found in sockets:
        found.bind(("127.0.0.1", 0))
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


@contextmanager
def start_server(bundle: Path, log: Path, *options: str) -> Iterator[Server]:
    """Run the server until the block ends; a server that does not become ready fails with its log."""
    http_port, grpc_port = free_ports(2)
    command = [sys.executable, "-m", "serving", "--bundle", str(bundle), "--http_port", str(http_port)]
    command += ["--grpc_port", str(grpc_port), "--threads", "1", "--drain_delay", "0", *options]
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, env=os.environ)
    server = Server(process, http_port, grpc_port, log)
    try:
        end = time.monotonic() + 600  # a hang ends by it; a machine that is busy takes minutes
        while time.monotonic() < end:
            assert process.poll() is None, f"the server has left:\n{log.read_text()}"
            try:
                if server.get("/health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        else:
            pytest.fail(f"the server is not ready after 600 s:\n{log.read_text()}")
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                pytest.fail(f"the server did not stop:\n{log.read_text()}")
