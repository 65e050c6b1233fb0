"""Layers compiled by torch.compile learn what others learn, and a run that was stopped goes on to the same bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from model.training import compiling
from model.training.compiling import LONG, pays
from model.training.loop import train
from tests.helpers.training import CONFIG, NETWORK, assert_same, break_off, corpus_and_tokenizer, curve, weights

CPU = torch.device("cpu")
COMPILED = CONFIG.model_copy(update={"compile": "on", "steps": 12, "eval_every": 4, "save_every": 4})


def test_what_pays_is_told_by_the_operations_of_the_whole_training() -> None:
    tokens = int(LONG / 6 / 1e6)
    assert pays("auto", 1_000_000, tokens + 1, CPU) and not pays("auto", 1_000_000, tokens - 1, CPU)
    assert not pays("auto", 1_000_000, 2 * tokens, torch.device("cuda")), "it has not been tried there"
    assert pays("on", 1, 1, CPU) and not pays("off", 1_000_000, 2 * tokens, CPU)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return corpus_and_tokenizer(tmp_path_factory.mktemp("text"))


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="there is no C++ compiler here")
def test_a_run_that_goes_on_comes_to_the_same_bit(
    text: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each start compiles anew, as on another machine, and before batches of other lengths."""
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    corpus, tokenizer = text
    told = train(corpus, corpus, tokenizer, tmp_path / "whole", NETWORK, COMPILED)
    assert told["compiled"] and "compile: done in " in capsys.readouterr().out
    plain = train(
        corpus, corpus, tokenizer, tmp_path / "plain", NETWORK, COMPILED.model_copy(update={"compile": "off"})
    )
    assert not plain["compiled"] and told["valid_loss"] == pytest.approx(plain["valid_loss"], rel=0.01)
    assert told["valid_loss"] != plain["valid_loss"], "it has computed otherwise"

    torch.compiler.reset()
    break_off(text, tmp_path / "stopped", monkeypatch, 7, config=COMPILED)
    torch.compiler.reset()
    assert train(corpus, corpus, tokenizer, tmp_path / "stopped", NETWORK, COMPILED)["compiled"]
    assert_same(weights(tmp_path / "stopped"), weights(tmp_path / "whole"))
    assert curve(tmp_path / "stopped") == curve(tmp_path / "whole")


def test_without_a_compiler_training_goes_on_without(
    text: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiling, "COMPILERS", ("no-such-compiler",))
    corpus, tokenizer = text
    told = train(corpus, corpus, tokenizer, tmp_path / "out", NETWORK, COMPILED)
    assert not told["compiled"] and told["steps"] == 12
    assert "compile: there is no C++ compiler (no-such-compiler) here" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "training.json").read_text("utf-8"))["config"]["compile"] == "on"


def test_a_compiler_that_fails_is_told_and_training_goes_on(
    text: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a real one that ends with an error: the command is set to what always fails."""
    monkeypatch.setattr(compiling, "COMPILERS", ("false",))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/bin/false",))
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    torch.compiler.reset()
    corpus, tokenizer = text
    told = train(corpus, corpus, tokenizer, tmp_path / "out", NETWORK, COMPILED)
    assert not told["compiled"] and told["steps"] == 12
    assert "compile: did not work (" in capsys.readouterr().out
