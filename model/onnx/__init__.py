"""Serving graphs from weights: builder, quantization, parity with PyTorch. The builder needs no torch."""
