"""Training that begins with another's weights begins where that one ended, with its tokenizer, or is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import fsspec
import pytest

from model.config import TokenizerConfig
from model.onnx.export import export_bundle
from model.tokenizer import TokenizerError, load_tokenizer
from model.tokenizer.train import train_tokenizer
from model.training.checkpoint import CheckpointError
from model.training.loop import train
from model.training.origin import find, open_origin, stamped, tokenizer_of
from tests.helpers.training import CONFIG, NETWORK, assert_same, break_off, curve, weights

FEW = CONFIG.model_copy(update={"steps": 8, "eval_every": 4, "save_every": 4, "warmup_steps": 2})


@pytest.fixture(scope="module")
def source(parallel: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has trained, and published."""
    run = tmp_path_factory.mktemp("runs") / "20261129T010203Z-tiny-abcd"
    checkpoint = run / "artifacts" / "mini" / "train-model" / "checkpoint"
    train(parallel[0], *parallel, checkpoint, NETWORK, CONFIG)
    export_bundle(checkpoint, parallel[1], run / "bundle")
    return run


@pytest.fixture
def trained(source: Path) -> Path:
    return source / "artifacts" / "mini" / "train-model" / "checkpoint"


def test_it_begins_at_the_loss_that_the_other_ended_with(
    parallel: tuple[Path, Path], source: Path, trained: Path, tmp_path: Path
) -> None:
    other, out = json.loads((trained / "training.json").read_text()), tmp_path / "out"
    longer = NETWORK.model_copy(update={"max_positions": 48, "dropout": 0.1})  # which no weight depends on
    info = train(parallel[0], *parallel, out, longer, FEW, init_from=stamped(str(source), longer))
    assert curve(out)[0] == {"step": 0, "tokens": 0, "valid_loss": other["valid_loss"]}
    assert info["init_from"] == {"name": source.name, "sha256": other["sha256"]["weights"]}
    assert info["valid_loss"] <= other["valid_loss"] and info["sha256"]["tokenizer"] == other["sha256"]["tokenizer"]
    manifest = export_bundle(out, parallel[1], tmp_path / "bundle")
    assert manifest["provenance"]["training"]["init_from"]["name"] == source.name
    again = train(parallel[0], *parallel, tmp_path / "again", NETWORK, FEW, init_from=str(out))
    assert again["init_from"]["name"] == "out" and again["init_from"]["init_from"] == info["init_from"]


def test_what_makes_it_worse_leaves_it_as_it_was(parallel: tuple[Path, Path], trained: Path, tmp_path: Path) -> None:
    rough = FEW.model_copy(update={"muon_lr": 5.0, "adam_lr": 5.0})
    info = train(parallel[0], *parallel, tmp_path / "out", NETWORK, rough, init_from=str(trained))
    assert info["best_step"] == 0
    assert_same(weights(tmp_path / "out"), weights(trained))


