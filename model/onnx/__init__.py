"""Serving graphs from weights: builder, quantization. The builder needs no torch."""
