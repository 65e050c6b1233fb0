"""The serving graphs: an encoder, where the family has one, and one decoder for prefill and decode.

The encoder gives the cross-attention keys and values of every decoder layer, ready to use (projected by one matrix
multiplication for all layers, keys normed), so a decode step never touches the source again. Its self-attention is
GroupQueryAttention with ``causal=0``: it applies the rotary positions and masks by length, and a row padded to the
right gives exactly what it gives alone.

The decoder's ``past_key_i`` and ``present_key_i`` are meant to be bound to one buffer: GroupQueryAttention then appends
in place, each row at its own position (``cache_lengths``). Cross-attention reads the encoder's keys and values where
they lie; queries of all heads that share a key head are stacked as rows, so multi-query attention is one small matrix
product. A decoder with SSRU (``config.decoder_mixer``) remembers its text in ``past_state_i`` and ``present_state_i``
instead, and takes one token a call.

Legend: B rows, S tokens, T keys (the cache's capacity), L source tokens, H query heads, K key/value heads, h head
width, D width, V vocabulary.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto
from onnx.helper import make_tensor_value_info as info

from model.config import NetworkConfig
from model.onnx.graph import Calibration, Graph, Precision
from model.onnx.weights import Weights

Block = Callable[[str, int], str]  # of a layer's normed input [B, S, D]: what is added to the residual


def build_graphs(
    weights: Weights,
    config: NetworkConfig,
    precision: Precision = "fp32",
    calibration: Calibration | None = None,
    activation_scale: Literal["row", "static"] = "row",
) -> dict[str, bytes]:
    """Packed weights -> the serialized graphs by role, ``decoder``, and ``encoder`` for seq2seq.

    The same weights give the same bytes.
    """
    settings = (weights, config, precision, calibration, activation_scale)
    models = {"encoder": build_encoder(Graph(*settings))} if config.family == "seq2seq" else {}
    models["decoder"] = build_decoder(Graph(*settings, tied_head=True))
    return {role: model.SerializeToString(deterministic=True) for role, model in models.items()}


def build_encoder(graph: Graph) -> onnx.ModelProto:
    """``source_ids`` i64 [B, L], ``source_lengths`` i64 [B] -> ``cross_key_i``, ``cross_value_i`` [B, K, L, h]."""
    x = graph.embed("source_ids")
    lengths = graph.node("Cast", ["source_lengths"], to=TensorProto.INT32)
    last = graph.node("Sub", [lengths, graph.constant("_one", 1, np.int32)])
    length = graph.node("Shape", ["source_ids"], start=1, end=2)
    length = graph.node("Cast", [length], to=TensorProto.INT32)
    length = graph.node("Reshape", [length, graph.constant("_scalar", np.zeros(0), np.int64)])
    cos, sin = graph.rotary_tables()

    def attention(normed: str, i: int) -> str:
        query, key, value = graph.query_key_value(normed, f"encoder.{i}")
        inputs = [query, key, value, "", "", last, length, cos, sin]
        return graph.linear(graph.attend(f"encoder.{i}", inputs, 3, causal=0), f"encoder.{i}.out")

    encoded = _layers(graph, x, "encoder", graph.config.encoder_layers, "attention", attention)
    inputs = [info("source_ids", TensorProto.INT64, ["B", "L"]), info("source_lengths", TensorProto.INT64, ["B"])]
    return graph.model("encoder", inputs, _cross_keys_and_values(graph, encoded))


def build_decoder(graph: Graph) -> onnx.ModelProto:
    """One call of the decoder, with self-attention; :func:`_recurrent_decoder` is the other one.

    In: ``token_ids`` i64 [B, S]; ``cache_lengths`` i32 [B], tokens in the cache after this call minus one;
    ``total_length`` i32 [], the largest of them plus one; ``last_index`` i64 [B], where in S each row's last real token
    is; ``past_key_i``, ``past_value_i`` [B, K, T, h]; seq2seq also ``source_lengths`` i64 [B] and ``cross_key_i``,
    ``cross_value_i`` [B, K, L, h], which must be finite everywhere.
    Out: ``logits`` f32 [B, V] after that token; ``present_key_i``, ``present_value_i``.

    S above 1 is for a fresh prefill. A prompt padded to the right gives, bit for bit, what it gives alone, provided
    that both calls have an even S (``total_length`` is S then): attention works in blocks of queries, and a last block
    of one query sums in another order.
    """
    config, cross = graph.config, graph.config.family == "seq2seq"
    if config.decoder_mixer == "ssru":
        return _recurrent_decoder(graph)
    inputs = [
        info("token_ids", TensorProto.INT64, ["B", "S"]),
        info("cache_lengths", TensorProto.INT32, ["B"]),
        info("total_length", TensorProto.INT32, []),
        info("last_index", TensorProto.INT64, ["B"]),
    ]
    if cross:
        inputs.append(info("source_lengths", TensorProto.INT64, ["B"]))
    outputs = [info("logits", TensorProto.FLOAT, ["B", graph.weights["embedding"].shape[0]])]
    cache_type = TensorProto.INT8 if graph.precision == "int8" else graph.float_type
    for name in (f"{part}_{i}" for i in range(config.decoder_layers) for part in ("key", "value")):
        shape = ("B", config.kv_heads, "T", config.head_dim)
        inputs.append(info(f"past_{name}", cache_type, shape))
        outputs.append(info(f"present_{name}", cache_type, shape))
        if cross:
            inputs.append(_cross_info(graph, name))
    blocks = partial(_self_attention, graph), partial(_cross_attention, graph) if cross else None
    normed = _layers(graph, graph.embed("token_ids"), "decoder", config.decoder_layers, "attention", *blocks)
    index = graph.node("Unsqueeze", ["last_index", graph.constant("_axis_1", [1], np.int64)])
    graph.head(graph.node("GatherND", [normed, index], batch_dims=1), index)
    graph.matmul_inputs["embedding"] = normed  # calibration wants every position, not the last alone
    return graph.model("decoder", inputs, outputs)


def _recurrent_decoder(graph: Graph) -> onnx.ModelProto:
    """One token of a decoder with SSRU: a text is read token by token, as it is served; there is no prefill.

    In: ``token_ids`` i64 [B, 1]; ``source_lengths`` i64 [B]; ``past_state_i`` f32 [B, 1, D], zeros where a text begins;
    ``cross_key_i``, ``cross_value_i`` as in :func:`build_decoder`.
    Out: ``logits`` f32 [B, V] after that token; ``present_state_i``. Positions are not counted, so none is the last.
    """
    config = graph.config
    inputs = [info("token_ids", TensorProto.INT64, ["B", 1]), info("source_lengths", TensorProto.INT64, ["B"])]
    outputs = [info("logits", TensorProto.FLOAT, ["B", graph.weights["embedding"].shape[0]])]
    for i in range(config.decoder_layers):
        inputs.append(info(f"past_state_{i}", TensorProto.FLOAT, ("B", 1, config.d_model)))
        outputs.append(info(f"present_state_{i}", TensorProto.FLOAT, ("B", 1, config.d_model)))
        inputs += [_cross_info(graph, f"{part}_{i}") for part in ("key", "value")]

    def recurrent(normed: str, i: int) -> str:
        return graph.ssru(normed, f"decoder.{i}", f"past_state_{i}", f"present_state_{i}")

    x, cross = graph.embed("token_ids"), partial(_cross_attention, graph)
    normed = _layers(graph, x, "decoder", config.decoder_layers, "ssru", recurrent, cross)
    graph.head(graph.node("Squeeze", [normed, graph.constant("_axis_1", [1], np.int64)]), "token_ids")
    return graph.model("decoder", inputs, outputs)


def _layers(graph: Graph, x: str, side: str, count: int, kind: str, mix: Block, cross: Block | None = None) -> str:
    """The layers of one side and its last norm: every sub-layer behind a norm, and added to what came before.

    ``kind`` names the norm of the first one, ``mix``, in which the tokens of one text see each other.
    """
    normed, residual = graph.rms_norm(x, f"{side}.0.{kind}_norm"), x
    for i in range(count):
        layer = f"{side}.{i}"
        update = mix(normed, i)
        if cross is not None:
            normed, residual = graph.residual_norm(update, residual, f"{layer}.cross_norm")
            update = cross(normed, i)
        normed, residual = graph.residual_norm(update, residual, f"{layer}.ffn_norm")
        following = f"{side}.{i + 1}.{kind}_norm" if i + 1 < count else f"{side}.norm"
        normed, residual = graph.residual_norm(graph.feed_forward(normed, layer), residual, following)
    return normed


def _self_attention(graph: Graph, x: str, i: int) -> str:
    query, key, value = graph.query_key_value(x, f"decoder.{i}")
    inputs = [query, key, value, f"past_key_{i}", f"past_value_{i}", "cache_lengths", "total_length"]
    inputs += graph.rotary_tables()
    attributes: dict[str, Any] = {}
    if graph.precision == "int8":
        assert graph.calibration is not None
        bounds = {"key": graph.calibration.keys[i], "value": graph.calibration.values[i]}
        steps = [
            graph.constant(f"_step.{part}_{i}", [max(bound, 1e-8) / 127], np.float32) for part, bound in bounds.items()
        ]
        inputs += ["", "", "", *steps]
        attributes = {"k_quant_type": "PER_TENSOR", "v_quant_type": "PER_TENSOR", "kv_cache_bit_width": 8}
    outputs = [f"attended_{i}", f"present_key_{i}", f"present_value_{i}"]
    return graph.linear(graph.attend(f"decoder.{i}", inputs, outputs, **attributes), f"decoder.{i}.out")


def _cross_attention(graph: Graph, x: str, i: int) -> str:
    """Queries [B, S, H*h] as [B, K, S*(H/K), h]: every query row is independent, as nothing is causal here."""
    config = graph.config
    query, _ = graph.unscaled_linear(x, f"decoder.{i}.cross_query")
    kv_heads, head_dim, heads = config.kv_heads, config.head_dim, config.heads_of(f"decoder.{i}.cross")
    group = heads // kv_heads
    rows = graph.constant("_query_rows", [0, kv_heads, -1, head_dim], np.int64)
    joined = graph.constant(graph.by_heads("_query_joined", heads), [0, -1, heads * head_dim], np.int64)
    if kv_heads > 1:
        grouped = graph.constant(graph.by_heads("_query_groups", heads), [0, -1, kv_heads, group * head_dim], np.int64)
        query = graph.node("Transpose", [graph.node("Reshape", [query, grouped])], perm=[0, 2, 1, 3])
    query = graph.rms_norm(graph.node("Reshape", [query, rows]), f"decoder.{i}.cross_query_norm")
    if group == 1:  # a single query row takes a kernel whose sum depends on the padding; two rows do not
        query = graph.node("Concat", [query, query], axis=2)
    inputs = [query, f"cross_key_{i}", f"cross_value_{i}", "", "", "", "source_lengths"]
    attended = graph.node("Attention", inputs, scale=head_dim**-0.5)
    if group == 1:
        attended = graph.node("Split", [attended], 2, axis=2, num_outputs=2)[0]
    if kv_heads > 1:
        grouped = graph.constant(
            graph.by_heads("_attended_groups", heads), [0, kv_heads, -1, group * head_dim], np.int64
        )
        attended = graph.node("Transpose", [graph.node("Reshape", [attended, grouped])], perm=[0, 2, 1, 3])
    return graph.linear(graph.node("Reshape", [attended, joined]), f"decoder.{i}.cross_out")


def _cross_info(graph: Graph, name: str) -> onnx.ValueInfoProto:
    return info(f"cross_{name}", graph.float_type, ("B", graph.config.kv_heads, "L", graph.config.head_dim))


def _cross_keys_and_values(graph: Graph, encoded: str) -> list[onnx.ValueInfoProto]:
    """The encoder's outputs, from what it says of the source [B, L, D]."""
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
        for name, tensor in ((f"key_{i}", key), (f"value_{i}", value)):
            graph.node("Transpose", [tensor], [f"cross_{name}"], perm=[0, 2, 1, 3])
            outputs.append(_cross_info(graph, name))
    return outputs
