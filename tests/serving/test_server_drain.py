"""SIGTERM under clients that keep their connections and never learn of it: what comes on an open one is answered."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httptools
import httpx
import pytest

from benchmarks.load.messages import INFER, infer_request
from serving.kserve.connection import SETTLED
from tests.helpers.servers import Server, start_server, wait_until

BODY = {"prompt": "привет", "target": "en", "max_tokens": 8}
HEADERS = {"content-type": "application/json"}
ANSWERED = 20  # calls of each client before the signal


class Clients:
    """Clients that call one server, each over its own connection, until the server takes no new ones."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.answered: Counter[str] = Counter()
        self.failed: list[str] = []
        self._lock = threading.Lock()

    def count(self, kind: str, calls: int = 1) -> None:
        """So many calls were answered."""
        with self._lock:
            self.answered[kind] += calls

    def rest(self, kind: str, path: str) -> None:
        """One call after the other, on one connection until an answer closes it."""
        while True:
            connection, calls = http.client.HTTPConnection("127.0.0.1", self.server.http_port, timeout=120), 0
            try:
                while True:
                    connection.request("POST", path, json.dumps(BODY), HEADERS)
                    answer = connection.getresponse()
                    text = answer.read().decode()
                    if answer.status != 200 or "error" in text:
                        self.failed.append(f"{kind}: {answer.status} {text}")
                    self.count(kind)
                    calls += 1
                    if answer.will_close:
                        break
            except (OSError, http.client.HTTPException) as error:
                if calls:  # else the port is closed, and nobody had promised anything
                    self.failed.append(f"{kind}: {error!r} after {calls} answers on its connection")
                return
            finally:
                connection.close()

    def pipelined(self, kind: str) -> None:
        """Streams and a whole answer asked for at once, and all read, before the next ones on the same connection."""
        body = json.dumps(BODY).encode()
        paths = (b"/generate_stream", b"/generate", b"/generate_stream")
        head = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
        asked = b"".join(head % (path, len(body), body) for path in paths)
        while True:
            answers, told = Answers(), 0
            try:
                with socket.create_connection(("127.0.0.1", self.server.http_port), timeout=120) as connection:
                    while not answers.closed:
                        connection.sendall(asked)
                        while answers.complete < told + len(paths):
                            data = connection.recv(1 << 16)
                            if not data:
                                raise ConnectionResetError(f"closed after {answers.complete - told} of {len(paths)}")
                            answers.parser.feed_data(data)
                        told = answers.complete
                        self.count(kind, len(paths))
            except OSError as error:
                if told or answers.complete:
                    self.failed.append(f"{kind}: {error!r} after {answers.complete} answers on its connection")
                return
            if set(answers.statuses) != {200}:
                self.failed.append(f"{kind}: {answers.statuses}")

    def rpc(self, kind: str, at_once: int) -> None:
        """So many gRPC calls at a time, over one channel, which makes a new connection when it is sent away."""
        request = infer_request("prometheus-mini", "привет", {"target": "en", "max_tokens": 8})
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{self.server.grpc_port}", options) as channel:
            infer = channel.unary_unary(INFER)
            while True:
                for call in [infer.future(request, timeout=120) for _ in range(at_once)]:
                    error = call.exception()
                    if error is None:
                        self.count(kind)
                    elif "failed to connect" in error.details():  # no call ever left
                        return
                    else:
                        self.failed.append(f"{kind}: {error.code()} {error.details()}")
                        return


class Answers:
    """What httptools tells of the answers on one connection."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.complete, self.closed, self.statuses = 0, False, list[int]()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.closed = self.closed or (name.lower(), value.lower()) == (b"connection", b"close")

    def on_headers_complete(self) -> None:
        self.statuses.append(self.parser.get_status_code())

    def on_message_complete(self) -> None:
        self.complete += 1


def test_no_call_on_an_open_connection_fails(tiny: Path, tmp_path: Path) -> None:
    """Nobody tells these clients: they call on until the port is closed, as routes do that are slow to forget a pod."""
    with start_server(tiny, tmp_path / "log", "--drain_delay", "4") as server:
        clients = Clients(server)
        kinds: list[tuple[Callable[..., None], Any]] = [
            *[(clients.rest, ("REST", "/generate"))] * 4,
            *[(clients.rest, ("streams", "/generate_stream"))] * 4,
            *[(clients.pipelined, ("pipelined",))] * 3,
            *[(clients.rpc, ("gRPC", 1))] * 3,
            *[(clients.rpc, ("gRPC at once", 8))] * 2,
        ]
        with ThreadPoolExecutor(len(kinds)) as pool:
            running = [pool.submit(call, *arguments) for call, arguments in kinds]
            names = {arguments[0] for _, arguments in kinds}

            def under_way() -> bool:
                return all(clients.answered[name] >= ANSWERED for name in names) or not server.listening()

            wait_until(under_way, "all call", 300)
            before = clients.answered.copy()
            server.process.send_signal(signal.SIGTERM)
            for one in running:
                one.result()
        assert server.process.wait(120) == 0
    assert not clients.failed, "\n".join(clients.failed)
    assert all(clients.answered[name] > before[name] for name in names), (before, clients.answered)
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_an_open_connection_is_waited_for(tiny: Path, tmp_path: Path) -> None:
    """One that is quiet for longer than a moment may still bring a call; with the last of them the server leaves."""
    with (
        start_server(tiny, tmp_path / "log", "--drain_delay", "300") as server,
        httpx.Client(base_url=server.url, timeout=60) as kept,
    ):
        channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
        infer = channel.unary_unary(INFER)
        request = infer_request("prometheus-mini", "привет", {"target": "en", "max_tokens": 3})
        assert kept.get("/health/ready").status_code == 200 and infer(request, timeout=60)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.get("/health/ready").status_code == 503, "it is not ready")
        time.sleep(SETTLED + 0.5)
        assert infer(request, timeout=60)
        time.sleep(SETTLED + 0.5)
        answer = kept.post("/generate", json=BODY)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert server.process.poll() is None
        channel.close()
        assert server.process.wait(60) == 0


@pytest.mark.parametrize("delay", ["0", "300"])
def test_a_server_without_connections_leaves_at_once(tiny: Path, tmp_path: Path, delay: str) -> None:
    with start_server(tiny, tmp_path / "log", "--drain_delay", delay) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
