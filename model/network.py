"""The transformer of both families, encoder-decoder and decoder-only, with tied embeddings, and its layers.

Pre-norm RMSNorm, rotary multi-query attention with QK-norm, ReLU² feed-forward. Why these: QK-norm, ReLU²,
zero-initialised output projections and rotary positions each save training steps (modded-nanogpt, records 2-5); one
key/value head with the saved parameters moved to the feed-forward layer learns better at equal time and decodes faster
on a CPU. There are no biases but a recurrent decoder's (model/ssru.py), so every matrix is one ONNX MatMul.

    python -m model.network        # prints the presets and their parameter counts

Legend: B rows, S tokens, L source tokens, T keys (S in self-attention, L in cross-attention), D width, H query heads,
K key/value heads, h head width, V vocabulary.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.config import PRESETS, NetworkConfig, from_dict
from model.fused import attend_folded, linear_relu_squared, norm_of_heads, normalised, scaled
from model.options import OK, Parser, run
from model.ssru import SSRU
from model.tokenizer import Tokenizer

EMBEDDING_STD = 0.02
LONG = 96  # keys from which on a CPU's float32 attention is faster without ever holding all scores


def rotary_tables(positions: int, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each float32 [positions, head_dim / 2] (RoFormer, arXiv 2104.09864, half-split pairs)."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = torch.arange(positions, dtype=torch.float64)[:, None] * frequencies
    return angles.cos().float(), angles.sin().float()


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Scaled dot-product attention of query [B, S, H, h] over key and value [B, T, K, h] -> [B, S, H, h].

    ``mask`` is bool [B, 1, 1, T], true where attention is allowed.
    """
    long = query.dtype is torch.float32 and key.shape[1] >= LONG
    return (attend_fused if long or query.is_cuda else attend_folded)(query, key, value, mask, causal)


def attend_fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """As :func:`attend`, by PyTorch's kernels.

    Of those for GPUs flash attention knows shared heads and no masks, and the memory-efficient one masks and no shared
    heads: for both PyTorch would hold all scores. So with a mask heads are repeated, which costs nothing where there is
    one. A CPU has one kernel, for masks and no shared heads.
    """
    heads, kv_heads = query.shape[2], key.shape[2]
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    if mask is not None or not query.is_cuda:
        key, value = (
            part.expand(-1, heads, -1, -1) if kv_heads == 1 else part.repeat_interleave(heads // kv_heads, 1)
            for part in (key, value)
        )
    shared = key.shape[1] < heads
    y = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal, enable_gqa=shared)
    return y.transpose(1, 2)


class RMSNorm(nn.RMSNorm):
    """The norm over the last dimension, with a gain of its own (:mod:`model.fused`)."""

    def forward(self, x: Tensor) -> Tensor:
        """x [N, D] -> [N, D]."""
        normal, gain = self.before(x)
        return scaled(normal, gain).to(normal.dtype)

    def before(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x [N, D] for the matrices that multiply it next, and the gain that is left to them."""
        assert self.eps is not None
        return normalised(x, self.weight, self.eps)


class HeadNorm(nn.RMSNorm):
    """The norm of each head, with one gain for all."""

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """x [B, S, heads, h] -> [B, S, heads, h]; rotated where there are cosines and sines, each [S, 1, h / 2]."""
        assert self.eps is not None
        return norm_of_heads(x, self.weight, self.eps, rotary)


def linear(inputs: int, outputs: int, zero: bool = False) -> nn.Linear:
    """A matrix without bias; the projections that write to the residual stream start at zero."""
    layer = nn.Linear(inputs, outputs, bias=False)
    if zero:
        nn.init.zeros_(layer.weight)
    return layer


class Attention(nn.Module):
    """Multi-query (K=1) or grouped-query attention with per-head RMSNorm on queries and keys; H heads of queries."""

    def __init__(self, config: NetworkConfig, heads: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, config.kv_heads, config.head_dim
        self.query = linear(config.d_model, heads * config.head_dim)
        self.kv = linear(config.d_model, 2 * config.kv_heads * config.head_dim)
        self.query_norm = HeadNorm(config.head_dim, eps=config.norm_eps)
        self.key_norm = HeadNorm(config.head_dim, eps=config.norm_eps)
        self.out = linear(heads * config.head_dim, config.d_model, zero=True)

    def forward(
        self,
        x: Tensor,  # [B, S, D]
        gain: Tensor | None,  # [D], that x is still to be multiplied by
        memory: Tensor | None = None,  # [B, T, D]; None in self-attention, where it is x
        rotary: tuple[Tensor, Tensor] | None = None,  # each [S, 1, h / 2]
        mask: Tensor | None = None,  # bool [B, 1, 1, T], true where attention is allowed
        causal: bool = False,
    ) -> Tensor:
        if memory is None:  # one product where there are three
            joint = F.linear(x, scaled(torch.cat([self.query.weight, self.kv.weight]), gain))
            query, kv = joint.split([self.query.out_features, self.kv.out_features], dim=-1)
        else:
            query, kv = F.linear(x, scaled(self.query.weight, gain)), self.kv(memory)
        key, value = kv.unflatten(-1, (2, self.kv_heads, self.head_dim)).unbind(2)
        query = self.query_norm(query.unflatten(-1, (self.heads, self.head_dim)), rotary)
        key = self.key_norm(key, rotary)
        return self.out(attend(query, key, value, mask, causal).flatten(2))


class FeedForward(nn.Module):
    """down(relu(up(x))²), the ReLU² feed-forward of Primer (arXiv 2109.08668)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.up = linear(config.d_model, config.d_ff)
        self.down = linear(config.d_ff, config.d_model, zero=True)

    def forward(self, x: Tensor, gain: Tensor | None = None) -> Tensor:
        """x [N, D], still to be multiplied by a gain [D] where there is one -> [N, D]."""
        return self.down(linear_relu_squared(x, scaled(self.up.weight, gain)))


class Layer(nn.Module):
    """Self-attention, or the SSRU in its place, in a decoder of a source cross-attention too, and feed-forward.

    Each stands behind a norm and is added to the residual stream. ``name`` is the layer's, as ``encoder.0``.
    """

    def __init__(self, config: NetworkConfig, name: str, causal: bool, cross: bool = False) -> None:
        super().__init__()
        self.causal, self.recurrent = causal, cross and config.decoder_mixer == "ssru"
        if self.recurrent:
            self.ssru_norm = RMSNorm(config.d_model, eps=config.norm_eps)
            self.ssru = SSRU(config)
        else:
            self.attention_norm = RMSNorm(config.d_model, eps=config.norm_eps)
            self.attention = Attention(config, config.heads_of(f"{name}.attention"))
        if cross:
            self.cross_norm = RMSNorm(config.d_model, eps=config.norm_eps)
            self.cross = Attention(config, config.heads_of(f"{name}.cross"))
        self.ffn_norm = RMSNorm(config.d_model, eps=config.norm_eps)
        self.ffn = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,  # [B, S, D]
        rotary: tuple[Tensor, Tensor],  # each [S, 1, h / 2]
        mask: Tensor | None = None,  # bool [B, 1, 1, S]
        memory: Tensor | None = None,  # [B, L, D]: the encoded source
        memory_mask: Tensor | None = None,  # bool [B, 1, 1, L]
    ) -> Tensor:
        if self.recurrent:  # what lies in the padding on the right comes after all that counts
            x = x + self.dropout(self.ssru(*self.ssru_norm.before(x)))
        else:
            x = x + self.dropout(self.attention(*self.attention_norm.before(x), None, rotary, mask, self.causal))
        if memory is not None:
            x = x + self.dropout(self.cross(*self.cross_norm.before(x), memory, None, memory_mask))
        return x + self.dropout(self.ffn(*self.ffn_norm.before(x)))


