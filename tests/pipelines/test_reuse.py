"""A step is run again where what it was given has changed, or what it made; and only there."""

import io
import json
from pathlib import Path

import pytest
from kfp.local.status import Status

from model.settings import differing
from pipelines.reuse import ReuseError, hashed, run_once

CODE = "train_model-0c31f48da7"
SETTINGS = {"steps": 100, "rate": 0.1}
KEY = "s3cret"


class Steps:
    """Steps as Kubeflow's runner calls them, which write what they are told to."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir, self.root, self.ran, self.code = run_dir, run_dir / "artifacts", list[str](), CODE

    def folder(self, name: str) -> Path:
        return self.root / "mini" / name

    def run(self, name: str, text: str = "made", ends: Status = Status.SUCCESS, reads: str = "", **given) -> str:
        """Run a step that writes ``text``, and reads the output of another; what the terminal is shown."""
        out, results = self.folder(name) / "out", self.folder(name) / "executor_output.json"
        artifact = {"artifacts": [{"name": "out", "uri": str(self.folder(reads) / "out")}]}
        asked = {
            "inputs": {"parameterValues": {"code": CODE, **given}, "artifacts": {"text": artifact} if reads else {}},
            "outputs": {"artifacts": {"out": {"artifacts": [{"uri": str(out)}]}}, "outputFile": str(results)},
        }

        def work() -> Status:
            self.ran.append(name)
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{text}.safetensors").write_text(text)
            if ends == Status.SUCCESS:
                results.write_text("{}")
                record = {
                    "name": name,
                    "status": "ok",
                    "seconds": 61.0,
                    "code": self.code,
                    "outputs": {"out": str(out)},
                }
                (self.run_dir / "steps.jsonl").write_text(json.dumps(record) + "\n")
            return ends

        terminal = io.StringIO()
        command = ["sh", "-ec", "", "", "--executor_input", json.dumps(asked), "--function_to_execute", name]
        assert run_once(command, str(self.root), terminal, work) == ends
        return terminal.getvalue()

    def files(self, name: str) -> list[str]:
        return sorted(path.name for path in (self.folder(name) / "out").iterdir())


@pytest.fixture
def steps(tmp_path):
    return Steps(tmp_path)


def test_what_is_whole_is_used_again_and_recorded_so(steps, tmp_path):
    assert steps.run("prepare-data", config=SETTINGS) == ""
    (tmp_path / "steps.jsonl").unlink()
    said = steps.run("prepare-data", config=SETTINGS)
    assert said == "==> prepare-data\n<== prepare-data: used again, made in 1 min 01 s\n"
    assert steps.ran == ["prepare-data"]
    (record,) = map(json.loads, (tmp_path / "steps.jsonl").read_text().splitlines())
    assert record["reused"] and record["outputs"] == {"out": str(steps.folder("prepare-data") / "out")}


@pytest.mark.parametrize(
    ("change", "why"),
    [({"config": SETTINGS | {"rate": 0.2}}, "config.rate differs"), ({"config": SETTINGS, "new": 1}, "new differs")],
)
def test_other_settings_begin_in_an_empty_folder_and_are_named(steps, change, why):
    steps.run("prepare-data", "one", config=SETTINGS)
    assert steps.run("prepare-data", "two", **change) == f"prepare-data is made anew: {why}\n"
    assert steps.files("prepare-data") == ["two.safetensors"] and len(steps.ran) == 2


def test_other_code_runs_again(steps):
    steps.run("prepare-data")
    assert steps.run("prepare-data", code="train_model-ffffffffff") == "prepare-data is made anew: code differs\n"


@pytest.mark.parametrize("harm", ["changed", "removed", "added", "results"])
def test_what_was_changed_meanwhile_is_made_anew(steps, harm):
    steps.run("prepare-data")
    folder = steps.folder("prepare-data")
    made = folder / "out" / "made.safetensors"
    if harm == "removed":
        made.unlink()
    else:
        {"changed": made, "added": folder / "out" / "b", "results": folder / "executor_output.json"}[harm].write_text(
            "x"
        )
    what = "executor_output.json" if harm == "results" else "out"
    assert steps.run("prepare-data") == f"prepare-data is made anew: {what} is not as it was written\n"
    assert steps.files("prepare-data") == ["made.safetensors"]


def test_what_reads_another_text_is_made_anew(steps):
    steps.run("prepare-data", "one")
    steps.run("train-tokenizer", reads="prepare-data")
    steps.run("prepare-data", "two", config=SETTINGS)
    assert steps.run("train-tokenizer", reads="prepare-data") == "train-tokenizer is made anew: text differs\n"
    steps.run("prepare-data", "two", config=SETTINGS | {"rate": 0.3})
    assert "used again" in steps.run("train-tokenizer", reads="prepare-data"), "other settings, and the same text"


def test_half_a_step_is_never_used(steps):
    steps.run("prepare-data", "half", ends=Status.FAILURE)
    steps.run("prepare-data", "whole")
    assert steps.files("prepare-data") == ["whole.safetensors"]


@pytest.mark.parametrize("name", ["train-model", "train-teacher", "distil"])
def test_what_takes_hours_goes_on_in_what_it_left(steps, name):
    steps.run(name, "first", ends=Status.FAILURE, config=SETTINGS)
    assert steps.run(name, "second", config=SETTINGS) == ""
    assert steps.files(name) == ["first.safetensors", "second.safetensors"]


@pytest.mark.parametrize("name", ["train-model", "train-teacher"])
@pytest.mark.parametrize("ends", [Status.FAILURE, Status.SUCCESS])
def test_what_was_trained_is_never_thrown_away(steps, name, ends):
    steps.run(name, "first", ends=ends, config=SETTINGS)
    with pytest.raises(
        ReuseError, match=rf"{name} would begin anew \(config.steps differs\) and lose what it has trained"
    ):
        steps.run(name, "second", config=SETTINGS | {"steps": 200})
    assert steps.files(name) == ["first.safetensors"]
    steps.run(name, "first", ends=ends, config=SETTINGS)
    assert len(steps.ran) == (1 if ends == Status.SUCCESS else 2), "as it was asked at first, it goes on"


def test_what_a_teacher_translated_is_made_anew_by_other_settings(steps):
    steps.run("train-teacher", "first", config=SETTINGS)
    steps.run("distil", "one", config={"beams": 1})
    assert steps.run("distil", "two", config={"beams": 4}) == "distil is made anew: config.beams differs\n"
    assert steps.files("distil") == ["two.safetensors"]


def test_training_that_has_left_nothing_begins_anew(steps):
    steps.run("train-model", "first", ends=Status.FAILURE, config=SETTINGS)
    (steps.folder("train-model") / "out" / "first.safetensors").unlink()
    assert "made anew: config.steps differs" in steps.run("train-model", "second", config=SETTINGS | {"steps": 200})


@pytest.mark.parametrize("name", ["preflight", "publish", "refuse", "release"])
def test_what_looks_at_the_outside_always_runs(steps, name):
    for _ in range(2):
        assert steps.run(name) == ""
    assert steps.ran == [name] * 2


def test_what_other_code_made_than_the_run_began_with_is_not_used(steps):
    steps.code = "train_model-ffffffffff"
    steps.run("prepare-data", "one")
    steps.code = CODE
    steps.run("prepare-data", "two")
    assert steps.files("prepare-data") == ["two.safetensors"]


def test_no_key_of_an_address_is_kept(steps):
    steps.run("prepare-data", sources=[f"https://me:{KEY}@host/a.tsv"], config={"sources": [f"s3://{KEY}"]})
    kept = (steps.folder("prepare-data") / "step.json").read_text()
    assert KEY not in kept and CODE in kept
    changed = steps.run("prepare-data", sources=["https://host/a.tsv"], config={"sources": [f"s3://{KEY}"]})
    assert changed == "prepare-data is made anew: sources differs\n"


def test_a_hash_is_of_names_and_contents(tmp_path):
    for name, files in {"a": {"x": "1", "y": "2"}, "b": {"x": "2", "y": "1"}, "c": {"x": "1", "y": "2"}}.items():
        for file, text in files.items():
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / file).write_text(text)
    assert hashed(tmp_path / "a") == hashed(tmp_path / "c") != hashed(tmp_path / "b")
    assert hashed(tmp_path / "absent") == ""
    assert list(differing({"a": {"b": 1}, "c": 2}, {"a": {"b": 2}, "d": 3})) == ["a.b", "c", "d"]
