"""README keeps its word: its tables come from committed results, its tree is the tree, its calls work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.given import settings, sources
from pipelines.run import parser
from pipelines.settings import profile_names
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


LINES = [line for _, block in BLOCKS for line in re.findall(r"^make .+", block, re.M)]
LINES += [f"make pipeline-run {words}" for words in re.findall(r"`((?:SET|CORPUS|TEST)='[^`]+)`", README)]


@pytest.mark.parametrize("line", LINES)
def test_every_make_line_is_understood(line: str) -> None:
    """What a shell and make make of it is what the program takes: nothing is run."""
    command = f"{line.split(' #', maxsplit=1)[0]} -n --no-print-directory -o .venv/.stamp"
    shown = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    if "pipelines.run" in shown:
        words = shlex.split(shown.replace("\\\n", " "))
        options = parser().parse_args(words[words.index("pipelines.run") + 1 :])
        assert options.profile in profile_names()
        for setting in settings(options.set):
            assert re.fullmatch(r"[a-z]+(\.\w+)+=.+", setting) and yaml.safe_load(setting.split("=", 1)[1]) is not None
        assert all("://" in source or re.fullmatch(r"[\w. ]+", source) for source in sources(options.corpus))


def test_the_lines_are_found() -> None:
    assert "make pipeline-run SET='corpus.languages=[de, en]'" in LINES and len(LINES) >= 8


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
