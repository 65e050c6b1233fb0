"""Training on a miniature corpus: it learns, it repeats, and it resumes exactly."""

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.config import NetworkConfig, TokenizerConfig, TrainingConfig, from_dict, to_dict
from model.network import Transformer
from model.tokenizer import load_tokenizer
from model.tokenizer.prompt import encode_prompt
from model.tokenizer.train import train_tokenizer
from model.training.batches import Examples
from model.training.checkpoint import CheckpointError, load_checkpoint
from model.training.device import TrainingError, choose_device
from model.training.loop import Trainer, train
from model.training.optimizer import build_optimizers, learning_rate, set_learning_rate
from model.training.saved import kept
from tests.helpers.training import (
    CONFIG,
    NETWORK,
    assert_same,
    break_off,
    curve,
    shown,
    weights,
    write_corpus,
)


def test_a_seed_gives_one_run(parallel: tuple[Path, Path], tmp_path: Path) -> None:
    first = train(parallel[0], *parallel, tmp_path / "a", NETWORK, CONFIG)
    second = train(parallel[0], *parallel, tmp_path / "b", NETWORK, CONFIG)
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert first["valid_loss"] == second["valid_loss"]
    assert first["valid_loss"] < 0.85 * np.log(first["vocab_size"])  # it has learnt something
    assert first["parameters"] == sum(w.size for w in weights(tmp_path / "a").values())
    curve = [json.loads(line) for line in (tmp_path / "a" / "curves.jsonl").read_text().splitlines()]
    assert [point["step"] for point in curve if "valid_loss" in point] == [8, 16, 24]
    assert not list((tmp_path / "a").glob("last*"))  # nothing left of the resume state


def test_a_run_that_is_asked_to_end_saves_and_goes_on_exactly_there(
    parallel: tuple[Path, Path], tmp_path: Path
) -> None:
    """A real process, ended by SIGTERM between two checkpoints, then started again."""
    config = from_dict(TrainingConfig, {**to_dict(CONFIG), "steps": 400, "save_every": 100, "eval_every": 100})
    settings = [f"--{key}={value}" for key, value in (to_dict(NETWORK) | to_dict(config)).items()]
    command = [sys.executable, "-m", "model.training", *map(str, parallel), "--out", str(tmp_path / "ended")]
    command += settings
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("training: step 100/400, validation loss"):
            break
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143 and not (tmp_path / "ended" / "training.json").exists()
    step = int(kept(tmp_path / "ended")[-1].name.removeprefix("step-"))
    assert 100 <= step < 400
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"resuming after step {step}," in finished.stdout
    train(parallel[0], *parallel, tmp_path / "whole", NETWORK, config)
    assert_same(weights(tmp_path / "ended"), weights(tmp_path / "whole"))
    assert curve(tmp_path / "ended") == curve(tmp_path / "whole")
    told = [json.loads((tmp_path / run / "training.json").read_text())["row_counts"] for run in ("ended", "whole")]
    assert told[0] == told[1] and told[0][0]["used"] == 600


