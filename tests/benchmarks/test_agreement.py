"""Agreement of int8 with fp32 and with itself: the counting, and the whole measurement on a miniature."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.agreement import agreement_table, same
from tests.helpers.bundles import tiny_bundle, tiny_corpus

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_the_same() -> None:
    reference = [[1, 2, 3, 4], [5, 6], [7]]
    assert same(reference, reference) == {"identical": 1.0, "tokens": 1.0}
    assert same(reference, [[1, 2, 9, 4], [5, 6], [7]]) == {"identical": 0.6667, "tokens": 0.7143}
    assert same(reference, [[1, 2], [5, 6, 7], []]) == {"identical": 0.0, "tokens": 0.5714}


def test_the_measurement_in_miniature(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", max_positions=64)
    corpus = tiny_corpus(tmp_path / "corpus")
    command = [sys.executable, "-m", "benchmarks.agreement", "--bundle", str(bundle), "--corpus", str(corpus)]
    command += ["--sentences", "10", "--max_rows", "4", "--max_tokens", "8", "--out", str(tmp_path / "agreement.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((tmp_path / "agreement.json").read_text("utf-8"))
    assert [record["variant"] for record in result["variants"]] == ["fp32", "int8 row", "int8 static"]
    for record in result["variants"]:
        batched = record["alone_against_batched"]
        assert batched["identical"] == batched["requests"] == 10
    assert result["variants"][0]["against_fp32"] == {"identical": 1.0, "tokens": 1.0}
    assert result["variants"][1]["bytes"] < result["variants"][0]["bytes"]
    assert done.stdout.strip().endswith(agreement_table(result))
    assert "chrF heldout" in done.stdout
