"""The last step hands the run's figures over in its log, but where the runner reads the artifacts themselves."""

import json

import pytest

from components.handover import hand_over, reports
from components.summary_line import find_summary
from model.store import RESULTS
from release.golden import Golden, golden_of


@pytest.fixture
def verdict(tmp_path):
    samples = [{"source": "Да.", "direction": "ru-en", "output": "Yes."}]
    told = {"gates": [], "variants": [{"variant": "int8", "samples": samples}, {"variant": "fp32", "samples": []}]}
    (tmp_path / "summary.json").write_text(json.dumps(told))
    (tmp_path / "verdict.json").write_text('{"variant": "int8"}')
    return str(tmp_path)


def test_a_pod_hands_the_figures_over_in_its_log(verdict, monkeypatch, capsys):
    monkeypatch.delenv("PROMETHEUS_STEPS", raising=False)
    published = {"variant": "int8", "path": "s3://models/run/bundle"}
    hand_over(verdict, published)
    found = find_summary(capsys.readouterr().out)
    assert found["published"] == published and [each["variant"] for each in found["variants"]] == ["int8", "fp32"]


def test_a_runner_of_this_machine_is_told_nothing_twice(verdict, monkeypatch, capsys):
    monkeypatch.setenv("PROMETHEUS_STEPS", "steps.jsonl")
    hand_over(verdict, None)
    assert capsys.readouterr().out == ""


def test_the_figures_are_kept_beside_the_bundle(verdict):
    kept = {name: json.loads(text) for name, text in reports(verdict, "run").items()}
    assert kept["summary.json"]["run_id"] == "run" and kept["verdict.json"]["variant"] == "int8"
    assert golden_of(json.dumps(kept["summary.json"]), "int8") == [Golden("Да.", "en", "Yes.")], "what a release asks"
    assert set(kept) <= set(RESULTS)
