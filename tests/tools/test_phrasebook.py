"""The demo's text is what its generator makes, and the generator says what is right, in the environment it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from model.config import CorpusConfig
from model.corpus.reading import Tally, read_pairs
from model.corpus.sources import expand
from tools.phrasebook.__main__ import OUT

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-phrasebook" / "bin" / "python"
needs_the_library = pytest.mark.skipif(
    not PYTHON.exists(), reason="no .venv-phrasebook (`make .venv-phrasebook/.stamp`): the demo's text is NOT checked"
)


def run(*arguments: str) -> str:
    done = subprocess.run([str(PYTHON), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


@needs_the_library
def test_the_generator_makes_the_same_file_again(tmp_path: Path) -> None:
    again = tmp_path / "again.jsonl.zst"
    run("-m", "tools.phrasebook", "--out", str(again))
    assert again.read_bytes() == (ROOT / OUT).read_bytes(), (
        "make it again: .venv-phrasebook/bin/python -m tools.phrasebook"
    )


@needs_the_library
def test_the_generator_in_its_own_environment() -> None:
    checks = str(Path(__file__).with_name("phrasebook_checks.py"))
    told = run("-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", checks)
    assert "passed" in told and "skipped" not in told, told


def test_the_file_is_small_and_the_corpus_reads_all_of_it() -> None:
    assert (ROOT / OUT).stat().st_size < 500_000
    config, tally = CorpusConfig(), Tally()
    [file] = expand(str(ROOT / OUT), config.kind)
    rows = list(read_pairs(file, config.languages, tally))
    assert len(rows) >= 24_000 and not tally.malformed
    assert {author for _, _, author in rows} == {"guide", "friend", "clerk", None}


def test_without_its_library_the_generator_says_where_it_is() -> None:
    code = "import sys; sys.modules['pymorphy3'] = None; from tools.phrasebook.__main__ import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "run it with .venv-phrasebook/bin/python" in done.stderr
