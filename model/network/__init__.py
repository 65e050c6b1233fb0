"""The transformer, in PyTorch: one set of layers, two families (encoder-decoder and decoder-only)."""

from model.network.transformer import Transformer

__all__ = ["Transformer"]
