"""README keeps its word: its tables come from committed results, its tree is the tree, its calls work."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.bundles import tiny_bundle
from tests.helpers.servers import start_server

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.S | re.M)


def test_tables_come_from_the_committed_results() -> None:
    command = [sys.executable, "-m", "benchmarks.results", "readme", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_tree_is_the_tree() -> None:
    block = next(block for _, block in BLOCKS if block.startswith("components/"))
    parent = ""
    for line in block.splitlines():
        name = line.split()[0]
        parent, path = (parent, parent + name) if line.startswith("  ") else (name, name)
        assert (ROOT / path).exists(), f"README's tree names {path}"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z-]+)", README)) - {"and"}))
def test_every_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.M), target


def test_every_curl_line_answers(tmp_path: Path) -> None:
    """Word for word, against the real server, but for its port."""
    block = next(block for language, block in BLOCKS if language == "sh" and "curl" in block)
    calls = [call.strip() for call in re.split(r"\n(?=curl)|\n\n(?=curl)", block) if call.strip()]
    assert len(calls) >= 5
    bundle = tiny_bundle(tmp_path / "bundle", max_positions=128)
    with start_server(bundle, tmp_path / "log") as server:
        for call in calls:
            command = call.replace("localhost:8080", f"127.0.0.1:{server.http_port}")
            done = subprocess.run(
                ["bash", "-c", command.replace("curl ", "curl -sS --fail-with-body ", 1)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{call}\n{done.stdout}{done.stderr}"
            assert done.stdout
