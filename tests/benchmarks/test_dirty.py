"""What dirt costs, measured in miniature on real parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import dirty
from benchmarks.dirty import dirty_table
from tests.helpers.bundles import tiny_bundle, tiny_corpus


def test_the_measurement_in_miniature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, out = tiny_bundle(tmp_path / "bundle"), tmp_path / "dirty.json"
    corpus = tiny_corpus(tmp_path / "corpus")
    assert dirty.main([str(bundle), str(corpus), "--rows", "6", "--out", str(out)]) == 0
    result = json.loads(out.read_text("utf-8"))
    found = {(one["test_set"], one["direction"]): one for one in result["records"]}
    assert found["heldout, dirty", "ru-en"]["segments"] == 6 and found["heldout, in pairs", "en-ru"]["segments"] == 3
    assert all(0 <= one[figure] <= 100 for one in found.values() for figure in ("chrf", "plain_chrf"))
    assert result["precision"] == "fp32" and result["steps"] == 0
    assert dirty_table(result) in capsys.readouterr().out
