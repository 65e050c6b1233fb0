"""Weights as the graphs hold them: from a checkpoint's state dict, and back out of an fp32 bundle.

Packing does at export what would otherwise be a node in every step: query, key and value become one matrix, the
cross-attention keys and values of all decoder layers become one matrix for the encoder, matrices are stored [in, out],
and sqrt(d_model), by which embeddings are multiplied, moves into the table, with its inverse in the last norm's gain,
so that the tied output head stays the same tensor. Initializers carry the packed names, so a bundle alone is enough to
quantize it.

Legend: D width, F feed-forward, H query heads (of each block its own), K key/value heads, h head width, V vocabulary, N
decoder layers.
The packed names:

    embedding [V, D]        encoder.{i}.qkv [D, (H+2K)h]   .out [Hh, D]   .up [D, F]   .down [F, D]
    cross.kv [D, N*2Kh]     decoder.{i}.* the same plus    .cross_query [D, Hh]        .cross_out [Hh, D]
    with SSRU, decoder.{i}.ssru [D, 2D] and .forget_bias [D] instead of .qkv and .out
    norms: {encoder,decoder}.norm, .{i}.attention_norm .ssru_norm .ffn_norm .cross_norm [D]; .query_norm .key_norm
    .cross_query_norm .cross_key_norm [h]
"""

import itertools
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from model.config import NetworkConfig
from model.errors import ProjectError

Weights = dict[str, np.ndarray]
# Packed name of a layer's tensor <- the layer's tensors in the checkpoint, joined along their outputs.
_PACKED: dict[str, dict[str, tuple[str, ...]]] = {
    "attention": {
        "qkv": ("attention.query", "attention.kv"), "out": ("attention.out",), "attention_norm": ("attention_norm",),
        "query_norm": ("attention.query_norm",), "key_norm": ("attention.key_norm",),
    },
    "ssru": {"ssru": ("ssru.candidate", "ssru.forget"), "ssru_norm": ("ssru_norm",)},
    "cross": {
        "cross_query": ("cross.query",), "cross_out": ("cross.out",), "cross_norm": ("cross_norm",),
        "cross_query_norm": ("cross.query_norm",), "cross_key_norm": ("cross.key_norm",),
    },
    "ffn": {"up": ("ffn.up",), "down": ("ffn.down",), "ffn_norm": ("ffn_norm",)},
}  # fmt: skip


class GraphError(ProjectError, ValueError):
    """Serving graphs that cannot be made of what was given; the message lists every problem, one per line."""


def state_shapes(config: NetworkConfig, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a checkpoint (``model.safetensors``) for this network."""
    width = config.d_model
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (vocab_size, width)}
    for side, layers, blocks in _sides(config):
        for i, block in itertools.product(range(layers), blocks):
            shapes[f"{side}.layers.{i}.{block}_norm.weight"] = (width,)
            parts = _block_shapes(config, block, config.heads_of(f"{side}.{i}.{block}"))
            shapes |= {f"{side}.layers.{i}.{block}.{name}": shape for name, shape in parts.items()}
        shapes[f"{side}.norm.weight"] = (width,)
    return shapes


def _block_shapes(config: NetworkConfig, block: str, heads: int) -> dict[str, tuple[int, ...]]:
    """The tensors of one block of a layer; ``heads`` are those of its queries, where it is one of attention."""
    width, query, kv = config.d_model, heads * config.head_dim, 2 * config.kv_heads * config.head_dim
    if block == "ffn":
        return {"up.weight": (config.d_ff, width), "down.weight": (width, config.d_ff)}
    if block == "ssru":
        return {"candidate.weight": (width, width), "forget.weight": (width, width), "forget.bias": (width,)}
    norms = {"query_norm.weight": (config.head_dim,), "key_norm.weight": (config.head_dim,)}
    return {"query.weight": (query, width), "kv.weight": (kv, width), **norms, "out.weight": (width, query)}


def check_state(state: Weights, config: NetworkConfig, vocab_size: int) -> None:
    """Refuse a state dict that is not exactly this network's.

    Raises:
        GraphError: naming every missing, unexpected, misshapen or non-finite tensor.
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
        raise GraphError("the weights do not fit the network:\n" + "\n".join(sorted(problems)))


def pack(state: Weights, config: NetworkConfig, vocab_size: int) -> Weights:
    """Checkpoint tensors -> graph tensors (float32, names above)."""
    check_state(state, config, vocab_size)
    scale = np.float32(math.sqrt(config.d_model))
    packed = {"embedding": np.asarray(state["embedding.weight"], np.float32) * scale}

    def join(names: Iterable[str]) -> np.ndarray:
        """Tensors [out, in] or [out] as one: [in, all of their outs] or [out]."""
        return np.ascontiguousarray(np.concatenate([np.asarray(state[f"{n}.weight"], np.float32) for n in names]).T)

    for side, layers, blocks in _sides(config):
        for i, block in itertools.product(range(layers), blocks):
            for name, parts in _PACKED[block].items():
                packed[f"{side}.{i}.{name}"] = join(f"{side}.layers.{i}.{part}" for part in parts)
            if block == "ssru":
                packed[f"{side}.{i}.forget_bias"] = np.asarray(state[f"{side}.layers.{i}.ssru.forget.bias"], np.float32)
        packed[f"{side}.norm"] = join([f"{side}.norm"])
    packed["decoder.norm"] /= scale
    if config.family == "seq2seq":
        packed["cross.kv"] = join(f"decoder.layers.{i}.cross.kv" for i in range(config.decoder_layers))
    return packed


def _sides(config: NetworkConfig) -> list[tuple[str, int, list[str]]]:
    """Each side's name, number of layers, and the blocks of a layer in their order."""
    if config.family == "decoder":
        return [("decoder", config.decoder_layers, ["attention", "ffn"])]
    decoder = ("decoder", config.decoder_layers, [config.decoder_mixer, "cross", "ffn"])
    return [decoder, ("encoder", config.encoder_layers, ["attention", "ffn"])]


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
