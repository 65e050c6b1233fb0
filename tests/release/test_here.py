"""Releases on one machine: a link, which is moved, moved back, and told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model import store
from model.options import run
from release.__main__ import main


@pytest.fixture
def runs(made, tmp_path, monkeypatch) -> Path:
    """A checkout's runs/, with three versions."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two", "three"):
        store.publish(made, "runs", name, {"loss": 1.0}, {"run_id": name, "code_version": "abc"})
    return tmp_path / "runs"


def release(*words: str) -> int:
    return run(lambda: main([*words]))


def test_there_and_back(runs, capsys):
    assert release("status") == 1
    assert "nothing is live in runs" in capsys.readouterr().out
    for name in ("one", "two", "three"):
        assert release("to", name) == 0
    assert (runs / "live").readlink() == Path("three")
    assert release("versions") == 0
    table = capsys.readouterr().out
    assert [line.split()[1] for line in table.splitlines() if line.startswith("live ") and "loss" in line] == ["three"]
    for name in ("two", "one"):
        assert release("back") == 0 and (runs / "live").readlink() == Path(name)
    capsys.readouterr()
    assert release("back") == 2
    assert "no version was live before one; there is no way back" in capsys.readouterr().err
    assert release("status", "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["live"], status["before"], status["well"]) == ("one", [], True)


def test_the_same_again_is_nothing_new(runs):
    for name in ("one", "two", "two"):
        assert release("to", name) == 0
    assert store.history("runs") == ["one"]


def test_a_damaged_version_does_not_go_live(runs, capsys):
    weights = runs / "two" / "bundle" / "decoder.onnx"
    weights.write_bytes(weights.read_bytes()[::-1])
    assert release("to", "one") == 0 and release("to", "two") == 2
    assert "decoder.onnx: hash mismatch" in capsys.readouterr().err
    assert store.live("runs") == "one"


def test_old_versions_go_and_the_way_back_stays(runs, capsys):
    assert release("to", "one") == 0 and release("to", "two") == 0
    capsys.readouterr()
    store.publish(runs / "one" / "bundle", "runs", "four", {}, {})
    assert release("prune", "--keep", "1") == 0
    assert "1 would be removed; --yes does it" in capsys.readouterr().out
    assert release("prune", "--keep", "1", "--yes", "--json") == 0
    assert [each["run_id"] for each in json.loads(capsys.readouterr().out)] == ["three"]
    assert {each.run_id for each in store.versions("runs")} == {"one", "two", "four"}
    assert release("back") == 0 and store.live("runs") == "one"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["to"], "to: which RUN?"),
        (["back", "one"], "back takes no RUN"),
        (["to", "nowhere"], "runs/nowhere/bundle: nothing is published there; published in runs, the newest: three"),
        (["to", "../x"], "is no run id"),
        (["prune", "--store", "s3://models/x"], "what is live there only a service knows; name it with --service"),
        (["to", "one", "--store", "elsewhere"], "elsewhere/one/bundle: nothing is published there"),
    ],
)
def test_what_cannot_be_done(runs, words, said, capsys):
    try:
        status = release(*words)
    except SystemExit as left:
        status = left.code
    assert status == 2 and said in capsys.readouterr().err


def test_a_version_that_is_gone_is_told(runs, capsys):
    assert release("to", "one") == 0
    (runs / "one").rename(runs / "away")
    assert release("status") == 1
    assert "one, WHICH IS NOT THERE" in capsys.readouterr().out
