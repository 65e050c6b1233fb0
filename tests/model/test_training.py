"""Training on a miniature corpus: it learns, it repeats, it resumes exactly, and nothing can make tracking stop it."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard

from model.config import NetworkConfig, TokenizerConfig, TrainingConfig, from_dict, to_dict
from model.network import Transformer
from model.tokenizer import load_tokenizer
from model.tokenizer.prompt import encode_prompt
from model.tokenizer.train import train_tokenizer
from model.training import tracking
from model.training.batches import Examples
from model.training.checkpoint import CheckpointError, load_checkpoint
from model.training.loop import Trainer, TrainingError, choose_device, train
from model.training.optimizer import build_optimizers, learning_rate

NETWORK = NetworkConfig(d_model=32, encoder_layers=1, decoder_layers=1, heads=2, head_dim=16, d_ff=64, max_positions=64)
CONFIG = TrainingConfig(steps=24, batch_tokens=256, warmup_steps=4, eval_every=8, save_every=8, threads=1)
RUSSIAN = ["ноль", "один", "два", "три", "четыре", "пять", "шесть", "семь", "восемь", "девять"]
ENGLISH = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def write_corpus(folder: Path, kind: str = "parallel") -> Path:
    """A corpus folder by hand, in the format of model.corpus: numbers spelled digit by digit."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    rows = []
    for _ in range(640):
        digits = rng.integers(0, 10, rng.integers(1, 5))
        pair = {"ru": " ".join(RUSSIAN[d] for d in digits), "en": " ".join(ENGLISH[d] for d in digits)}
        rows.append({**pair, "author": "clerk"} if kind == "parallel" else {"text": pair["en"]})
    splits = {"train-00000": rows[:600], "valid": rows[600:620], "heldout": rows[620:]}
    for name, part in splits.items():
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part).encode()
        (folder / f"{name}.jsonl.zst").write_bytes(zstandard.compress(data))
    card = {
        "format_version": 1,
        "kind": kind,
        "languages": ["ru", "en"] if kind == "parallel" else ["en"],
        "authors": ["clerk"] if kind == "parallel" else [],
        "counts": {"train": 600, "valid": 20, "heldout": 20, "test": {}},
        "shards": [{"file": "train-00000.jsonl.zst", "rows": 600, "sha256": "0" * 64}],
    }
    (folder / "corpus.json").write_text(json.dumps(card))
    return folder


@pytest.fixture(scope="module")
def parallel(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("parallel")
    corpus = write_corpus(root / "corpus")
    train_tokenizer(corpus, root / "tokenizer", TokenizerConfig(kind="char", vocab_size=400))
    return corpus, root / "tokenizer"


@pytest.fixture(autouse=True)
def no_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_TRACKING", "off")


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_checkpoint(folder)[0]


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)


def test_a_seed_gives_one_run(parallel: tuple[Path, Path], tmp_path: Path) -> None:
    first = train(*parallel, tmp_path / "a", NETWORK, CONFIG)
    second = train(*parallel, tmp_path / "b", NETWORK, CONFIG)
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert first["valid_loss"] == second["valid_loss"]
    assert first["valid_loss"] < 0.85 * np.log(first["vocab_size"])  # it has learnt something
    assert first["parameters"] == sum(w.size for w in weights(tmp_path / "a").values())
    curve = [json.loads(line) for line in (tmp_path / "a" / "curves.jsonl").read_text().splitlines()]
    assert [point["step"] for point in curve if "valid_loss" in point] == [8, 16, 24]
    assert not list((tmp_path / "a").glob("last*"))  # nothing left of the resume state


