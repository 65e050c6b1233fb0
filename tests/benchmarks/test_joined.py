"""Both ways of two sentences: which rows are joined, and the whole measurement on a miniature."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.joined import joined_in_twos, joined_table
from tests.helpers.bundles import tiny_bundle

ROOT = Path(__file__).resolve().parents[2]


def test_only_what_ends_like_a_sentence_is_joined() -> None:
    pairs = [("Да.", "Yes."), ("Отмена", "Cancel"), ("Нет!", "No!"), ("Кот спит.", "A cat"), ("Ой…", "Oh…")]
    assert joined_in_twos(pairs) == [(("Да.", "Нет!"), ("Yes.", "No!"))]  # of three, the last has no neighbour


def test_the_measurement_in_miniature(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", max_positions=128)
    test = tmp_path / "small.tsv"
    test.write_text(f"Да.\tYes.\nНет!\tNo!\n{'Кот ' * 6}.\t{'Cat ' * 6}.\n{'Пёс ' * 6}.\t{'Dog ' * 6}.\n", "utf-8")
    command = [sys.executable, "-m", "benchmarks.joined", str(bundle), str(test), "--out", str(tmp_path / "out.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert [(one["direction"], one["characters"], one["rows"]) for one in result["records"]] == [
        (direction, most, 1) for direction in ("ru-en", "en-ru") for most in (40, 80)
    ]
    assert all(0 <= one[way] <= 100 for one in result["records"] for way in ("apart", "together"))
    assert done.stdout.strip() == joined_table(result)
