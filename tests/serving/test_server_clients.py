"""Other people's clients against the real server with their own defaults, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.servers import TOKEN

CLIENTS = Path(__file__).with_name("clients")
OTHERS = Path(__file__).resolve().parents[2] / ".venv-clients" / "bin" / "python"
needs_others = pytest.mark.skipif(
    not OTHERS.exists(), reason="no .venv-clients (`make .venv-clients/.stamp`): NOT tested with these"
)
# None of them has anything to say to its maker.
QUIET = {
    "LITELLM_TELEMETRY": "False",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}


def call(python: Path | str, script: str, *arguments: object) -> None:
    command = [str(python), str(CLIENTS / f"{script}.py"), *map(str, arguments)]
    environment = {**os.environ, **QUIET}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith("ok")


@pytest.mark.parametrize(
    "script", ["triton_http", "triton_grpc", "kserve_clients", "openai_python", "guidellm_requests"]
)
def test_client(server: Any, script: str) -> None:
    ports = {"triton_grpc": [server.grpc_port], "kserve_clients": [server.http_port, server.grpc_port]}
    call(sys.executable, script, *ports.get(script, [server.http_port]))


@needs_others
@pytest.mark.parametrize("script", ["langchain_", "litellm_"])
def test_client_of_its_own_environment(server: Any, script: str) -> None:
    call(OTHERS, script, server.http_port)


@needs_others
@pytest.mark.parametrize("script", ["libretranslate_clients", "deepl_python"])
def test_client_of_a_door(guarded: Any, script: str) -> None:
    """With the server's token as their key, which is in no line of the log."""
    call(OTHERS, script, guarded.http_port, TOKEN)
    assert TOKEN not in guarded.log.read_text("utf-8")