def test_a_killed_run_resumes_exactly(parallel: tuple[Path, Path], tmp_path: Path) -> None:
    """A real process, killed with SIGKILL after its first checkpoint, then started again."""
    config = from_dict(TrainingConfig, {**to_dict(CONFIG), "steps": 400, "save_every": 100, "eval_every": 100})
    settings = [f"--{key}={value}" for key, value in (to_dict(NETWORK) | to_dict(config)).items()]
    command = [sys.executable, "-m", "model.training", *map(str, parallel), "--out", str(tmp_path / "killed")]
    command += settings
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not (tmp_path / "killed" / "last" / "progress.json").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "training.json").exists(), "the run ended before it could be killed"
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "resuming after step" in finished.stdout
    train(*parallel, tmp_path / "whole", NETWORK, config)
    assert_same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    told = [json.loads((tmp_path / run / "training.json").read_text())["row_counts"] for run in ("killed", "whole")]
    assert told[0] == told[1] and told[0][0]["used"] == 600


def test_resuming_with_other_settings_is_refused(parallel: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(*parallel, out, NETWORK, CONFIG)
    module_state = {"identity": {"network": {}}, "state": {}, "curve": []}
    (out / "last").mkdir()
    (out / "last" / "progress.json").write_text(json.dumps(module_state))
    with pytest.raises(CheckpointError, match=r"made by a run with another corpus, network, tokenizer, training"):
        train(*parallel, out, NETWORK, CONFIG)


def test_accumulation_equals_one_large_batch(parallel: tuple[Path, Path], tmp_path: Path) -> None:
    """Gradients of micro-batches, weighted by tokens, sum to those of the batch they make up."""
    examples = Examples(parallel[0], load_tokenizer(parallel[1]), NETWORK, CONFIG)
    stream = examples.train_batches()
    micro = [next(stream) for _ in range(3)]
    tokens = sum(batch.target_tokens for batch in micro)
    trainer = Trainer(examples, tmp_path)
    expected = sum(trainer.loss(batch).item() for batch in micro) / tokens
    assert trainer.update(micro, 1.0) == pytest.approx(expected, rel=1e-5)


def test_examples_of_both_families(parallel: tuple[Path, Path]) -> None:
    tokenizer = load_tokenizer(parallel[1])
    rows = [{"ru": "один", "en": "one", "author": "clerk"}]
    rng = np.random.default_rng(0)
    served = {"task": "translation", "text": "один", "target": "en", "author": "clerk"}
    (pair,) = Examples(parallel[0], tokenizer, NETWORK, CONFIG).from_rows(rows, rng, training=False)
    author, to_english = tokenizer.control_id("<author:clerk>"), tokenizer.control_id("<2en>")
    assert pair.source == [to_english, author, *tokenizer.encode("один"), tokenizer.eos_id]
    assert pair.prompt == encode_prompt(tokenizer, family="seq2seq", **served)
    assert pair.inputs == [tokenizer.bos_id, *tokenizer.encode("one")]
    assert pair.labels == [*tokenizer.encode("one"), tokenizer.eos_id]
    decoder = from_dict(NetworkConfig, {**to_dict(NETWORK), "family": "decoder"})
    (single,) = Examples(parallel[0], tokenizer, decoder, CONFIG).from_rows(rows, rng, training=False)
    assert single.source == []
    assert single.prompt == encode_prompt(tokenizer, family="decoder", **served)
    assert len(single.inputs) == len(single.labels)
    taken = [label for label in single.labels if label != tokenizer.pad_id]
    assert taken == pair.labels  # the loss is taken on the target alone
    assert single.inputs[single.labels.index(taken[0])] == tokenizer.bos_id


def test_batches_keep_the_token_budget(parallel: tuple[Path, Path]) -> None:
    examples = Examples(parallel[0], load_tokenizer(parallel[1]), NETWORK, CONFIG)
    stream = examples.train_batches()
    for _ in range(20):
        batch = next(stream)
        assert batch.source is not None
        assert max(batch.source.numel(), batch.inputs.numel()) <= CONFIG.batch_tokens
        assert batch.tokens > 0.5 * (batch.source.numel() + batch.inputs.numel())  # bucketed: little padding


def test_text_corpus_trains_a_decoder_and_refuses_seq2seq(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", "text")
    train_tokenizer(corpus, tmp_path / "tokenizer", TokenizerConfig(kind="char", vocab_size=400))
    decoder = from_dict(NetworkConfig, {**to_dict(NETWORK), "family": "decoder"})
    info = train(corpus, tmp_path / "tokenizer", tmp_path / "out", decoder, CONFIG)
    assert info["task"] == "text" and info["valid_loss"] < 3.5
    with pytest.raises(ValueError, match=r"set network.family=decoder"):
        train(corpus, tmp_path / "tokenizer", tmp_path / "out2", NETWORK, CONFIG)


def test_early_stopping(parallel: tuple[Path, Path], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"patience": 1, "muon_lr": 0.0, "adam_lr": 0.0, "steps": 80})
    info = train(*parallel, tmp_path / "out", NETWORK, config)
    assert info["steps"] == 16 and info["best_step"] == 8


def test_a_loss_that_explodes_says_what_to_change(parallel: tuple[Path, Path], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"adam_lr": 1e30, "muon_lr": 1e30})
    with pytest.raises(TrainingError, match=r"the loss became .* lower training.muon_lr"):
        train(*parallel, tmp_path / "out", NETWORK, config)


