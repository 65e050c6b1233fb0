"""The Makefile says what it can do, and hands every value on, the repeated ones too."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def make(*arguments: str, **variables: str) -> str:
    """Output of make in the repository; the outer make's variables are kept away."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS")) and k != "GNUMAKEFLAGS"}
    command = ["make", "--no-print-directory", "-o", ".venv/.stamp", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def options(*arguments: str, **variables: str) -> list[str]:
    words = shlex.split(make("-n", "pipeline-run", *arguments, **variables).replace("\\\n", " "))
    return words[words.index("--runner") + 2 :]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], []),
        (["TEST=a.tsv"], ["--test", "a.tsv"]),
        (["TEST=a.tsv", "TEST=b.tsv"], ["--test", "a.tsv", "b.tsv"]),
        (["TEST=a.tsv b.tsv", "CORPUS=c.tsv"], ["--corpus", "c.tsv", "--test", "a.tsv", "b.tsv"]),
        (
            ["TEST=a.tsv", "CORPUS=x.zst", "TEST=b.tsv c.tsv"],
            ["--corpus", "x.zst", "--test", "a.tsv", "b.tsv", "c.tsv"],
        ),
        (["CORPUS=https://host/x.tsv?a=1&b=2"], ["--corpus", "https://host/x.tsv?a=1&b=2"]),
        (["SET=training.steps=5", "SET=gate.min_chrf={}"], ["--set", "training.steps=5", "gate.min_chrf={}"]),
    ],
)
def test_every_value_arrives(arguments, expected):
    assert options(*arguments) == expected


def test_values_from_the_environment_arrive():
    assert options(TEST="a.tsv b.tsv") == ["--test", "a.tsv", "b.tsv"]


def test_help_lists_every_target_in_one_line_each():
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    listed = [line.split()[0] for line in make("help").splitlines()]
    assert set(listed) == targets and len(listed) == len(targets)
    assert {"setup", "pipeline-run", "pipeline-compile", "serve", "test", "lint", "types", "lock", "clean"} <= targets


def test_continuous_integration_runs_what_people_run():
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_locks_pin_what_the_issue_pins_and_name_no_machine():
    everything = (ROOT / "requirements" / "all.lock").read_text(encoding="utf-8")
    serving = (ROOT / "requirements" / "serving.lock").read_text(encoding="utf-8")
    for pin in ("torch==2.13.0", "kfp==2.17.0", "kfp-kubernetes==2.17.0", "kserve==0.21.0"):
        assert f"\n{pin}\n" in everything
    lines = [line for line in (everything + serving).splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+( ; .*)?", line) for line in lines)
    pins = {line for line in everything.splitlines() if not line.startswith("#")}
    assert {line for line in serving.splitlines() if not line.startswith("#")} <= pins
    assert not re.search(r"^(torch|kfp|onnx)==", serving, re.M)
    gpu, plain = (
        re.findall(rf"^{name}==(\S+) ; (.*)$", everything, re.M) for name in ("onnxruntime-gpu", "onnxruntime")
    )
    assert gpu[0][0] == plain[0][0] and 'platform_machine == "x86_64"' in gpu[0][1]
