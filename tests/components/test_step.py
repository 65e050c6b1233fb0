"""The frame around a step: marks, records, and outputs that must exist."""

import json

import pytest

from components.code import CodeError, code_of
from components.step import StepError, describe, scalars, step
from model.config import ConfigError
from model.errors import Terminated

CODE = code_of("publish")


@pytest.fixture
def records(tmp_path, monkeypatch):
    path = tmp_path / "steps.jsonl"
    monkeypatch.setenv("PROMETHEUS_STEPS", str(path))
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


def test_a_good_step_is_marked_and_recorded(tmp_path, records, capsys):
    out = tmp_path / "out"
    with step("bake", CODE, bread=str(out)):
        print("kneading")
        out.mkdir()
        (out / "loaf").touch()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["==> bake", "kneading"] and lines[2].startswith("<== bake: ok, ")
    start, end = records()
    assert (start["name"], start["status"]) == ("bake", "running")
    assert (end["status"], end["error"], end["outputs"]) == ("ok", "", {"bread": str(out)})
    assert end["seconds"] >= 0


@pytest.mark.parametrize("make", [None, "file", "empty"])
def test_an_output_that_was_not_written_fails_the_step(tmp_path, records, make):
    out = tmp_path / "out"
    if make == "file":
        out.touch()
    if make == "empty":
        out.mkdir()
    with (
        pytest.raises(StepError, match="step bake ended without writing its output 'bread'"),
        step("bake", CODE, bread=str(out)),
    ):
        pass
    assert records()[1]["status"] == "failed"


def test_a_failure_is_recorded_in_words(records, capsys):
    with pytest.raises(ConfigError), step("bake", CODE):
        raise ConfigError("heads must be even")
    assert records()[1]["error"] == "heads must be even"
    assert capsys.readouterr().out.splitlines()[-1] == "<== heads must be even"


def test_an_interrupted_step_is_killed_not_failed(records):
    with pytest.raises(KeyboardInterrupt), step("bake", CODE):
        raise KeyboardInterrupt
    assert records()[1]["status"] == "killed"


def test_a_step_that_was_asked_to_end_says_so_and_keeps_its_status(records, capsys):
    with pytest.raises(SystemExit) as ended, step("bake", CODE):
        raise Terminated("asked to end after step 7")
    assert ended.value.code == 143 and records()[1]["status"] == "killed"
    assert records()[1]["error"] == "asked to end after step 7"
    assert capsys.readouterr().out.splitlines()[-1] == "<== asked to end after step 7"


def test_without_a_runner_nothing_is_recorded(monkeypatch, tmp_path):
    monkeypatch.delenv("PROMETHEUS_STEPS", raising=False)
    monkeypatch.chdir(tmp_path)
    with step("bake", CODE):
        pass
    assert list(tmp_path.iterdir()) == []


def test_foreign_errors_keep_their_type():
    assert describe(KeyError("x")) == "KeyError: 'x'"
    assert describe(TimeoutError()) == "TimeoutError, which gives no reason"
    assert describe(StepError("no bread:\n  no flour")) == "no bread: no flour"


def test_scalars_flatten_and_leave_out_what_a_metric_cannot_be():
    values = {"loss": 1.5, "deep": {"n": 2, "name": "x"}, "flag": True, "bad": float("nan"), "worse": float("inf")}
    assert scalars(values) == {"loss": 1.5, "deep.n": 2.0}


def test_other_code_than_the_compiled_one_is_refused(records, monkeypatch, capsys):
    monkeypatch.setenv("PROMETHEUS_CODE_DESCRIBED", "v1")  # as in an image
    with (
        pytest.raises(CodeError, match=r"compiled from publish-0000000000, .* publish-[0-9a-f]{10}: build the images"),
        step("bake", "publish-0000000000"),
    ):
        print("never")
    assert "never" not in capsys.readouterr().out and records()[1]["status"] == "failed"


def test_on_a_cluster_it_is_refused_in_any_image(monkeypatch):
    for name in ("PROMETHEUS_STEPS", "PROMETHEUS_CODE_DESCRIBED"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CodeError), step("bake", "publish-0000000000"):
        pass


def test_a_checkout_that_is_worked_on_is_warned_of(records, monkeypatch, capsys):
    monkeypatch.delenv("PROMETHEUS_CODE_DESCRIBED", raising=False)
    with step("bake", "publish-0000000000"):
        pass
    assert "WARNING: the code has changed since the run began" in capsys.readouterr().out
    assert records()[1]["status"] == "ok"


def test_a_record_says_where_the_step_ran(records):
    with step("bake", CODE):
        pass
    end = records()[1]
    assert end["versions"]["python"] and end["hardware"]["cores"] >= 1 and end["hardware"]["memory_gib"] > 0