def test_a_demanded_gpu_that_is_not_there_is_an_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, so demanding one is no error")
    with pytest.raises(TrainingError, match=r"use training.device=auto"):
        choose_device(TrainingConfig(device="cuda"))


@pytest.mark.parametrize("schedule", ["stable-decay", "cosine"])
def test_schedule(schedule: str) -> None:
    config = from_dict(
        TrainingConfig, {"steps": 100, "warmup_steps": 10, "schedule": schedule, "final_lr_fraction": 0.05}
    )
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == 0.1 and max(rates) == 1.0
    assert rates[-1] == pytest.approx(0.05, abs=0.01)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize("steps", [3, 120, 150, 600, 2000, 2400])
def test_the_last_fraction_of_the_steps_falls_bit_for_bit_as_from_the_share_before_it(steps: int) -> None:
    """1 - 0.4 is 0.6 in floating point too: a run of a release that counted from the start is repeated exactly."""
    config = TrainingConfig(steps=steps)
    start = 0.6 * steps
    for step in range(config.warmup_steps, steps):
        share = (step - start) / max(1.0, steps - start)
        assert learning_rate(step, config) == max(0.05, min(1.0, 1 - share))


def test_every_parameter_has_one_optimizer() -> None:
    network = Transformer(NETWORK, 50)
    ids = [id(p) for o in build_optimizers(network, CONFIG) for group in o.param_groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in network.parameters())


def test_missing_and_damaged_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"not a finished checkpoint: .*model.safetensors, training.json is missing"
    ):
        load_checkpoint(tmp_path)
    (tmp_path / "training.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(CheckpointError, match="damaged checkpoint"):
        load_checkpoint(tmp_path)


def test_tracking_offline_records_and_never_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real ClearML, offline, of a curve that grows meanwhile; then a tracker that never ends."""
    monkeypatch.setenv("PROMETHEUS_TRACKING", "on")
    monkeypatch.delenv("CLEARML_CACHE_DIR", raising=False)
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(tmp_path / "none.conf"))
    curve, run = tmp_path / tracking.CURVE, tmp_path
    with tracking.tracked("test", {"steps": 1}, run):
        curve.write_text('{"step": 1, "tokens": 8, "seconds": 0.1, "loss": 2.5}\n')
    (session,) = (run / "clearml").rglob("*.zip")
    with zipfile.ZipFile(session) as archive:
        assert b"2.5" in archive.read("metrics.jsonl")

    start = time.monotonic()
    stuck = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdin=subprocess.PIPE)
    tracking.finish(stuck, seconds=0.2)
    assert time.monotonic() - start < 60 and stuck.returncode


def test_a_tracker_that_dies_fails_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    dead = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"], stdin=subprocess.PIPE)
    dead.wait()
    tracking.finish(dead)
    assert "the ClearML tracker failed; the run is complete without it" in capsys.readouterr().err
