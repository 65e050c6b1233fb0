"""The two families: :class:`Seq2Seq` (encoder-decoder) and :class:`CausalDecoder`, with tied embeddings.

    python -m model.network.families        # prints the presets and their parameter counts

Shapes: B batch, S source, T target, D d_model, V vocabulary.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import PRESETS, NetworkConfig, from_dict
from model.network.layers import DecoderLayer, EncoderLayer, rotary_tables
from model.tokenizer import Tokenizer

EMBEDDING_STD = 0.02


class _Stack(nn.Module):
    """The layers of one side and their final norm, named as in the checkpoint."""

    def __init__(self, layers: list[nn.Module], config: NetworkConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = nn.RMSNorm(config.d_model, eps=config.norm_eps)


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
        """ids i64 [B, T] -> [B, T, D], scaled to unit variance."""
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
        self.encoder = _Stack([EncoderLayer(config) for _ in range(config.encoder_layers)], config)
        self.decoder = _Stack([DecoderLayer(config, cross=True) for _ in range(config.decoder_layers)], config)

    def encode(self, source_ids: Tensor) -> tuple[Tensor, Tensor]:
        """source_ids i64 [B, S] -> memory [B, S, D] and its mask, bool [B, 1, 1, S]."""
        mask = (source_ids != Tokenizer.pad_id)[:, None, None, :]
        x = self.embed(source_ids)
        for layer in self.encoder.layers:
            x = layer(x, (self.cos, self.sin), mask)
        return self.encoder.norm(x), mask

    def decode(self, memory: Tensor, mask: Tensor, target_ids: Tensor) -> Tensor:
        """memory [B, S, D], target_ids i64 [B, T] -> features [B, T, D]."""
        x = self.embed(target_ids)
        for layer in self.decoder.layers:
            x = layer(x, (self.cos, self.sin), memory, mask)
        return self.decoder.norm(x)

    def features(self, source_ids: Tensor | None, target_ids: Tensor) -> Tensor:
        """source_ids i64 [B, S], target_ids i64 [B, T] -> features [B, T, D] that :meth:`project` turns to logits."""
        assert source_ids is not None, "an encoder-decoder network needs a source"
        return self.decode(*self.encode(source_ids), target_ids)

    def forward(self, source_ids: Tensor, target_ids: Tensor) -> Tensor:
        """source_ids i64 [B, S], target_ids i64 [B, T] -> logits [B, T, V]."""
        return self.project(self.features(source_ids, target_ids))


class CausalDecoder(_Transformer):
    """Decoder-only language model."""

    def __init__(self, config: NetworkConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.decoder = _Stack([DecoderLayer(config, cross=False) for _ in range(config.decoder_layers)], config)

    def features(self, source_ids: Tensor | None, target_ids: Tensor) -> Tensor:
        """target_ids i64 [B, T] -> features [B, T, D]; there is no source."""
        x = self.embed(target_ids)
        for layer in self.decoder.layers:
            x = layer(x, (self.cos, self.sin))
        return self.decoder.norm(x)

    def forward(self, ids: Tensor) -> Tensor:
        """ids i64 [B, T] -> logits [B, T, V]."""
        return self.project(self.features(None, ids))


def build_network(config: NetworkConfig, vocab_size: int) -> Seq2Seq | CausalDecoder:
    """A freshly initialised network of the configured family; seed torch first for a repeatable one."""
    if config.family == "seq2seq":
        return Seq2Seq(config, vocab_size)
    return CausalDecoder(config, vocab_size)


def count_parameters(network: nn.Module) -> int:
    """Trainable parameters; the tied embedding counts once."""
    return sum(p.numel() for p in network.parameters())


def main() -> None:
    for name in PRESETS:
        config = from_dict(NetworkConfig, {"preset": name})
        vocab_size = 8000 if config.family == "seq2seq" else 512
        with torch.device("meta"):
            network = build_network(config, vocab_size)
        print(f"{name:14} {config.family:8} vocabulary {vocab_size:5} parameters {count_parameters(network):>10,}")


if __name__ == "__main__":
    main()
