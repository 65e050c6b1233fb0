"""What shards are worth is measured on real shards and merges, which come to one corpus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.shards import main, shards_table


def test_each_number_of_shards_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "shards.json"
    asked = ["--rows", "600", "--files", "3", "--of", "1", "3", "--work", str(tmp_path / "work"), "--out", str(out)]
    assert main([*asked, "--valid_rows", "5", "--heldout_rows", "5"]) == 0
    result = json.loads(out.read_text("utf-8"))
    assert [(record["shards"], record["rows"]) for record in result["records"]] == [(1, 600), (3, 600)]
    for record in result["records"]:
        assert 0 < record["longest_shard"] < record["all_steps"] and record["merge"] > 0
        assert min(record["peak_mb_of_a_shard"], record["peak_mb_of_the_merge"]) > 20 and record["handed_over_mb"] > 0
    lines = shards_table(result).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:4]] == ["1", "3"] and "600 pairs in 3 files" in lines[-1]
    assert "600 pairs in 3 files" in capsys.readouterr().out
    assert list((tmp_path / "work").iterdir()) == [], "what it made is gone"
