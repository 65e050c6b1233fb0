"""The two families: :class:`Seq2Seq` (encoder-decoder) and :class:`CausalDecoder`, with tied embeddings.

    python -m model.network.families        # prints the presets and their parameter counts

Legend: B rows, L source tokens, S tokens (of the target, where there is a source), D width, V vocabulary.
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


class _Transformer(nn.Module):
    """What both families share: the tied embedding and the rotary tables."""

    def __init__(self, config: NetworkConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocab_size, config.d_model)
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_STD)
        cos, sin = rotary_tables(config.max_positions, config.head_dim, config.rope_theta)
        # Derived from the config, so never stored in a checkpoint.
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.cos: Tensor
        self.sin: Tensor

    def embed(self, ids: Tensor) -> Tensor:
        """ids i64 [B, S] -> [B, S, D], scaled to unit variance."""
        if ids.shape[1] > self.config.max_positions:
            raise ValueError(f"a row of {ids.shape[1]} tokens is longer than max_positions={self.config.max_positions}")
        return self.embedding(ids) * math.sqrt(self.config.d_model)

    def project(self, features: Tensor) -> Tensor:
        """features [..., D] -> logits [..., V], with the embedding matrix."""
        return F.linear(features, self.embedding.weight)


class Seq2Seq(_Transformer):
    """Encoder-decoder: a deep encoder read once, a shallow decoder run for every token."""

    def __init__(self, config: NetworkConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.encoder = _Stack(config, config.encoder_layers, causal=False)
        self.decoder = _Stack(config, config.decoder_layers, causal=True, cross=True)

    def encode(self, source_ids: Tensor) -> tuple[Tensor, Tensor]:
        """source_ids i64 [B, L] -> memory [B, L, D] and its mask, bool [B, 1, 1, L]."""
        mask = (source_ids != Tokenizer.pad_id)[:, None, None, :]
        return self.encoder(self.embed(source_ids), (self.cos, self.sin), mask), mask

    def decode(self, memory: Tensor, mask: Tensor, target_ids: Tensor) -> Tensor:
        """memory [B, L, D], target_ids i64 [B, S] -> features [B, S, D]."""
        return self.decoder(self.embed(target_ids), (self.cos, self.sin), None, memory, mask)

    def features(self, source_ids: Tensor | None, target_ids: Tensor) -> Tensor:
        """source_ids i64 [B, L], target_ids i64 [B, S] -> features [B, S, D] that :meth:`project` turns to logits."""
        assert source_ids is not None, "an encoder-decoder network needs a source"
        return self.decode(*self.encode(source_ids), target_ids)

    def forward(self, source_ids: Tensor, target_ids: Tensor) -> Tensor:
        """source_ids i64 [B, L], target_ids i64 [B, S] -> logits [B, S, V]."""
        return self.project(self.features(source_ids, target_ids))


class CausalDecoder(_Transformer):
    """Decoder-only language model."""

    def __init__(self, config: NetworkConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.decoder = _Stack(config, config.decoder_layers, causal=True)

    def features(self, source_ids: Tensor | None, target_ids: Tensor) -> Tensor:
        """target_ids i64 [B, S] -> features [B, S, D]; there is no source."""
        return self.decoder(self.embed(target_ids), (self.cos, self.sin))

    def forward(self, ids: Tensor) -> Tensor:
        """ids i64 [B, S] -> logits [B, S, V]."""
        return self.project(self.features(None, ids))


def build_network(config: NetworkConfig, vocab_size: int) -> Seq2Seq | CausalDecoder:
    """A freshly initialised network of the configured family; seed torch first for a repeatable one."""
    if config.family == "seq2seq":
        return Seq2Seq(config, vocab_size)
    return CausalDecoder(config, vocab_size)


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
            network = build_network(config, vocab_size)
        print(f"{name:14} {config.family:8} vocabulary {vocab_size:5} parameters {count_parameters(network):>10,}")
    return OK


def parser() -> Parser:
    """It takes no options."""
    return Parser("model.network.families", __doc__)


if __name__ == "__main__":
    sys.exit(run(main))
