"""Miniature bundles with random weights, made through the real export, for tests that need a model and no training.

from tests.helpers.bundles import tiny_bundle
tiny_bundle(tmp_path / "bundle", family="decoder")
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from safetensors.numpy import save_file

from benchmarks.serving.models import random_weights
from model.bundle.introduction import Introduction
from model.config import NetworkConfig, to_dict
from model.onnx.export import export_bundle
from model.tokenizer import load_tokenizer
from model.tokenizer.vocabulary import FORMAT_VERSION, NORMALIZATION, control_tokens

CHARACTERS = "".join(sorted(set(" .,!?-0123456789abcdefghijklmnopqrstuvwxyzабвгдеёжзийклмнопрстуфхцчшщъыьэюяABCАБВ")))
TINY: dict[str, Any] = {
    "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "heads": 4, "kv_heads": 1, "head_dim": 16, "d_ff": 96,
    "max_positions": 64,
}  # fmt: skip


def tiny_tokenizer(out: Path, authors: tuple[str, ...] = ("guide",)) -> Path:
    """A character tokenizer for Russian and English, written without training."""
    out.mkdir(parents=True, exist_ok=True)
    manifest = {
        "format_version": FORMAT_VERSION,
        "kind": "char",
        "normalization": NORMALIZATION,
        "control_tokens": list(control_tokens(["ru", "en"], list(authors))),
        "characters": CHARACTERS,
    }
    (out / "tokenizer.json").write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")
    return out


def tiny_checkpoint(out: Path, tokenizer_dir: Path, config: NetworkConfig, seed: int = 0, task: str = "") -> Path:
    """A checkpoint directory of random weights for ``config``."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(tokenizer_dir)
    vocab_size = tokenizer.vocab_size
    weights = random_weights(config, vocab_size, seed)
    save_file(weights, str(out / "model.safetensors"))
    info = {
        "network": to_dict(config),
        "vocab_size": vocab_size,
        "task": task or ("translation" if config.family == "seq2seq" else "text"),
        "languages": ["ru", "en"],
        "authors": ["guide"],
        "steps": 0,
        "best_step": 0,
        "parameters": sum(weight.size for weight in weights.values()),
        "seed": seed,
        "sha256": {"tokenizer": tokenizer.content_hash()},
    }
    (out / "training.json").write_text(json.dumps(info), encoding="utf-8")
    return out


def tiny_bundle(
    out: Path,
    family: str = "seq2seq",
    seed: int = 0,
    task: str = "",
    introduction: Introduction | None = None,
    **network: Any,
) -> Path:
    """An fp32 bundle of random weights; ``network`` overrides fields of the tiny network. The bundle's path."""
    config = NetworkConfig(family=family, **{**TINY, **network})  # type: ignore[arg-type]
    parts = out.with_name(f"{out.name}-parts")
    tokenizer = tiny_tokenizer(parts / "tokenizer")
    checkpoint = tiny_checkpoint(parts / "checkpoint", tokenizer, config, seed, task)
    export_bundle(checkpoint, tokenizer, out, introduction)
    return out


def tiny_corpus(out: Path, rows: int = 40, kind: str = "parallel", seed: int = 0) -> Path:
    """A corpus of nonsense words, by its on-disk contract: every split holds ``rows`` rows."""
    rng = np.random.default_rng(seed)

    def words(alphabet: str) -> str:
        lengths = rng.integers(1, 6, rng.integers(1, 5))
        return " ".join("".join(alphabet[i] for i in rng.integers(0, len(alphabet), length)) for length in lengths)

    out.mkdir(parents=True, exist_ok=True)
    for split in ("train-00000", "valid", "heldout"):
        records = [{"ru": words("абвгдежзик"), "en": words("abcdefghik"), "author": "guide"} for _ in range(rows)]
        if kind == "text":
            records = [{"text": f"{record['ru']} {record['en']}"} for record in records]
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        (out / f"{split}.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
    counts = {"read": 3 * rows, "kept": 3 * rows, "train": rows, "valid": rows, "heldout": rows, "test": {}}
    card = {
        "format_version": 1,
        "kind": kind,
        "languages": ["ru", "en"],
        "authors": ["guide"] if kind == "parallel" else [],
        "counts": counts,
        "shards": [{"file": "train-00000.jsonl.zst", "rows": rows}],
    }
    (out / "corpus.json").write_text(json.dumps(card), encoding="utf-8")
    return out
