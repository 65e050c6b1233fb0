"""What adapting to a domain is worth, measured in miniature on real parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import adapt
from benchmarks.adapt import adapt_table
from benchmarks.machine import BenchmarkError
from model.config import CorpusConfig, TokenizerConfig
from model.corpus import read_card, read_split
from model.corpus.prepare import prepare_corpus
from model.tokenizer.train import train_tokenizer
from model.training.loop import train
from tests.helpers.training import CONFIG, ENGLISH, NETWORK, RUSSIAN, SETTINGS


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A corpus of two domains with a test set, a tokenizer, and a training."""
    folder = tmp_path_factory.mktemp("parts")
    pairs = [f"{one} {other}\t{first} {second}" for one, first in zip(RUSSIAN, ENGLISH, strict=True)
             for other, second in zip(RUSSIAN, ENGLISH, strict=True)]  # fmt: skip
    (folder / "pairs.tsv").write_text("".join(f"{pair}\n" for pair in pairs), "utf-8")
    (folder / "pairs.source").write_text("".join(f"{('even', 'odd')[i % 2]}\n" for i in range(len(pairs))), "utf-8")
    (folder / "words.tsv").write_text("шесть дом\tsix house\n", "utf-8")
    config = CorpusConfig(valid_rows=8, heldout_rows=4, leaks="exact", duplicates="exact")
    prepare_corpus([str(folder / "pairs.tsv")], [str(folder / "words.tsv")], folder / "corpus", config)
    train_tokenizer(folder / "corpus", folder / "tokenizer", TokenizerConfig(kind="char", vocab_size=400))
    train(folder / "corpus", folder / "corpus", folder / "tokenizer", folder / "checkpoint", NETWORK, CONFIG)
    return folder / "corpus", folder / "tokenizer", folder / "checkpoint"


def test_both_go_on_from_the_same_weights_in_the_same_time(
    parts: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, work = tmp_path / "adapt.json", tmp_path / "work"
    command = [*map(str, parts), "--profile", "tiny", "--domain", "odd", "--test_set", "words", "--rows", "30"]
    command += ["--seconds", "1", "--work", str(work), "--out", str(out), "--set", *SETTINGS]
    assert adapt.main(command) == 0
    result = json.loads(out.read_text("utf-8"))
    networks = result["networks"]
    assert networks["adapted"]["steps"] == networks["longer"]["steps"]
    before = json.loads((parts[2] / "training.json").read_text("utf-8"))
    for name in ("adapted", "longer"):
        info = json.loads((work / name / "training.json").read_text("utf-8"))
        assert info["init_from"]["name"] == parts[2].name
        assert info["config"]["adam_lr"] == pytest.approx(0.3 * before["config"]["adam_lr"])
    learned = list(read_split(work / "domain", "train"))
    assert len(learned) == result["rows"] == 30 and {row["domain"] for row in learned} == {"odd"}
    assert learned == [row for row in read_split(parts[0], "train") if row["domain"] == "odd"][:30]
    assert {row["domain"] for row in read_split(work / "domain", "valid")} == {"odd"}
    assert [entry["place"] for entry in result["scores"]][-1] == "words en-ru, 1 rows"
    assert set(result["p"]) == {"adapted", "longer"}
    table = adapt_table(result)
    assert table in capsys.readouterr().out
    assert table.startswith("|  | before | adapted | longer |")


def test_a_domain_and_a_test_set_that_are_not_there_are_told(parts: tuple[Path, Path, Path], tmp_path: Path) -> None:
    command = [*map(str, parts), "--profile", "tiny", "--work", str(tmp_path / "work"), "--set", *SETTINGS]
    with pytest.raises(BenchmarkError, match="has no test set test_ui; known: words"):
        adapt.main(command)
    with pytest.raises(BenchmarkError, match="has no train rows of domain gettext; known: even, odd"):
        adapt.main([*command, "--test_set", "words"])
    assert "odd" in read_card(parts[0])["domains"]
