"""A sweep of learning rates in miniature: real runs, each point once, and a table with the best one first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import sweep
from benchmarks.machine import BenchmarkError
from tests.helpers.training import CONFIG, SETTINGS, corpus_and_tokenizer


def test_points_are_measured_once_and_the_best_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, tokenizer = corpus_and_tokenizer(tmp_path)
    out = tmp_path / "sweep.json"
    command = [str(corpus), str(tokenizer), "--profile", "tiny", "--out", str(out), "--set", *SETTINGS]
    assert sweep.main([*command, "--adam_lr", "1e-6", "1e-2"]) == 0
    first = json.loads(out.read_text("utf-8"))["points"]
    assert [point["training"]["adam_lr"] for point in first] == [1e-6, 1e-2]
    assert {(point["training"]["muon_lr"], point["steps"]) for point in first} == {(CONFIG.muon_lr, CONFIG.steps)}
    assert first[1]["valid_loss"] < first[0]["valid_loss"] and first[0]["train_tokens"] > 0

    # What is there stays; only what is new is run.
    assert sweep.main([*command, "--adam_lr", "1e-2", "--muon_lr", "0.02"]) == 0
    assert json.loads(out.read_text("utf-8"))["points"] == first
    assert sweep.main([*command, "training.schedule=cosine", "--adam_lr", "1e-2"]) == 0
    result = json.loads(out.read_text("utf-8"))
    assert result["points"][:2] == first and len(result["points"]) == 3
    assert result["machine"]["instructions"]
    table = capsys.readouterr().out.rpartition("| adam_lr |")[2]
    assert table.index("| 0.01 | 0.02 |") < table.index("| 1e-06 | 0.02 |")
    assert "| schedule |" in table and "| cosine |" in table and "24 steps of 256 tokens" in table


def test_a_point_that_fails_says_which_and_why(tmp_path: Path) -> None:
    corpus, tokenizer = corpus_and_tokenizer(tmp_path)
    command = [str(corpus), str(tokenizer), "--profile", "tiny", "--out", str(tmp_path / "sweep.json")]
    with pytest.raises(BenchmarkError, match=r"the point adam_lr 0.5, muon_lr 0.02 has failed: error: .*max_positions"):
        sweep.main([*command, "--adam_lr", "0.5", "--set", *SETTINGS, "network.max_positions=2"])
