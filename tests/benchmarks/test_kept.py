"""What is kept: the counting, and the whole measurement on a miniature."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.kept import TERMS, kept_table, rows_with
from benchmarks.translations import read
from model.text.glossary import Glossary
from tests.helpers.bundles import tiny_bundle

ROOT = Path(__file__).resolve().parents[2]


def test_rows_that_have_something_to_keep() -> None:
    pairs = [("Нет %s", "No %s"), ("Да", "Yes"), ("Сервер", "Server"), ("Сервер", "Machine")]
    assert [row.source for row in rows_with(pairs, None)] == ["Нет %s"]
    (row,) = rows_with(pairs, Glossary([("сервер", "server")], "ru", "en"))
    assert (row.reference, row.wanted, row.kept("Two servers"), row.kept("Two machines")) == ("Server", 1, 1, 0)


def test_the_glossarys_terms_are_all_of_its_file() -> None:
    terms = read(TERMS, ["ru", "en"])
    assert len(terms) == len(set(terms)) == len(TERMS.read_text("utf-8").splitlines()) - 1
    Glossary(terms, "ru", "en")


def test_the_measurement_in_miniature(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", max_positions=64)
    test = tmp_path / "small.tsv"
    test.write_text("Нет %s\tNo %s\nДа\tYes\nСервер {x} и {y}\tServer {x} and {y}\n", "utf-8")
    command = [sys.executable, "-m", "benchmarks.kept", str(bundle), str(test), "--out", str(tmp_path / "kept.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((tmp_path / "kept.json").read_text("utf-8"))
    assert [(one["kind"], one["direction"], one["rows"], one["wanted"]) for one in result["records"]] == [
        ("spans", "ru-en", 2, 3),
        ("spans", "en-ru", 2, 3),
        ("terms", "ru-en", 1, 1),
        ("terms", "en-ru", 1, 1),
    ]
    assert all(one["after"]["kept"] == one["wanted"] for one in result["records"])  # of a model that knows nothing
    assert done.stdout.strip() == kept_table(result)
