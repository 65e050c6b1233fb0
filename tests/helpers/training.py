"""A miniature corpus and network, trained in a second, for tests of what training leaves behind.

corpus, tokenizer = corpus_and_tokenizer(tmp_path)
train(corpus, corpus, tokenizer, tmp_path / "out", NETWORK, CONFIG)
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from model.config import NetworkConfig, TokenizerConfig, TrainingConfig
from model.settings import to_dict
from model.tokenizer import Tokenizer
from model.tokenizer.prompt import Example
from model.tokenizer.train import train_tokenizer
from model.training.checkpoint import load_checkpoint
from model.training.draws import Draws
from model.training.loop import Trainer, train
from model.training.shown import Drawn, Pairs
from model.training.tokens import tokenised

NETWORK = NetworkConfig(d_model=32, encoder_layers=1, decoder_layers=1, heads=2, head_dim=16, d_ff=64, max_positions=64)
CONFIG = TrainingConfig(steps=24, batch_tokens=256, warmup_steps=4, eval_every=8, save_every=8, threads=1)
# Both as settings of a profile, for a command's --set.
SETTINGS = [f"network.{name}={value}" for name, value in to_dict(NETWORK).items() if value != {}]
SETTINGS += [f"training.{name}={value}" for name, value in to_dict(CONFIG).items() if value != {}]
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


def corpus_and_tokenizer(root: Path) -> tuple[Path, Path]:
    """A parallel corpus and a tokenizer of its characters."""
    corpus = write_corpus(root / "corpus")
    train_tokenizer(corpus, root / "tokenizer", TokenizerConfig(kind="char", vocab_size=400))
    return corpus, root / "tokenizer"


def shown(
    rows: list[dict[str, str]], tokenizer: Tokenizer, network: NetworkConfig, config: TrainingConfig, seed: int | None
) -> list[Example]:
    """The examples of sentence pairs in the first pass of a seed, or in validation, which has none."""
    pairs = Pairs(
        tokenised(rows, tokenizer, ["ru", "en"]), tokenizer, network, config, None if seed is None else Draws(seed)
    )
    found = pairs.show(Drawn(0, np.arange(len(rows)), np.arange(len(rows))))
    return [pairs.example(found, place) for place in range(len(found.width))]


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_checkpoint(folder)[0]


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)


def curve(folder: Path) -> list[dict[str, float]]:
    """The points of a run's curve, without what the clock has put into them."""
    points = [json.loads(line) for line in (folder / "curves.jsonl").read_text("utf-8").splitlines()]
    return [{key: each[key] for key in each.keys() - {"seconds", "tokens_per_second"}} for each in points]


def break_off(
    parallel: tuple[Path, Path],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    uri: str = "",
    config: TrainingConfig = CONFIG,
    init_from: str = "",
) -> None:
    """Train into ``out`` up to a failure in this step, as a run that is killed leaves it but for half-written files."""
    update = Trainer.update

    def fails(self: Trainer, *given: Any) -> float:
        if self.state.step + 1 == step:
            raise InterruptedError(step)
        return update(self, *given)

    with monkeypatch.context() as broken, pytest.raises(InterruptedError):
        broken.setattr(Trainer, "update", fails)
        train(parallel[0], *parallel, out, NETWORK, config, uri, init_from)
