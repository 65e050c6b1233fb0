"""Miniature bundles whose random weights talk: greedy text that varies from token to token and depends on the prompt.

Plain random weights with tied embeddings repeat their last token for ever, and a test of "the same tokens alone and in
a batch" would then pass for almost any mistake. Random signs in the last norm and stronger layers cure that.

from tests.helpers.engines import talkative_bundle
Bundle.load(talkative_bundle(tmp_path / "bundle", family="decoder"))
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from safetensors.numpy import load_file, save_file

from model.config import NetworkConfig
from model.onnx.export import export_bundle
from tests.helpers.bundles import TINY, tiny_checkpoint, tiny_tokenizer


def talkative_bundle(out: Path, family: str = "seq2seq", seed: int = 0, task: str = "", **network: Any) -> Path:
    """An fp32 bundle; ``network`` overrides fields of the tiny network. The bundle's path."""
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
        elif name.endswith(("query_norm.weight", "out.weight", "down.weight")):
            weights[name] = values * 4
    save_file(weights, path)
    export_bundle(checkpoint, tokenizer, out)
    return out


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
