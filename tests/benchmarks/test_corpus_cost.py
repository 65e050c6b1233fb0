"""What preparing a corpus costs is measured on real preparations, of made-up pairs and of a file's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.corpus import corpus_table, main
from benchmarks.machine import BenchmarkError


def test_each_size_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("".join(f"Дом {word}.\tA house {word}.\n" for word in ("Ы", "Ж", "Щ")), "utf-8")
    test = tmp_path / "test.tsv"
    test.write_text("Он спит.\tHe sleeps.\n", "utf-8")
    work, out = tmp_path / "work", tmp_path / "corpus.json"
    for given, kept in ([], 300), (["--pairs", str(pairs), "--leaks", "exact", "--min_script_ratio", "0"], 300):
        command = ["--rows", "300", "--work", str(work), "--out", str(out), "--test", str(test), *given]
        assert main([*command, "--valid_rows", "5", "--heldout_rows", "5"]) == 0
        result = json.loads(out.read_text("utf-8"))
        assert corpus_table(result) in capsys.readouterr().out
        assert result["tests"] == 1 and result["settings"]["valid_rows"] == 5
        (line,) = result["sizes"]
        assert line["counts"]["test"] == {"test": 1}
        assert line["rows"] == line["counts"]["read"] == kept
        assert line["pairs_per_second"] > 0 and line["cpu_microseconds_per_pair"] > 0
        assert 20 < line["peak_mb_of_one_process"] < 2000
        assert list(work.iterdir()) == [], "what it made is gone"


def test_a_preparation_that_fails_is_told(tmp_path: Path) -> None:
    (tmp_path / "same.tsv").write_text("Дом\tДом\n", "utf-8")
    with pytest.raises(BenchmarkError, match=r"has failed:\n(.|\n)*nothing is left after cleaning"):
        main(["--rows", "1", "--pairs", str(tmp_path / "same.tsv"), "--work", str(tmp_path / "work")])
