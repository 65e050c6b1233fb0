"""The transformer, in PyTorch: one set of layers, two families (encoder-decoder and decoder-only)."""

from model.network.families import CausalDecoder, Seq2Seq, build_network

__all__ = ["CausalDecoder", "Seq2Seq", "build_network"]