def test_what_it_began_with_is_part_of_what_a_run_is(
    parallel: tuple[Path, Path], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = str(trained), tmp_path / "other"
    train(parallel[0], *parallel, other, NETWORK, FEW)
    whole, out = tmp_path / "whole", tmp_path / "out"
    train(parallel[0], *parallel, whole, NETWORK, FEW, init_from=one)
    break_off(parallel, out, monkeypatch, 7, config=FEW, init_from=one)
    for place in (str(other), ""):
        with pytest.raises(CheckpointError, match="made by a run with another init_from: train into an empty folder"):
            train(parallel[0], *parallel, out, NETWORK, FEW, init_from=place)
    train(parallel[0], *parallel, out, NETWORK, FEW, init_from=one)
    assert_same(weights(out), weights(whole))
    assert curve(out) == curve(whole)


def test_a_path_means_its_run_or_its_training(source: Path, trained: Path, tmp_path: Path) -> None:
    assert find(source) == source == find(source / "bundle") and find(trained) == trained
    shutil.copytree(source / "bundle", tmp_path / "alone" / "bundle")
    with pytest.raises(
        CheckpointError, match="the weights of a bundle are packed for serving, and cannot be read back"
    ):
        find(tmp_path / "alone" / "bundle")
    with pytest.raises(CheckpointError, match=f"{tmp_path}: no training has ended there"):
        find(tmp_path)


def test_another_network_is_refused_by_the_names_of_what_differs(source: Path) -> None:
    wider = NETWORK.model_copy(update={"d_ff": 96, "encoder_layers": 2})
    told = "network.encoder_layers is 1 there and 2 here, network.d_ff is 64 there and 96 here"
    with pytest.raises(CheckpointError, match=told):
        stamped(str(source), wider)


def test_another_tokenizer_is_refused(parallel: tuple[Path, Path], source: Path, tmp_path: Path) -> None:
    train_tokenizer(parallel[0], tmp_path / "other", TokenizerConfig(kind="char", vocab_size=290))
    with pytest.raises(CheckpointError, match="its weights know another tokenizer"):
        train(parallel[0], parallel[0], tmp_path / "other", tmp_path / "out", NETWORK, FEW, init_from=str(source))


def test_its_tokenizer_is_taken_where_it_knows_the_text(
    parallel: tuple[Path, Path], source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = TokenizerConfig(kind="bpe", vocab_size=600)
    with tokenizer_of(stamped(str(source), NETWORK)) as taken:
        report = train_tokenizer(parallel[0], tmp_path / "taken", asked, taken=taken)
        assert load_tokenizer(tmp_path / "taken").content_hash() == load_tokenizer(parallel[1]).content_hash()
        assert (report["kind"], report["sampled_lines"]) == ("char", 0) and report["languages"]["ru"]["rows"] == 20
        assert "the tokenizer is that of init_from" in capsys.readouterr().out
        stranger = shutil.copytree(parallel[0], tmp_path / "stranger")
        card = json.loads((stranger / "corpus.json").read_text())
        (stranger / "corpus.json").write_text(json.dumps({**card, "authors": ["clerk", "poet"]}))
        with pytest.raises(
            TokenizerError, match="the corpus has <author:poet>, and the tokenizer of the weights to begin"
        ):
            train_tokenizer(stranger, tmp_path / "refused", asked, taken=taken)
    assert not (tmp_path / "refused").exists()
    with tokenizer_of("") as taken:
        assert taken is None


def test_weights_at_an_address(parallel: tuple[Path, Path], trained: Path, tmp_path: Path) -> None:
    store, address = fsspec.filesystem("memory"), "memory://models/trained@once/checkpoint"
    store.put(str(trained), "/models/trained@once/checkpoint", recursive=True)
    origin = stamped(address, NETWORK)
    assert origin == f"{open_origin(str(trained), NETWORK).sha256}@{address}"
    with tokenizer_of(origin) as taken:
        assert taken and load_tokenizer(taken).content_hash() == load_tokenizer(parallel[1]).content_hash()
    info = train(parallel[0], *parallel, tmp_path / "out", NETWORK, FEW, init_from=origin)
    assert info["init_from"]["name"] == "memory://models/trained@once/checkpoint"
    with pytest.raises(CheckpointError, match=r"memory://nowhere: no training folder can be read there \(FileNotFound"):
        stamped("memory://nowhere", NETWORK)


def test_weights_that_are_not_what_they_were_are_refused(source: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(source, tmp_path / "copy")
    origin = stamped(str(copied), NETWORK)
    (info,) = copied.glob("artifacts/*/*/checkpoint/training.json")
    found = json.loads(info.read_text())
    with pytest.raises(CheckpointError, match="has other weights than when the run began"):
        open_origin(f"{'0' * 64}@{copied}", NETWORK)
    os.truncate(info.with_name("model.safetensors"), 100)
    with pytest.raises(CheckpointError, match="damaged checkpoint"):
        open_origin(origin, NETWORK)
    info.write_text(json.dumps({key: found[key] for key in found.keys() - {"sha256"}}))
    shutil.copy(info.with_name("curves.jsonl"), info.with_name("model.safetensors"))
    with pytest.raises(CheckpointError, match="damaged checkpoint"):
        open_origin(str(copied), NETWORK)
    info.unlink()
    with pytest.raises(CheckpointError, match="no training has ended there"):
        open_origin(origin, NETWORK)
