"""One dialect for every ``python -m``: --help teaches, wrong input is one line and exit status 2, never a traceback."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from model.options import run

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("benchmarks", "components", "evaluation", "model", "pipelines", "release", "serving", "tools")
ELSEWHERE = {"benchmarks.serving.reference", "tools.phrasebook"}  # run in environments of their own


def runnable() -> list[str]:
    """Every module that can be run, as ``python -m`` wants its name."""
    found = []
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        body = ast.parse(path.read_text("utf-8")).body
        if any(isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'" for node in body):
            found.append(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__"))
    return found


MODULES = [name for name in runnable() if name not in ELSEWHERE]


def load(name: str):
    package = (ROOT / name.replace(".", "/") / "__main__.py").exists()
    return importlib.import_module(f"{name}.__main__" if package else name)


@pytest.mark.parametrize("name", MODULES)
def test_help_names_the_command_and_explains_every_option(name):
    parser = load(name).parser()
    assert parser.prog == f"python -m {name}"
    assert len(parser.description.split()) >= 3
    for action in parser._actions:
        assert action.help, f"{action.dest} is not explained"
        for option in set(action.option_strings) - {"-h"}:
            assert re.fullmatch("--(no-)?[a-z0-9_]+", option), f"{option} is not spelled --like_this"


@pytest.mark.parametrize("name", MODULES)
def test_a_word_that_is_no_option_is_one_line(name, capsys):
    with pytest.raises(SystemExit) as left:
        run(lambda: load(name).main(["--klingon", "7"]))
    (line,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 2 and line.startswith(f"python -m {name}: ")


WRONG = [
    ("benchmarks.agreement", ["--run", "NOWHERE"], "has no exported bundle or no corpus"),
    ("benchmarks.capacity", ["--rate", "0"], "--rate[0]: must be above 0, not 0.0"),
    ("benchmarks.kept", ["NOWHERE", "NOWHERE"], "no such directory; a bundle is a directory"),
    ("benchmarks.load.http", ["--rounds", "0"], "--rounds: must be at least 1, not 0"),
    ("benchmarks.load.rollout", ["--bundle", "NOWHERE"], "no such directory; a bundle is a directory"),
    ("benchmarks.load.soak", ["--seconds", "0"], "--seconds: must be above 0, not 0"),
    ("benchmarks.serving", ["--bench_python", "NOWHERE"], "installs the other engines"),
    ("benchmarks.threads", ["--threads", "1"], "one core leaves nothing to choose"),
    ("model.bundle", ["NOWHERE"], "no such directory; a bundle is a directory"),
    ("model.onnx.export", ["NOWHERE", "NOWHERE", "OUT"], "is not a finished checkpoint"),
    ("evaluation.parity", ["NOWHERE", "NOWHERE", "--corpus", "NOWHERE"], "no such directory; a bundle is a directory"),
    ("model.onnx.quantize", ["NOWHERE", "NOWHERE", "OUT"], "no such directory; a bundle is a directory"),
    ("model.onnx.quantize", ["NOWHERE", "NOWHERE", "OUT", "--calibration_rows", "0"], "--calibration_rows: must be"),
    ("model.pruning", ["NOWHERE", "NOWHERE", "--out", "OUT", "--fraction", "0.5"], "is not a finished checkpoint"),
    ("model.pruning", ["NOWHERE", "NOWHERE", "--out", "OUT", "--fraction", "1"], "--fraction: must be below 1"),
    ("model.tokenizer", ["NOWHERE", "--out", "OUT"], "NOWHERE"),
    ("model.tokenizer", ["--show", "NOWHERE", "text"], "NOWHERE"),
    ("model.training", ["NOWHERE", "NOWHERE", "--out", "OUT"], "NOWHERE"),
    ("model.training", ["NOWHERE", "NOWHERE", "--out", "OUT", "--steps", "-1"], "--steps: must be at least 1, not -1"),
    ("release", ["status", "--service", "nowhere"], "is not of the form NAMESPACE/NAME"),
    ("release", ["versions"], "cannot list the store runs"),
    ("release", ["to", "NOWHERE"], "runs/NOWHERE/bundle: nothing is published there"),
    ("tools.schemas", ["crds", "NOWHERE", "a release"], "NOWHERE"),
]


@pytest.mark.parametrize(("name", "words", "message"), WRONG, ids=[f"{name} {words[0]}" for name, words, _ in WRONG])
def test_what_cannot_be_done_is_one_line(name, words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(lambda: load(name).main(words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_the_status_reaches_the_shell(tmp_path):
    command = [sys.executable, "-m", "model.training", "x", "y", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr
