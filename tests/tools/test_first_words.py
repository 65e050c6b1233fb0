"""The sentences that a demo is tried with are readable, and a model that knows nothing is told so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.bundles import tiny_bundle
from tools.first_words import SENTENCES, main


def test_a_model_that_knows_nothing_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split("\t") for line in SENTENCES.read_text("utf-8").splitlines()]
    assert all(len(line) == 2 and all(line) for line in lines)
    russian = sum("а" <= source[0].lower() <= "я" for source, _ in lines)
    assert min(russian, len(lines) - russian) >= 40, "both directions"
    assert main([str(tiny_bundle(tmp_path / "bundle"))]) == 1
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(lines) + 1 and said[0].startswith("WRONG") and said[-1].endswith("are right")