def test_resuming_with_other_settings_is_refused(
    parallel: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    break_off(parallel, out, monkeypatch, 12)
    other = CONFIG.model_copy(update={"seed": 1, "steps": 30})
    with pytest.raises(
        CheckpointError, match=r"step-00000008 was made by a run with another training.steps, training.seed"
    ):
        train(parallel[0], *parallel, out, NETWORK, other)
    train(parallel[0], *parallel, out, NETWORK, CONFIG.model_copy(update={"save_every": 5}))  # which changes no weight


def test_accumulation_equals_one_large_batch(parallel: tuple[Path, Path], tmp_path: Path) -> None:
    """Gradients of micro-batches, weighted by tokens, sum to those of the batch they make up."""
    examples = Examples(parallel[0], load_tokenizer(parallel[1]), NETWORK, CONFIG)
    stream = examples.train_batches()
    micro = [next(stream) for _ in range(3)]
    tokens = sum(batch.target_tokens for batch in micro)
    torch.manual_seed(0)
    trainer = Trainer(examples, tmp_path)
    torch.manual_seed(0)
    reference = Trainer(examples, tmp_path)
    loss = sum((reference.loss(batch) for batch in micro), torch.zeros(())) / tokens
    loss.backward()
    set_learning_rate(reference.optimizers, 1.0)
    for optimizer in reference.optimizers:
        optimizer.step()
    assert trainer.update(micro, 1.0) == pytest.approx(loss.item(), rel=1e-5)
    pairs = zip(trainer.network.parameters(), reference.network.parameters(), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_examples_of_both_families(parallel: tuple[Path, Path]) -> None:
    tokenizer = load_tokenizer(parallel[1])
    rows = [{"ru": "один", "en": "one", "author": "clerk"}]
    served = {"task": "translation", "text": "один", "target": "en", "author": "clerk"}
    (pair,) = shown(rows, tokenizer, NETWORK, CONFIG, None)
    author, to_english = tokenizer.control_id("<author:clerk>"), tokenizer.control_id("<2en>")
    assert pair.source == [to_english, author, *tokenizer.encode("один"), tokenizer.eos_id]
    assert pair.prompt == encode_prompt(tokenizer, family="seq2seq", **served)
    assert pair.inputs == [tokenizer.bos_id, *tokenizer.encode("one")]
    assert pair.labels == [*tokenizer.encode("one"), tokenizer.eos_id]
    decoder = from_dict(NetworkConfig, {**to_dict(NETWORK), "family": "decoder"})
    (single,) = shown(rows, tokenizer, decoder, CONFIG, None)
    assert single.source == []
    assert single.prompt == encode_prompt(tokenizer, family="decoder", **served)
    assert len(single.inputs) == len(single.labels)
    taken = [label for label in single.labels if label != tokenizer.pad_id]
    assert taken == pair.labels  # the loss is taken on the target alone
    assert single.inputs[single.labels.index(taken[0])] == tokenizer.bos_id


def test_sources_are_shown_in_both_spellings_and_answers_in_their_own(parallel: tuple[Path, Path]) -> None:
    """Half of the sources as most people type them, in training alone, and all with one form of each mark."""
    tokenizer, rows = load_tokenizer(parallel[1]), [{"ru": "ещё «ёлка»", "en": "another “tree”"}] * 200

    def texts(share: float, training: bool) -> tuple[set[str], set[str]]:
        found = shown(rows, tokenizer, NETWORK, TrainingConfig(typed_share=share), 0 if training else None)
        return {tokenizer.decode(one.source) for one in found}, {tokenizer.decode(one.answer) for one in found}

    own, typed, source = "ещё «ёлка»", 'еще "елка"', 'another "tree"'
    answers = {own, "another “tree”"}
    assert texts(0.5, True) == ({own, typed, source}, answers)
    assert texts(1.0, True) == ({typed, source}, answers)
    assert texts(0.0, True) == texts(1.0, False) == ({own, source}, answers)


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
    info = train(corpus, corpus, tmp_path / "tokenizer", tmp_path / "out", decoder, CONFIG)
    assert info["task"] == "text" and info["valid_loss"] < 3.5
    with pytest.raises(ValueError, match=r"set network.family=decoder"):
        train(corpus, corpus, tmp_path / "tokenizer", tmp_path / "out2", NETWORK, CONFIG)


def test_early_stopping(parallel: tuple[Path, Path], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"patience": 1, "muon_lr": 0.0, "adam_lr": 0.0, "steps": 80})
    info = train(parallel[0], *parallel, tmp_path / "out", NETWORK, config)
    assert info["steps"] == 16 and info["best_step"] == 8


def test_a_loss_that_explodes_says_what_to_change(parallel: tuple[Path, Path], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"adam_lr": 1e30, "muon_lr": 1e30})
    with pytest.raises(TrainingError, match=r"the loss became .* lower training.muon_lr"):
        train(parallel[0], *parallel, tmp_path / "out", NETWORK, config)


def test_a_first_validation_that_is_no_number_is_told_and_nothing_is_called_the_best(
    parallel: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights may be lost in a step whose own loss was still a number."""
    update = Trainer.update

    def loses(self: Trainer, *given: Any) -> float:
        loss = update(self, *given)
        if self.state.step + 1 == CONFIG.eval_every:
            self.network.embedding.weight.data.fill_(float("nan"))
        return loss

    monkeypatch.setattr(Trainer, "update", loses)
    with pytest.raises(TrainingError, match=r"the validation loss became nan at step 8: lower training.muon_lr"):
        train(parallel[0], *parallel, tmp_path / "out", NETWORK, CONFIG)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_warm_up_that_would_outlast_the_run_is_fitted_and_told(
    parallel: tuple[Path, Path], tmp_path: Path, capfd
) -> None:
    config = CONFIG.model_copy(update={"steps": 20, "warmup_steps": 60})
    info = train(parallel[0], *parallel, tmp_path / "out", NETWORK, config)
    assert "training.warmup_steps is 2 instead of 60, for training.steps is 20" in capfd.readouterr().out
    assert info["config"]["warmup_steps"] == 2
    assert max(point.get("lr", 0.0) for point in curve(tmp_path / "out")) == 1.0


def test_a_folder_is_not_finished_while_another_run_is_at_work_in_it(
    parallel: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    train(parallel[0], *parallel, out, NETWORK, CONFIG)
    before = weights(out)
    break_off(parallel, out, monkeypatch, 4)
    with pytest.raises(CheckpointError, match="not a finished checkpoint"):
        load_checkpoint(out)
    train(parallel[0], *parallel, out, NETWORK, CONFIG)
    assert_same(weights(out), before)


def test_a_finished_checkpoint_is_held_against_its_hash(parallel: tuple[Path, Path], tmp_path: Path) -> None:
    train(parallel[0], *parallel, tmp_path / "out", NETWORK, CONFIG)
    data = bytearray((tmp_path / "out" / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "out" / "model.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"damaged checkpoint: model\.safetensors: sha256"):
        load_checkpoint(tmp_path / "out")


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
