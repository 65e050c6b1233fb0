"""The speed of each way in, measured whole on a miniature."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.doors import doors_table
from tests.helpers.bundles import tiny_bundle

ROOT = Path(__file__).resolve().parents[2]


def test_the_measurement_in_miniature(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", max_positions=64)
    test, out = tmp_path / "small.tsv", tmp_path / "out.json"
    test.write_text("".join(f"Кот номер {i} спит.\tCat {i} sleeps.\n" for i in range(40)), "utf-8")
    command = [sys.executable, "-m", "benchmarks.doors", str(bundle), str(test), "--rounds=1", f"--out={out}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(out.read_text("utf-8"))
    assert [one["way"] for one in result["records"]] == ["engine", "list", "pipe"] and result["texts"] == 40
    assert result["records"][0]["of_engine"] == result["records"][0]["cpu_of_engine"] == 1
    assert all(one["seconds"] and one["cpu_seconds"] for one in result["records"])
    assert done.stdout.strip() == doors_table(result)
