"""Results: what is no number is None at the border, what cannot be read is told in a sentence, what is committed is."""

import json
import math
from pathlib import Path

import pytest

from evaluation.report.__main__ import main
from evaluation.results import Evaluation, GateResult, ResultError, Score, Summary, Verdict, finite

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, True, "1", [1]])
def test_what_is_no_finite_number_is_none(value):
    assert finite(value) is None
    assert Score(test_set="a", direction="ru-en", chrf=value).chrf is None
    assert Evaluation(losses={"ru-en": value}).losses == {"ru-en": None}


def test_a_number_stays_what_it_is():
    kept = (finite(0), finite(2.5), Evaluation(bytes=7).bytes)
    assert kept == (0, 2.5, 7) and isinstance(kept[2], int)


def test_a_null_counts_as_left_out():
    nulls = dict.fromkeys(Evaluation.model_fields)
    assert Evaluation.model_validate(nulls) == Evaluation()
    assert Summary.model_validate(dict.fromkeys(Summary.model_fields)) == Summary()


def test_a_gate_is_not_skipped_by_saying_nothing():
    with pytest.raises(ValueError, match="passed"):
        GateResult.model_validate({"name": "max_loss", "variant": "int8"})
    assert GateResult.model_validate({"name": "max_loss", "variant": "int8", "passed": None}).passed is None


def test_a_result_is_read_from_its_file_or_folder(tmp_path):
    verdict = Verdict(variant="int8", machine="cpu")
    (tmp_path / "verdict.json").write_text(verdict.model_dump_json())
    assert Verdict.read(tmp_path) == Verdict.read(tmp_path / "verdict.json") == verdict


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no evaluation of this version: Expecting property name"),
        ('{"format_version": 1}', "no evaluation of this version: format_version: Input should be 2"),
        ('{"scores": [{"direction": "ru-en"}]}', r"scores\.0\.test_set: Field required"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_file(tmp_path, text, message):
    (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(ResultError, match=rf"evaluation\.json: .*{message}"):
        Evaluation.read(tmp_path)
    with pytest.raises(ResultError, match="absent: No such file"):
        Evaluation.read(tmp_path / "absent")


@pytest.mark.parametrize("profile", ["demo", "small"])
def test_committed_results_are_read_whole(profile):
    data = json.loads((RESULTS / f"{profile}.json").read_text("utf-8"))
    for variant in data["variants"]:
        evaluation = Evaluation.model_validate(variant)
        assert set(variant) <= set(Evaluation.model_fields) and evaluation.mean_chrf
        for score in variant["scores"]:
            found = evaluation.score(score["test_set"], score["direction"])
            assert found and found.model_dump(include=set(score)) == score


def test_the_reports_command_line(tmp_path, capsys):
    (tmp_path / "summary.json").write_text(json.dumps({"run_id": "r1", "status": "failed", "error": "it <broke>"}))
    assert main([str(tmp_path / "summary.json")]) == 0
    assert "it &lt;broke&gt;" in capsys.readouterr().out
    assert main([str(tmp_path), "--table"]) == 0
    assert capsys.readouterr().out == "run r1\n\nFAILED:\n  it <broke>\n"
