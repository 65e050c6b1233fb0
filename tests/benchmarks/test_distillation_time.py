"""The measurement of distillation in miniature: real parts, whose trainings are cut short of the planned steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import distillation
from benchmarks.distillation import Measurement, distillation_table
from benchmarks.machine import BenchmarkError
from tests.helpers.training import SETTINGS, corpus_and_tokenizer

SHORT = {"teacher": 300}  # steps that are made, where more are planned; 12 of the others
CHANGES = [*SETTINGS, "training.batch_tokens=1024", "distillation.teacher_network={d_ff: 96}"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return corpus_and_tokenizer(tmp_path_factory.mktemp("text"))


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The steps that were planned, by training."""
    found: dict[str, float] = {}
    train = Measurement.train

    def shortened(
        self: Measurement, name: str, corpus: Path, network: object, steps: float, **changed: object
    ) -> object:
        found[name] = steps
        return train(self, name, corpus, network, min(steps, SHORT.get(name, 12)), **changed)  # type: ignore[arg-type]

    monkeypatch.setattr(Measurement, "train", shortened)
    return found


def test_both_ways_take_the_same_time(
    text: tuple[Path, Path], tmp_path: Path, planned: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    out, work = tmp_path / "distillation.json", tmp_path / "work"
    command = [*map(str, text), "--profile", "tiny", "--seconds", "600", "--pace_steps", "8", "--work", str(work)]
    command += ["--out", str(out), "--set", *CHANGES]
    assert distillation.main(command) == 0
    result = json.loads(out.read_text("utf-8"))
    networks, translating = result["networks"], result["translating"]
    pace = 600 / planned["alone"]
    left = 600 - networks["teacher"]["seconds"] - translating["seconds"] - translating["export_seconds"]
    assert planned["taught"] == pytest.approx(left / pace) and left < 600
    assert planned["teacher"] < planned["alone"] and planned["pace"] == 8
    assert networks["teacher"]["parameters"] > networks["taught"]["parameters"] == networks["alone"]["parameters"]
    assert [entry["place"] for entry in result["scores"]] == ["heldout ru-en, 8 rows", "heldout en-ru, 8 rows"]
    assert 0 <= result["chrf"]["p"] <= 1 and result["machine"]["instructions"] and result["rows"] == 600
    table = distillation_table(result)
    assert table in capsys.readouterr().out
    assert table.startswith("|  | alone | teacher | taught |") and "10 minutes each way" in table

    # What is done is not done again, and no other measurement is mixed with it.
    trained = {path: path.stat().st_mtime_ns for path in work.glob("*/training.json")}
    assert distillation.main(command) == 0
    assert json.loads(out.read_text("utf-8"))["networks"] == networks
    assert {path: path.stat().st_mtime_ns for path in work.glob("*/training.json")} == trained and len(trained) == 5
    with pytest.raises(BenchmarkError, match="holds another measurement"):
        distillation.main([*command, "training.muon_lr=0.01"])


def test_a_teacher_that_leaves_no_time_is_told(text: tuple[Path, Path], tmp_path: Path) -> None:
    command = [*map(str, text), "--profile", "tiny", "--seconds", "0.01", "--pace_steps", "4"]
    command += ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out.json"), "--set", *CHANGES]
    with pytest.raises(BenchmarkError, match="and none are left to learn from it: give more --seconds"):
        distillation.main([*command, "distillation.keep_original=1.0"])
    with pytest.raises(BenchmarkError, match=r"leave distillation\.teacher out"):
        distillation.main([*command, "distillation.teacher=live"])
