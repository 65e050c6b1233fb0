"""A person who starts the server reads one line; a program that does reads JSON."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.helpers.bundles import tiny_bundle
from tests.helpers.servers import ROOT, free_ports, wait_until

LINE, JSON = b"(Ctrl-C stops)", b'"http_port"'
INFER = {"prompt": "Этот рис такой сладкий!", "target": "en", "max_tokens": 2}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("terminal") / "bundle")


@contextmanager
def started(bundle: Path, output: int, *options: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """A server that writes to a file descriptor, which is closed here: (the process, its port)."""
    http_port, grpc_port = free_ports(2)
    command = [sys.executable, "-m", "serving", f"--bundle={bundle}", f"--http_port={http_port}"]
    command += [f"--grpc_port={grpc_port}", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    os.close(output)
    try:
        yield process, http_port
    finally:
        process.kill()
        process.wait()


def read(end: int, until: bytes = b"") -> bytes:
    """What comes out of a pipe or a terminal, to its end or until it holds ``until``."""
    found = b""
    while not until or until not in found:
        try:
            piece = os.read(end, 4096)
        except OSError:  # how a terminal ends
            piece = b""
        if not piece:
            assert not until, found
            return found
        found += piece
    return found


def session(bundle: Path, terminal: bool, wanted: bytes, *options: str) -> list[str]:
    """All lines of a server that is started, says what is ``wanted``, is asked once, and ended by Ctrl-C."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    with started(bundle, theirs, *options) as (process, port):
        said = read(ours, wanted)
        wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "the port")
        assert httpx.post(f"http://localhost:{port}/generate", json=INFER, timeout=60, verify=False).status_code == 200
        process.send_signal(signal.SIGINT)
        said += read(ours)
        assert process.wait(60) == 0
    os.close(ours)
    return said.decode("utf-8").replace("\r\n", "\n").splitlines()


def test_a_person_reads_one_line_with_the_address(bundle: Path) -> None:
    (line,) = session(bundle, True, LINE)
    assert re.fullmatch(r"prometheus-mini \(fp32, ru↔en\) at http://localhost:\d+/  \(Ctrl-C stops\)", line)


def test_a_program_reads_json(bundle: Path) -> None:
    lines = [json.loads(line) for line in session(bundle, False, JSON)]
    assert "serving" in [line["message"] for line in lines] and lines[-1]["message"] == "stopped"
    assert [line["route"] for line in lines if line["message"] == "request"] == ["POST /generate"]


@pytest.mark.parametrize(("terminal", "wanted"), [(True, "json"), (False, "text")])
def test_who_asks_for_a_form_gets_it(bundle: Path, terminal: bool, wanted: str) -> None:
    lines = session(bundle, terminal, LINE if wanted == "text" else JSON, f"--log_format={wanted}")
    assert (len(lines) == 1) is (wanted == "text")
    assert all(line.startswith("{") for line in lines) is (wanted == "json")
