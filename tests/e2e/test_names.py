"""A clone, a profile, a corpus and test files with the names that people give, through make and all steps, silently."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from model.environment import NO_TELEMETRY
from tests.helpers.traces import CONTINUOUS_INTEGRATION, LOOK_UP, STRACE, may_trace

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "my python3 (клон) 'of' \"it\" $HOME; & # %s {}"
FOLDERS = ("components", "evaluation", "model", "pipelines", "release", "requirements", "serving")
PROFILE = "my (tiny) python3's $PROFILE.yaml"
CORPUS = "python3-мои пары [v2]::100% $HOME~ 👍.tsv"
TESTS = ["b;c & (d) {}.tsv", "e'f\"g\\ * #.tsv"]
STEPS = ["preflight", "prepare-data", "train-tokenizer", "train-model", "variant-fp32", "variant-fp16", "variant-int8"]
STEPS += ["gate"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """One run of three steps in a copy of the sources: (the process, the copy, the home it had, what strace saw)."""
    folder = tmp_path_factory.mktemp("clone") / FOLDER
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / ".venv").symlink_to(sys.prefix)
    shutil.copy(ROOT / "pipelines" / "profiles" / "tiny.yaml", folder / PROFILE)
    numbers = range(300)
    pairs = [f"Это слово номер {i} в длинном списке.\tThis is word number {i} in a long list.\n" for i in numbers]
    (folder / CORPUS).write_text("".join(pairs), encoding="utf-8")
    for name in TESTS:
        (folder / name).write_text("Это дом.\tThis is a house.\n", encoding="utf-8")
    home, trace = folder.parent / "home", folder.parent / "trace"
    home.mkdir()
    command = ["make", "-o", ".venv/.stamp", "pipeline-run", f"PROFILE={PROFILE}", f"CORPUS={CORPUS}"]
    command += [*(f"TEST={name}" for name in TESTS), "SET=training.steps=3", "SET=corpus.languages=[ru, en]"]
    if may_trace(folder.parent):
        command = [*STRACE, "-o", str(trace), *command]
    left_out = (*NO_TELEMETRY, *CONTINUOUS_INTEGRATION, "PROMETHEUS_TRACKING", "MAKEFLAGS", "MAKELEVEL")
    environment = {k: v for k, v in os.environ.items() if k not in left_out and not k.startswith(("XDG_", "CLEARML_"))}
    environment["HOME"] = str(home)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done, folder, home, trace


def test_every_step_ran(ran):
    done, folder, _, _ = ran
    assert (folder / "runs" / "latest").exists(), done.stdout[-3000:] + done.stderr[-3000:]
    summary = json.loads((folder / "runs" / "latest" / "summary.json").read_text(encoding="utf-8"))
    # Three steps of training need not pass the gates: whether anything was published is not the question here.
    assert {
        s["name"]: s["status"] for s in summary["steps"] if s["name"] not in ("publish", "refuse")
    } == dict.fromkeys(STEPS, "ok")
    counts = summary["corpus"]["counts"]
    assert counts["test"] == {"b;c & (d) {}": 1, "e'f\"g\\ * #": 1}
    assert CORPUS in json.dumps(summary["corpus"], ensure_ascii=False) and counts["train"] > 200
    measured = {score["test_set"] for variant in summary["variants"] for score in variant["scores"]}
    assert measured == {"heldout", *counts["test"]}


def test_nothing_was_written_but_into_the_run(ran):
    _, folder, home, _ = ran
    given = {*FOLDERS, "Makefile", "pyproject.toml", ".venv", PROFILE, CORPUS, *TESTS}
    assert {path.name for path in folder.iterdir()} == {*given, "runs"}
    assert {path.name for path in folder.parent.iterdir()} <= {FOLDER, "home", "trace", "try.trace"}
    assert len(list((folder / "runs").iterdir())) == 2  # the run, and latest
    assert list(home.rglob("*")) == []


def test_no_step_looked_anything_up(ran):
    """ClearML's tracker, which every training starts, among them."""
    if not ran[3].exists():
        pytest.skip("no strace, or it may not trace: look-ups of steps were NOT checked")
    assert not LOOK_UP.search(ran[3].read_text("utf-8", "replace"))
