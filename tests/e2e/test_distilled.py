"""Two true miniatures: a run that trains a teacher and learns from it, and one that learns from a published bundle."""

import json
import subprocess
import sys

import pytest

from model.corpus import read_split
from model.corpus.answers import answer
from tests.e2e.test_pipeline import ROOT, run_pipeline, summary_of

FEW = ["evaluation.max_rows=4", "evaluation.loss_rows=4", "evaluation.varied_rows=0", "distillation.keep_original=0.5"]
NETWORK = "distillation.teacher_network={d_model: 96, d_ff: 192}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with a teacher of its own: (what it said, the folder of runs)."""
    runs = tmp_path_factory.mktemp("taught")
    done = run_pipeline(runs, "--set", *FEW, "distillation.teacher_steps=150", NETWORK)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout, runs


def made(runs, step):
    (folder,) = (runs / "latest" / "artifacts").glob(f"*/{step}")
    return folder


def test_the_teacher_is_larger_and_the_network_learns_what_it_writes(finished):
    said, runs = finished
    summary = summary_of(runs)
    names = [step["name"] for step in summary["steps"]]
    assert names[names.index("train-tokenizer") + 1 :][:3] == ["train-teacher", "distil", "train-model"]
    assert "distil: " in said and " rows translated, 100% done" in said
    told = summary["training"]["distillation"]["teacher"]
    assert told["name"] == "trained in this run" and told["precision"] == "int8"
    assert told["parameters"] > summary["training"]["parameters"]
    before = list(read_split(made(runs, "prepare-data") / "corpus", "train"))
    after = list(read_split(made(runs, "distil") / "taught", "train"))
    assert [(row["ru"], row["en"]) for row in after] == [(row["ru"], row["en"]) for row in before]
    assert any(row[answer("en")] != row["en"] for row in after)
    counted = [entry for entry in summary["row_counts"] if entry["step"] == "distillation"]
    assert [entry["rows"] for entry in counted] == [len(before)] * 2
    manifest = json.loads((runs / "latest" / "bundle" / "bundle.json").read_text("utf-8"))
    assert manifest["provenance"]["training"]["distillation"]["teacher"] == told
    assert not (runs / "latest" / "bundle" / "teacher").exists() and "distillation" in (
        runs / "latest" / "report.html"
    ).read_text("utf-8")


def test_a_bundle_teaches_another_run_and_what_is_whole_is_used_again(finished, tmp_path):
    _, runs = finished
    teacher = made(runs, "train-teacher") / "bundle"
    done = run_pipeline(tmp_path, "--set", *FEW, f"distillation.teacher={teacher}", "gate.max_loss=0.001")
    assert "step train-teacher" not in done.stdout and "==> distil\n" in done.stdout, done.stdout[-4000:]
    summary = summary_of(tmp_path)
    first, told = (one["training"]["distillation"]["teacher"] for one in (summary_of(runs), summary))
    assert told["sha256"] == first["sha256"] and told["parameters"] == first["parameters"]
    names = {step["name"] for step in summary["steps"]}
    assert "distil" in names and "train-teacher" not in names
    assert done.returncode == 1 and summary["status"] == "refused"

    command = [sys.executable, "-m", "pipelines.run", "--runs", str(tmp_path), "--resume", "latest"]
    command += ["--set", "gate.max_loss=0"]
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout[-4000:] + again.stderr
    ran = [step["name"] for step in summary_of(tmp_path)["steps"] if not step.get("reused")]
    assert ran == ["preflight", "gate", "publish"]
