"""Weights as the graphs hold them: from a checkpoint's state dict, and back out of an fp32 bundle.

Packing does at export what would otherwise be a node in every step: query, key and value become one matrix, the
cross-attention keys and values of all decoder layers become one matrix for the encoder, matrices are stored [in, out],
and sqrt(d_model), by which embeddings are multiplied, moves into the table, with its inverse in the last norm's gain,
so that the tied output head stays the same tensor. Initializers carry the packed names, so a bundle alone is enough to
quantize it.

Packed names (D width, F feed-forward, H heads, K key/value heads, h head width, V vocabulary, N decoder layers):

    embedding [V, D]        encoder.{i}.qkv [D, (H+2K)h]   .out [Hh, D]   .up [D, F]   .down [F, D]
    cross.kv [D, N*2Kh]     decoder.{i}.* the same plus    .cross_query [D, Hh]        .cross_out [Hh, D]
    norms: {encoder,decoder}.norm, .{i}.attention_norm .ffn_norm .cross_norm [D]; .query_norm .key_norm
    .cross_query_norm .cross_key_norm [h]
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from model.config import NetworkConfig

Weights = dict[str, np.ndarray]


class WeightsError(ValueError):
    """Weights that do not fit the network; the message lists every problem, one per line."""


def state_shapes(config: NetworkConfig, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a checkpoint (``model.safetensors``) for this network."""
    width, query, kv = config.d_model, config.heads * config.head_dim, 2 * config.kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (vocab_size, width)}

    def attention(prefix: str, norm: str) -> None:
        shapes[f"{prefix}_norm.weight".replace("attention_norm", norm)] = (width,)
        shapes[f"{prefix}.query.weight"] = (query, width)
        shapes[f"{prefix}.kv.weight"] = (kv, width)
        shapes[f"{prefix}.query_norm.weight"] = (config.head_dim,)
        shapes[f"{prefix}.key_norm.weight"] = (config.head_dim,)
        shapes[f"{prefix}.out.weight"] = (width, query)

    sides = {"decoder": config.decoder_layers}
    if config.family == "seq2seq":
        sides["encoder"] = config.encoder_layers
    for side, layers in sides.items():
        for i in range(layers):
            layer = f"{side}.layers.{i}"
            attention(f"{layer}.attention", "attention_norm")
            if side == "decoder" and config.family == "seq2seq":
                attention(f"{layer}.cross", "cross_norm")
            shapes[f"{layer}.ffn_norm.weight"] = (width,)
            shapes[f"{layer}.ffn.up.weight"] = (config.d_ff, width)
            shapes[f"{layer}.ffn.down.weight"] = (width, config.d_ff)
        shapes[f"{side}.norm.weight"] = (width,)
    return shapes


def check_state(state: Weights, config: NetworkConfig, vocab_size: int) -> None:
    """Refuse a state dict that is not exactly this network's.

    Raises:
        WeightsError: naming every missing, unexpected, misshapen or non-finite tensor.
    """
    shapes = state_shapes(config, vocab_size)
    problems = [f"{name}: missing" for name in shapes if name not in state]
    problems += [f"{name}: not part of this network" for name in state if name not in shapes]
    for name in shapes.keys() & state.keys():
        if state[name].shape != shapes[name]:
            problems.append(f"{name}: shape {state[name].shape}, expected {shapes[name]}")
        elif not np.isfinite(state[name]).all():
            problems.append(f"{name}: holds values that are not finite")
    if problems:
        raise WeightsError("the weights do not fit the network:\n" + "\n".join(sorted(problems)))


def random_weights(config: NetworkConfig, vocab_size: int, seed: int = 0) -> Weights:
    """A state dict of random float32 weights, every projection non-zero: for tests and benchmarks without training."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, shape in state_shapes(config, vocab_size).items():
        if len(shape) == 2:
            values: np.ndarray = rng.standard_normal(shape) / math.sqrt(shape[1])
        else:
            values = rng.uniform(0.5, 1.5, shape)
        state[name] = values.astype(np.float32)
    return state


def pack(state: Weights, config: NetworkConfig, vocab_size: int) -> Weights:
    """Checkpoint tensors -> graph tensors (float32, names above)."""
    check_state(state, config, vocab_size)
    state = {name: np.asarray(value, np.float32) for name, value in state.items()}
    scale = np.float32(math.sqrt(config.d_model))
    packed = {"embedding": state["embedding.weight"] * scale}

    def layer(source: str, target: str) -> None:
        qkv = [state[f"{source}.attention.query.weight"], state[f"{source}.attention.kv.weight"]]
        packed[f"{target}.qkv"] = np.concatenate(qkv).T
        packed[f"{target}.out"] = state[f"{source}.attention.out.weight"].T
        packed[f"{target}.up"] = state[f"{source}.ffn.up.weight"].T
        packed[f"{target}.down"] = state[f"{source}.ffn.down.weight"].T
        packed[f"{target}.query_norm"] = state[f"{source}.attention.query_norm.weight"]
        packed[f"{target}.key_norm"] = state[f"{source}.attention.key_norm.weight"]
        packed[f"{target}.attention_norm"] = state[f"{source}.attention_norm.weight"]
        packed[f"{target}.ffn_norm"] = state[f"{source}.ffn_norm.weight"]

    for i in range(config.decoder_layers):
        layer(f"decoder.layers.{i}", f"decoder.{i}")
    packed["decoder.norm"] = (state["decoder.norm.weight"] / scale).astype(np.float32)
    if config.family == "seq2seq":
        for i in range(config.encoder_layers):
            layer(f"encoder.layers.{i}", f"encoder.{i}")
        packed["encoder.norm"] = state["encoder.norm.weight"]
        for i in range(config.decoder_layers):
            cross = f"decoder.layers.{i}.cross"
            packed[f"decoder.{i}.cross_query"] = state[f"{cross}.query.weight"].T
            packed[f"decoder.{i}.cross_out"] = state[f"{cross}.out.weight"].T
            packed[f"decoder.{i}.cross_norm"] = state[f"{cross}_norm.weight"]
            packed[f"decoder.{i}.cross_query_norm"] = state[f"{cross}.query_norm.weight"]
            packed[f"decoder.{i}.cross_key_norm"] = state[f"{cross}.key_norm.weight"]
        kv = [state[f"decoder.layers.{i}.cross.kv.weight"] for i in range(config.decoder_layers)]
        packed["cross.kv"] = np.concatenate(kv).T
    return {name: np.ascontiguousarray(value) for name, value in packed.items()}


def read_packed(graphs: list[Path]) -> Weights:
    """The packed weights out of an fp32 bundle's graph files."""
    import onnx
    from onnx import numpy_helper

    packed: Weights = {}
    for path in graphs:
        for tensor in onnx.load(str(path)).graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT and not tensor.name.startswith("_"):
                packed[tensor.name] = numpy_helper.to_array(tensor)
    return packed
