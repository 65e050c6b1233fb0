"""The encoder's graph: source tokens in, the cross-attention keys and values of every decoder layer out.

Keys and values leave the encoder ready to use (projected by one matrix multiplication for all layers, keys normed),
so a decode step never touches the source again. Self-attention is GroupQueryAttention with ``causal=0``: it applies the
rotary positions and masks by length, and a row padded to the right gives exactly what it gives alone.

Legend: B rows, L source tokens, K key/value heads, h head width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from model.onnx.graph import Graph


def build_encoder(graph: Graph) -> onnx.ModelProto:
    """``source_ids`` i64 [B, L], ``source_lengths`` i64 [B] -> ``cross_key_i``, ``cross_value_i`` [B, K, L, h]."""
    config = graph.config
    x = graph.embed("source_ids")
    lengths = graph.node("Cast", ["source_lengths"], to=TensorProto.INT32)
    last = graph.node("Sub", [lengths, graph.constant("_one", 1, np.int32)])
    length = graph.node("Shape", ["source_ids"], start=1, end=2)
    length = graph.node("Cast", [length], to=TensorProto.INT32)
    length = graph.node("Reshape", [length, graph.constant("_scalar", np.zeros(0), np.int64)])
    cos, sin = graph.rotary_tables()
    normed, residual = graph.rms_norm(x, "encoder.0.attention_norm"), x
    for i in range(config.encoder_layers):
        layer = f"encoder.{i}"
        query, key, value = graph.query_key_value(normed, layer)
        attended = graph.attend([query, key, value, "", "", last, length, cos, sin], 3, causal=0)
        normed, residual = graph.residual_norm(graph.linear(attended, f"{layer}.out"), residual, f"{layer}.ffn_norm")
        following = f"encoder.{i + 1}.attention_norm" if i + 1 < config.encoder_layers else "encoder.norm"
        normed, residual = graph.residual_norm(graph.feed_forward(normed, layer), residual, following)
    inputs = [
        helper.make_tensor_value_info("source_ids", TensorProto.INT64, ["B", "L"]),
        helper.make_tensor_value_info("source_lengths", TensorProto.INT64, ["B"]),
    ]
    return graph.model("encoder", inputs, _cross_keys_and_values(graph, normed))


def _cross_keys_and_values(graph: Graph, encoded: str) -> list[Any]:
    config = graph.config
    projected = graph.linear(encoded, "cross.kv")
    count = 2 * config.decoder_layers
    parts = graph.node("Split", [projected], count, axis=-1, num_outputs=count)
    heads = graph.constant("_split_kv_heads", [0, 0, config.kv_heads, config.head_dim], np.int64)
    outputs = []
    for i in range(config.decoder_layers):
        key = graph.node("Reshape", [parts[2 * i], heads])
        key = graph.rms_norm(key, f"decoder.{i}.cross_key_norm")
        value = graph.node("Reshape", [parts[2 * i + 1], heads])
        for name, tensor in ((f"cross_key_{i}", key), (f"cross_value_{i}", value)):
            graph.node("Transpose", [tensor], [name], perm=[0, 2, 1, 3])
            shape = ("B", config.kv_heads, "L", config.head_dim)
            outputs.append(helper.make_tensor_value_info(name, graph.float_type, shape))
    return outputs
