"""The blocks measured on a miniature: what is kept, and its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.blocks import blocks_table, main


def test_the_measurement_in_miniature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path / "out.json"), "--scale", "tiny", "--rounds", "2"]) == 0
    result = json.loads((tmp_path / "out.json").read_text("utf-8"))
    records = {(one["precision"], one["network"]): one for one in result["records"]}
    # One layer, 64 wide: a state of 64 floats; keys and values of 32 positions, one head of 16.
    slots = {key: one["slot_bytes"] for key, one in records.items()}
    assert slots == {
        ("fp32", "attention"): 2 * 32 * 16 * 4, ("fp32", "3 of 4 heads"): 2 * 32 * 16 * 4, ("fp32", "ssru"): 64 * 4,
        ("int8", "attention"): 2 * 32 * 16, ("int8", "3 of 4 heads"): 2 * 32 * 16, ("int8", "ssru"): 64 * 4,
    }  # fmt: skip
    fewer, whole = (records["int8", name]["graph_bytes"] for name in ("3 of 4 heads", "attention"))
    assert fewer["encoder"] < whole["encoder"] and fewer["decoder"] < whole["decoder"]
    for one in records.values():
        assert set(one["step_us"]) == {"1 x 5", "1 x 32", "3 x 5", "3 x 32"}
        assert one["source_us"] > 0 and all(us > 0 for us in one["step_us"].values())
    assert capsys.readouterr().out.strip() == blocks_table(result)
