"""What one would write with PyTorch's own parts: the networks that training is measured beside.

Multi-head attention and a feed-forward layer of four times the width, as these are usually made; depth, width and
vocabulary are those of the network beside them. Legend as in model/network.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import NetworkConfig

HEAD_WIDTH = 32  # 8 heads at width 256, 4 at width 128


class EncoderDecoder(nn.Module):
    """``torch.nn.Transformer``, pre-norm, with sinusoidal positions and a tied vocabulary."""

    positions: Tensor

    def __init__(self, config: NetworkConfig, vocab_size: int) -> None:
        super().__init__()
        width = config.d_model
        self.embedding = nn.Embedding(vocab_size, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.layers = nn.Transformer(
            width, width // HEAD_WIDTH, config.encoder_layers, config.decoder_layers, 4 * width, dropout=0.0,
            batch_first=True, norm_first=True,
        )  # fmt: skip
        places = torch.arange(config.max_positions)[:, None]
        angles = places * 10000 ** (-torch.arange(0, width, 2) / width)
        self.register_buffer("positions", torch.cat([angles.sin(), angles.cos()], dim=-1))

    def embed(self, ids: Tensor) -> Tensor:
        """ids i64 [B, S] -> [B, S, D]."""
        return self.embedding(ids) * self.embedding.embedding_dim**0.5 + self.positions[: ids.shape[1]]

    def forward(self, source: Tensor, inputs: Tensor) -> Tensor:
        """source i64 [B, L], 0 where padded, and inputs i64 [B, S] -> logits [B, S, V]."""
        padding = source == 0
        future = torch.ones(inputs.shape[1], inputs.shape[1], dtype=torch.bool).triu(1)
        x = self.layers(
            self.embed(source), self.embed(inputs), tgt_mask=future, src_key_padding_mask=padding,
            memory_key_padding_mask=padding, tgt_is_causal=True,
        )  # fmt: skip
        return F.linear(x, self.embedding.weight)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD_WIDTH
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.heads, HEAD_WIDTH)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


class Decoder(nn.Module):
    """In nanoGPT's manner, by its description: LayerNorm, GELU, learned positions, a tied vocabulary."""

    def __init__(self, config: NetworkConfig, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.d_model)
        self.positions = nn.Embedding(config.max_positions, config.d_model)
        self.blocks = nn.ModuleList(_Block(config.d_model) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.d_model)
        for table in (self.embedding, self.positions):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, source: None, inputs: Tensor) -> Tensor:
        """inputs i64 [B, S] -> logits [B, S, V]."""
        x = self.embedding(inputs) + self.positions.weight[: inputs.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embedding.weight)
