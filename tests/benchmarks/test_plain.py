"""The measurement beside a plain Transformer in miniature, of real parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import plain
from benchmarks.machine import BenchmarkError
from benchmarks.plain import plain_table, rate
from tests.helpers.training import CONFIG, SETTINGS, corpus_and_tokenizer


def test_the_rate_rises_to_its_peak_and_falls_with_the_root_of_the_step() -> None:
    assert [rate(step, 1.0, 4) for step in (1, 2, 4, 16, 64)] == [0.25, 0.5, 1.0, 0.5, 0.25]


def test_the_plain_one_gets_twice_the_time_at_each_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, tokenizer = corpus_and_tokenizer(tmp_path)
    out = tmp_path / "plain.json"
    command = [str(corpus), str(tokenizer), "--profile", "tiny", "--out", str(out), "--rates", "1e-3", "1e-9"]
    assert plain.main([*command, "--set", *SETTINGS, "network.d_ff=128", "training.batch_tokens=1024"]) == 0
    result = json.loads(out.read_text("utf-8"))
    ours, (learning, standing) = result["ours"], result["plain"]
    assert ours["steps"] == CONFIG.steps
    for found in (learning, standing):
        assert found["seconds"] >= 2 * ours["seconds"] - 0.1  # both are rounded
    assert learning["valid_loss"] < standing["valid_loss"]
    table = plain_table(result)
    assert table in capsys.readouterr().out
    assert "| plain, peak rate 1e-09 |" in table


def test_a_network_without_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="has no encoder"):
        plain.main([str(tmp_path), str(tmp_path), "--profile", "gpt"])
