"""Networks held against each other at equal time, in miniature on real parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import architecture
from benchmarks.architecture import architecture_table, tokens_per_character
from model.config import PRESETS, NetworkConfig, from_dict
from model.corpus import read_split
from model.tokenizer import load_tokenizer
from pipelines.request import load_profile
from tests.helpers.training import SETTINGS, corpus_and_tokenizer


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return corpus_and_tokenizer(tmp_path_factory.mktemp("text"))


def test_networks_and_vocabularies_beside_each_other(
    text: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, tokenizer = text
    size = load_tokenizer(tokenizer).vocab_size
    out, work = tmp_path / "architecture.json", tmp_path / "work"
    command = [str(corpus), str(tokenizer), "--profile", "tiny", "--seconds", "0.5", "--pace_steps", "4"]
    command += ["--texts", "8", "--rounds", "1", "--work", str(work), "--out", str(out)]
    command += ["--try", "SSRU", "network.decoder_mixer=ssru"]
    command += ["--try", "fewer pieces", "tokenizer.kind=char", f"tokenizer.vocab_size={size - 4}"]
    command += ["--set", *SETTINGS, f"tokenizer.vocab_size={size}"]
    assert architecture.main(command) == 0
    result = json.loads(out.read_text("utf-8"))
    plain, ssru, fewer = result["networks"]
    assert [record["network"] for record in result["networks"]] == ["the profile's", "SSRU", "fewer pieces"]
    assert plain["parameters"] != ssru["parameters"] and fewer["parameters"] < plain["parameters"]
    assert load_tokenizer(work / "fewer-pieces" / "tokenizer").vocab_size == size - 4
    assert not (work / "SSRU" / "tokenizer").exists()
    for record in result["networks"]:
        assert record["steps"] >= 1 and record["us_per_character"] > 0
    each = tokens_per_character(corpus, load_tokenizer(tokenizer), ["ru", "en"])
    assert plain["loss_per_character"] == pytest.approx(plain["valid_loss"] * each)
    table = architecture_table(result)
    assert table in capsys.readouterr().out and table.startswith("| network | M parameters |")

    trained = {path: path.stat().st_mtime_ns for path in work.glob("*/*/training.json")}
    assert architecture.main(command) == 0  # nothing is trained again
    assert {path: path.stat().st_mtime_ns for path in work.glob("*/*/training.json")} == trained and len(trained) == 6


def test_a_character_costs_what_its_tokens_cost(text: tuple[Path, Path]) -> None:
    tokenizer, rows = load_tokenizer(text[1]), list(read_split(text[0], "valid"))
    said = [row["ru" if number % 2 else "en"] for number, row in enumerate(rows)]
    expected = sum(len(tokenizer.encode(line)) + 1 for line in said) / sum(map(len, said))
    assert tokens_per_character(text[0], tokenizer, ["ru", "en"]) == pytest.approx(expected)


def test_what_is_tried_is_of_about_the_same_size() -> None:
    """In the matrices of the body, but for another vocabulary or another block."""

    def body(network: NetworkConfig) -> int:
        attention = network.d_model * network.head_dim * 2 * (network.heads + network.kv_heads)
        layer = attention + 2 * network.d_model * network.d_ff
        return network.encoder_layers * layer + network.decoder_layers * (layer + attention)

    plain = body(from_dict(NetworkConfig, {"preset": "prometheus-8m"}))
    assert "prometheus-8m" in PRESETS
    for name, settings in architecture.TRIED.items():
        network = load_profile("small", settings).network
        assert body(network) == pytest.approx(plain, rel=0.03), name
