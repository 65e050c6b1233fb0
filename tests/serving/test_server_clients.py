"""Other people's clients against the real server, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CLIENTS = Path(__file__).with_name("clients")


@pytest.mark.parametrize("script", ["triton_http", "triton_grpc", "kserve_clients", "openai_python"])
def test_client(server: Any, script: str) -> None:
    ports = {
        "triton_http": [server.http_port],
        "triton_grpc": [server.grpc_port],
        "kserve_clients": [server.http_port, server.grpc_port],
        "openai_python": [server.http_port],
    }[script]
    command = [sys.executable, str(CLIENTS / f"{script}.py"), *map(str, ports)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith("ok")
