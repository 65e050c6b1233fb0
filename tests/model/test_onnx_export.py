"""Export takes a checkpoint and its own tokenizer, and leaves nothing behind of what does not fit together."""

import json

import pytest

from model.config import NetworkConfig
from model.onnx.export import export_bundle
from model.onnx.weights import GraphError
from model.tokenizer import load_tokenizer
from tests.helpers.bundles import TINY, tiny_checkpoint, tiny_tokenizer


def made(root):
    """A checkpoint and its tokenizer."""
    tokenizer = tiny_tokenizer(root / "tokenizer")
    return tiny_checkpoint(root / "checkpoint", tokenizer, NetworkConfig(**TINY)), tokenizer


def test_export_refuses_another_tokenizer(tmp_path):
    """By its size, and where the sizes are the same, by its hash: its ids would mean other pieces."""
    checkpoint, tokenizer = made(tmp_path)
    for authors in (("guide", "scout"), ("scout",)):
        other = tiny_tokenizer(tmp_path / "-".join(authors), authors=authors)
        with pytest.raises(GraphError, match="was trained with"):
            export_bundle(checkpoint, other, tmp_path / "bundle")
    assert load_tokenizer(other).vocab_size == load_tokenizer(tokenizer).vocab_size
    assert not (tmp_path / "bundle").exists()


def test_export_leaves_nothing_of_a_broken_checkpoint(tmp_path):
    checkpoint, tokenizer = made(tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    info = json.loads((checkpoint / "training.json").read_text())
    info["network"]["d_ff"] += 16
    (broken / "training.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match="is not a finished checkpoint"):
        export_bundle(broken, tokenizer, tmp_path / "bundle")
    (broken / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"ffn\.up\.weight: shape \(96, 64\), expected \(112, 64\)"):
        export_bundle(broken, tokenizer, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