class _Stack(nn.Module):
    """The layers of one side and their final norm, named as in the checkpoint.

    Where it is to ``recompute``, a layer keeps nothing but its input for the gradients, and what it drew for dropout is
    drawn again: gradient checkpointing (arXiv 1604.06174), bit for bit the same gradients.
    """

    recompute = False

    def __init__(self, config: NetworkConfig, side: str, count: int, causal: bool, cross: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config, f"{side}.{i}", causal, cross) for i in range(count))
        self.norm = RMSNorm(config.d_model, eps=config.norm_eps)

    def forward(self, x: Tensor, *inputs: Any) -> Tensor:
        """x [B, S, D] -> [B, S, D]; the inputs are those of every layer."""
        for layer in self.layers:
            again = self.recompute and torch.is_grad_enabled()
            x = checkpoint(layer, x, *inputs, use_reentrant=False) if again else layer(x, *inputs)
        return self.norm(x)


class Transformer(nn.Module):
    """A freshly initialised network of either family; seed torch first for a repeatable one.

    ``seq2seq`` has a deep encoder, read once, and a shallow decoder, run for every token; ``decoder`` has that alone.
    """

    cos: Tensor
    sin: Tensor

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
        self.encoder = _Stack(config, "encoder", config.encoder_layers, causal=False) if seq2seq else None
        self.decoder = _Stack(config, "decoder", config.decoder_layers, causal=True, cross=seq2seq)

    @classmethod
    def from_weights(cls, config: NetworkConfig, vocab_size: int, weights: Mapping[str, np.ndarray]) -> Self:
        """A network with the weights of a checkpoint, f32 by their names in its state, in eval mode."""
        network = cls(config, vocab_size).eval()
        network.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
        return network

    def recompute_activations(self) -> None:
        """Have the layers keep less for their gradients, from now on; gradients stay what they are."""
        for stack in filter(None, (self.encoder, self.decoder)):
            stack.recompute = True

    def embed(self, ids: Tensor) -> Tensor:
        """ids i64 [B, S] -> [B, S, D], scaled to unit variance."""
        if ids.shape[1] > self.config.max_positions:
            raise ValueError(f"a row of {ids.shape[1]} tokens is longer than max_positions={self.config.max_positions}")
        return self.embedding(ids) * math.sqrt(self.config.d_model)

    def features(self, source_ids: Tensor | None, ids: Tensor) -> Tensor:
        """source_ids i64 [B, L], None without an encoder, and ids i64 [B, S] -> features [B, S, D] for the logits."""
        if self.encoder is None:
            return self.decode(ids, None, None)
        assert source_ids is not None, "an encoder-decoder network needs a source"
        return self.decode(ids, *self.encode(source_ids))

    def encode(self, source_ids: Tensor) -> tuple[Tensor, Tensor]:
        """source_ids i64 [B, L] -> what a decoder reads [B, L, D], and which of it is real, bool [B, 1, 1, L]."""
        assert self.encoder is not None
        mask = (source_ids != Tokenizer.pad_id)[:, None, None, :]
        return self.encoder(self.embed(source_ids), self._rotary(source_ids), mask), mask

    def decode(self, ids: Tensor, memory: Tensor | None, mask: Tensor | None) -> Tensor:
        """ids i64 [B, S] and what :meth:`encode` gives, None without an encoder -> features [B, S, D]."""
        return self.decoder(self.embed(ids), self._rotary(ids), None, memory, mask)

    def _rotary(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the positions of ids [B, S], each [S, 1, h/2]."""
        return self.cos[: ids.shape[1], None], self.sin[: ids.shape[1], None]

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
    return Parser("model.network", __doc__)


if __name__ == "__main__":
    sys.exit(run(main))
