"""Miniature bundles whose random weights talk: greedy text that varies from token to token and depends on the prompt.

Plain random weights with tied embeddings repeat their last token for ever, and a test of "the same tokens alone and in
a batch" would then pass for almost any mistake. Random signs in the last norm and stronger layers cure that.

from tests.helpers.engines import talkative_bundle
Bundle.load(talkative_bundle(tmp_path / "bundle", family="decoder"))
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from safetensors.numpy import load_file, save_file

from model.bundle import Bundle
from model.config import NetworkConfig
from model.onnx.export import export_bundle
from model.tokenizer import Tokenizer
from serving.engine import Engine, EngineConfig, GenerationRequest, GenerationResult, TokenEvent
from tests.helpers.bundles import TINY, tiny_checkpoint, tiny_tokenizer

CONFIG = EngineConfig(slots=4, queue=64, prefill_tokens=40, threads=1, provider="cpu", source_buckets=[8, 16, 32])
# With these the texts of either family, and of a recurrent decoder, end soon, late or never.
LIVELY: dict[str, dict[str, Any]] = {
    "seq2seq": {"seed": 2, "ending": 2.0},
    "decoder": {"seed": 2},
    "ssru": {"seed": 2, "ending": 2.0, "decoder_mixer": "ssru"},
}
PATIENCE = 60


def talkative_bundle(
    out: Path, family: str = "seq2seq", seed: int = 0, task: str = "", ending: float = 1.0, **network: Any
) -> Path:
    """An fp32 bundle; ``network`` overrides fields of the tiny network. The bundle's path.

    ``ending`` scales the end-of-sequence token's logit: with a larger one texts end sooner or never.
    """
    config = NetworkConfig(family=family, **{**TINY, **network})  # type: ignore[arg-type]
    parts = out.with_name(f"{out.name}-parts")
    tokenizer = tiny_tokenizer(parts / "tokenizer")
    checkpoint = tiny_checkpoint(parts / "checkpoint", tokenizer, config, seed, task)
    path = str(checkpoint / "model.safetensors")
    weights = load_file(path)
    random = np.random.default_rng(seed)
    for name, values in weights.items():
        if name == "decoder.norm.weight":
            weights[name] = random.standard_normal(values.shape).astype(np.float32)
        elif name.endswith(("query_norm.weight", "out.weight", "down.weight", "candidate.weight")):
            weights[name] = values * 4
        elif name == "embedding.weight":
            weights[name][Tokenizer.eos_id] *= ending
    save_file(weights, path)
    export_bundle(checkpoint, tokenizer, out)
    return out


def family_bundle(folder: Path, kind: str) -> Bundle:
    """The talkative bundle of a family that the engine's tests share, or of ``ssru``: a recurrent seq2seq decoder."""
    return Bundle.load(talkative_bundle(folder / kind, "seq2seq" if kind == "ssru" else kind, **LIVELY[kind]))


class Call:
    """One submitted request and what came back; ``on_token(call)`` runs in the engine thread."""

    def __init__(
        self,
        engine: Engine,
        request: GenerationRequest,
        on_token: Callable[[Call], object] | None = None,
        stream: bool = True,
    ) -> None:
        self.events: list[TokenEvent] = []
        self.ended, self._on_token = threading.Event(), on_token
        self.cancel = engine.submit(request, self._take, stream=stream)

    def _take(self, event: TokenEvent) -> None:
        self.events.append(event)
        if event.finish_reason is not None:
            self.ended.set()
        elif self._on_token is not None:
            self._on_token(self)

    @property
    def result(self) -> GenerationResult:
        assert self.ended.wait(PATIENCE), "the request never ended"
        result = self.events[-1].result
        assert result is not None
        return result

    @property
    def admitted(self) -> float:
        """``time.perf_counter()`` when it was given its slots."""
        return self.events[-1].time - self.result.seconds + self.result.queue_seconds


def nothing_is_left(engine: Engine) -> None:
    """Assert that an engine whose requests have all ended keeps nothing of them."""
    stats, scheduler = engine.stats(), engine._core.scheduler
    assert [stats[name] for name in ("running", "waiting", "slots_used", "kv_tokens")] == [0] * 4
    assert not scheduler.requests and not scheduler._prompts and not scheduler.slots.special and not scheduler.slots


def prompt(engine: Engine, text: str = "привет hello") -> list[int]:
    """Token ids for a bundle of either task."""
    return engine.prompt(text, **({"target": "en"} if engine.bundle.task == "translation" else {}))


def long_prompt(engine: Engine, text: str = "a") -> GenerationRequest:
    """A prompt of this bundle and a number of tokens that takes many steps."""
    ids = prompt(engine, text)
    for seed in range(50):
        request = GenerationRequest(ids, max_tokens=40, temperature=2.0, seed=seed)
        if engine.generate([request])[0].generated_tokens == 40:
            return request
    raise AssertionError("no seed gives 40 tokens")


def tiny_corpus(out: Path) -> Path:
    """A corpus of two sentence pairs over and over, enough to train a tokenizer and to calibrate int8."""
    out.mkdir(parents=True)
    pairs = [("Кошка спит дома.", "The cat sleeps at home."), ("Мальчик читает книгу.", "The boy reads a book.")]
    lines = "".join(json.dumps({"ru": ru, "en": en}) + "\n" for ru, en in pairs * 30)
    for name in ("train-00000", "valid", "heldout"):
        (out / f"{name}.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
    card = {
        "format_version": 1, "kind": "parallel", "languages": ["ru", "en"], "authors": [], "sources": [],
        "counts": {"train": 60, "valid": 60, "heldout": 60, "test": {}}, "characters": {}, "seconds": 0.0, "config": {},
        "shards": [{"file": "train-00000.jsonl.zst", "rows": 60, "sha256": ""}],
    }  # fmt: skip
    (out / "corpus.json").write_text(json.dumps(card))
    return out
