"""The transformer of both families, encoder-decoder and decoder-only, with tied embeddings.

    python -m model.network.transformer        # prints the presets and their parameter counts

Legend: B rows, S tokens, L source tokens, D width, V vocabulary.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import PRESETS, NetworkConfig, from_dict
from model.network.layers import Layer, rotary_tables
from model.options import OK, Parser, run
from model.tokenizer import Tokenizer

EMBEDDING_STD = 0.02


class _Stack(nn.Module):
    """The layers of one side and their final norm, named as in the checkpoint."""

    def __init__(self, config: NetworkConfig, count: int, causal: bool, cross: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config, causal, cross) for _ in range(count))
        self.norm = nn.RMSNorm(config.d_model, eps=config.norm_eps)

    def forward(self, x: Tensor, *inputs: Any) -> Tensor:
        """x [B, S, D] -> [B, S, D]; the inputs are those of every layer."""
        for layer in self.layers:
            x = layer(x, *inputs)
        return self.norm(x)


class Transformer(nn.Module):
    """A freshly initialised network of either family; seed torch first for a repeatable one.

    ``seq2seq`` has a deep encoder, read once, and a shallow decoder, run for every token; ``decoder`` has that alone.
    """

    def __init__(self, config: NetworkConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocab_size, config.d_model)
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_STD)
        cos, sin = rotary_tables(config.max_positions, config.head_dim, config.rope_theta)
        # Derived from the config, so never stored in a checkpoint.
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        seq2seq = config.family == "seq2seq"
        self.encoder = _Stack(config, config.encoder_layers, causal=False) if seq2seq else None
        self.decoder = _Stack(config, config.decoder_layers, causal=True, cross=seq2seq)

    def embed(self, ids: Tensor) -> Tensor:
        """ids i64 [B, S] -> [B, S, D], scaled to unit variance."""
        if ids.shape[1] > self.config.max_positions:
            raise ValueError(f"a row of {ids.shape[1]} tokens is longer than max_positions={self.config.max_positions}")
        return self.embedding(ids) * math.sqrt(self.config.d_model)

    def features(self, source_ids: Tensor | None, ids: Tensor) -> Tensor:
        """source_ids i64 [B, L], None without an encoder, and ids i64 [B, S] -> features [B, S, D] for the logits."""
        rotary, memory, mask = (self.cos, self.sin), None, None
        if self.encoder is not None:
            assert source_ids is not None, "an encoder-decoder network needs a source"
            mask = (source_ids != Tokenizer.pad_id)[:, None, None, :]  # [B, 1, 1, L]
            memory = self.encoder(self.embed(source_ids), rotary, mask)
        return self.decoder(self.embed(ids), rotary, None, memory, mask)

    def forward(self, source_ids: Tensor | None, ids: Tensor) -> Tensor:
        """As :meth:`features`, on to the logits [B, S, V], with the embedding matrix."""
        return F.linear(self.features(source_ids, ids), self.embedding.weight)


def count_parameters(network: nn.Module) -> int:
    """Trainable parameters; the tied embedding counts once."""
    return sum(p.numel() for p in network.parameters())


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line for each preset."""
    parser().parse_args(argv)
    for name in PRESETS:
        config = from_dict(NetworkConfig, {"preset": name})
        vocab_size = 8000 if config.family == "seq2seq" else 512
        with torch.device("meta"):
            network = Transformer(config, vocab_size)
        print(f"{name:14} {config.family:8} vocabulary {vocab_size:5} parameters {count_parameters(network):>10,}")
    return OK


def parser() -> Parser:
    """It takes no options."""
    return Parser("model.network.transformer", __doc__)


if __name__ == "__main__":
    sys.exit(run(main))
