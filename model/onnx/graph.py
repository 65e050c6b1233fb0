"""The building blocks of the serving graphs, written node by node, in fp32, fp16 or int8.

Handwritten because the graph IS the serving design: one decoder graph for prefill and decode, a KV cache updated in
place, per-row positions, scales moved to where they cost least. An exporter gives none of that, and needs torch.

Int8 is integer matrix multiplication (``MatMulIntegerToFloat``) of uint8 activations by int8 weights, one scale per
matrix: a scale per column costs a product of one row up to a third of its time (256 x 1264: 6.7 us instead of 4.6), and
brings the distribution of the trained ``small`` model's next token only 0.0006 nats nearer to fp32's. The activations'
scale never depends on the batch, so a request's result does not depend on its neighbours: either one scale per row
computed in the graph ("row"), or one per tensor from calibration ("static").
Even then the ReLU^2 activations keep a scale per row: they differ by an order of magnitude from token to token, and on
a briefly trained network a common scale for them alone added four times the divergence from fp32 that all the other
common scales add together, to save 2 % of a step.
Activations are unsigned with zero point 128: signed ones fall off ONNX Runtime's fast path (25-47 times slower).

Legend: B rows, S tokens, D width, H query heads, K key/value heads, h head width, V vocabulary.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model.config import NetworkConfig
from model.onnx.weights import Weights

Precision = Literal["fp32", "fp16", "int8"]
MICROSOFT = "com.microsoft"
OPSET = 24  # Attention-24 masks a padded source by its length alone
IR_VERSION = 11
FLOAT_TYPES = {"fp32": (TensorProto.FLOAT, np.float32), "fp16": (TensorProto.FLOAT16, np.float16)}


@dataclass(frozen=True)
class Calibration:
    """What int8 needs to know about real activations: absolute bounds by tensor, in the tensor's own unit.

    ``activations`` bounds the input of each matrix multiplication (by the matrix's name; used by static scales);
    ``keys`` and ``values`` bound the decoder's self-attention cache, by layer; empty where it is recurrent.
    """

    keys: list[float]
    values: list[float]
    activations: dict[str, float] = field(default_factory=dict)


@dataclass
class Graph:
    """Nodes and initializers under construction, with the layers that both networks are made of.

    Attributes:
        matmul_inputs: name of the tensor that each matrix is multiplied with, by the matrix's, for calibration.
    """

    weights: Weights
    config: NetworkConfig
    precision: Precision = "fp32"
    calibration: Calibration | None = None
    activation_scale: Literal["row", "static"] = "row"
    tied_head: bool = False
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)
    matmul_inputs: dict[str, str] = field(default_factory=dict)
    _zero_points: str = ""

    def __post_init__(self) -> None:
        if self.precision == "int8" and self.calibration is None:
            raise ValueError("an int8 graph needs a calibration: model.onnx.calibrate measures one on real text")
        self.float_type, self.float_dtype = FLOAT_TYPES["fp16" if self.precision == "fp16" else "fp32"]

    # -- primitives ---------------------------------------------------------------------------------------------

    def constant(self, name: str, values: Any, dtype: Any = None) -> str:
        """An initializer, stored once however often it is asked for. A leading ``_`` marks what is not a weight."""
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.asarray(values, dtype, order="C"), name)
        return name

    def weight(self, name: str) -> str:
        return self.constant(name, self.weights[name], self.float_dtype)

    def node(
        self, op: str, inputs: list[str], outputs: int | list[str] = 1, domain: str = "", **attributes: Any
    ) -> Any:
        """Append a node; the output's name, or the list of names when there are several."""
        name = f"{op}_{len(self.nodes) + 1}"
        names = outputs if isinstance(outputs, list) else [f"{name}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name, domain=domain, **attributes))
        return names[0] if len(names) == 1 else names

    def model(self, name: str, inputs: list[Any], outputs: list[Any]) -> onnx.ModelProto:
        """The finished model, byte for byte the same for the same inputs."""
        graph = helper.make_graph(self.nodes, name, inputs, outputs, list(self.initializers.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="prometheus-mini")

    # -- layers -------------------------------------------------------------------------------------------------

    def linear(self, x: str, name: str, signed: bool = True) -> str:
        """``x [.., in] @ weights[name] [in, out]`` -> [.., out]; ``signed=False`` promises that x has no negatives."""
        product, scale = self.unscaled_linear(x, name, signed)
        return self.node("Mul", [product, scale]) if scale else product

    def unscaled_linear(self, x: str, name: str, signed: bool = True) -> tuple[str, str | None]:
        """As :meth:`linear`, but a row's own scale [.., 1], where there is one, is left to be multiplied in.

        For what is normed next no multiplication is needed at all: RMSNorm does not see a row's scale.
        """
        self.matmul_inputs[name] = x
        if self.precision != "int8":
            return self.node("MatMul", [x, self.weight(name)]), None
        return self._integer_matmul(x, name, signed, self._zero_points)

    def _integer_matmul(
        self, x: str, name: str, signed: bool, zero_points: str, output: int | list[str] = 1
    ) -> tuple[str, str | None]:
        """Quantize x to uint8 and multiply; the product and, for row scales, what it must still be multiplied by."""
        matrix, scale, width = self._integer_weight(name)
        quantized, step, row_scale = self._quantize(x, name, width, signed, zero_points)
        inputs = [quantized, matrix, step, scale, self._zero(signed)]
        return self.node("MatMulIntegerToFloat", inputs, output, MICROSOFT), row_scale

    def _integer_weight(self, name: str) -> tuple[str, str, int]:
        """A matrix as int8, its scale (a float32 scalar), its first dimension; the head's is the table transposed."""
        values = self.weights[name]
        if name == "embedding" and self.tied_head:
            values = values.T
        scale = f"_scale.{name}"
        if name not in self.initializers:  # the table is asked for twice
            integers, step = quantize_matrix(values)
            self.constant(name, integers)
            self.constant(scale, step, np.float32)
        return name, scale, len(values)

    def _zero(self, signed: bool) -> str:
        return self.constant(f"_zero_{128 if signed else 0}", 128 if signed else 0, np.uint8)

    def _quantize(self, x: str, name: str, width: int, signed: bool, zero_points: str) -> tuple[str, str, str | None]:
        """x as uint8, the constant step that its units stand for, and each row's scale in such steps, if it has one."""
        levels = 127 if signed else 255
        if self.activation_scale == "static" and signed:
            assert self.calibration is not None
            bound = max(self.calibration.activations[name], 1e-8)
            step = self.constant(f"_step.{name}", bound / levels, np.float32)
            return self.node("QuantizeLinear", [x, step, self._zero(signed)]), step, None
        # An all-zero row has scale 0 and quantizes to whatever 0/0 converts to; its product is multiplied by 0 again.
        largest = self.node("Abs", [x]) if signed else x
        largest = self.node("ReduceMax", [largest, self.constant("_last_axis", [-1], np.int64)], keepdims=1)
        scale = self.node("Mul", [largest, self.constant(f"_per_{levels}", 1 / levels, np.float32)])
        inputs = [x, scale, zero_points] if signed else [x, scale]
        quantized = self.node("QuantizeLinear", inputs, axis=-1, block_size=width)
        return quantized, self.constant("_one_float", 1, np.float32), scale

    def embed(self, ids: str) -> str:
        """Rows of the table, sqrt(d_model) included: i64 [B, S] -> [B, S, D]. Call it before any linear layer."""
        if self.precision != "int8":
            return self.node("Gather", [self.weight("embedding"), ids])
        if self.activation_scale == "row":
            self._zero_points = self._fill_128(
                self.node("Unsqueeze", [ids, self.constant("_last_axis", [-1], np.int64)])
            )
        table, scale, _ = self._integer_weight("embedding")
        if self.tied_head:
            # Folded when the session loads: some MB of memory instead of a second table in the file. Gathering columns
            # would touch one cache line per number, which took a fifth of a step of 8 rows or more.
            table = self.node("Transpose", [table], perm=[1, 0])
        # Not DequantizeLinear: ONNX Runtime would run one for each of its consumers.
        return self.node("Mul", [self.node("Cast", [self.node("Gather", [table, ids])], to=TensorProto.FLOAT), scale])

    def _fill_128(self, like: str) -> str:
        """Zero points of row-quantized activations: 128 in the shape of ``like``."""
        value = helper.make_tensor("value", TensorProto.UINT8, [1], [128])
        return self.node("ConstantOfShape", [self.node("Shape", [like])], value=value)

    def head(self, x: str, like: str) -> str:
        """``x [B, D]`` -> ``logits`` float32 [B, V], by the table that embeds the tokens; ``like`` is any [B, 1]."""
        self.matmul_inputs["embedding"] = x
        if self.precision == "fp32":
            return self.node("Gemm", [x, self.weight("embedding")], ["logits"], transB=1)
        if self.precision == "fp16":
            logits = self.node("Gemm", [x, self.weight("embedding")], transB=1)
            return self.node("Cast", [logits], ["logits"], to=TensorProto.FLOAT)
        if self.activation_scale == "static":
            return self._integer_matmul(x, "embedding", True, "", ["logits"])[0]
        logits, scale = self._integer_matmul(x, "embedding", True, self._fill_128(like))
        assert scale is not None
        return self.node("Mul", [logits, scale], ["logits"])

    def rms_norm(self, x: str, gain: str) -> str:
        inputs = [x, self.weight(gain)]
        return self.node("SimplifiedLayerNormalization", inputs, axis=-1, epsilon=self.config.norm_eps, stash_type=1)

    def residual_norm(self, update: str, residual: str, gain: str) -> tuple[str, str]:
        """``residual + update``, normed and as it is: (normed, residual)."""
        if self.precision != "fp16":
            # On the CPU ONNX Runtime's fused operator is the slower one (64 x 256: 10.3 us against 5.0), and it would
            # fuse SimplifiedLayerNormalization with the sum by itself.
            total, eps = self.node("Add", [update, residual]), self.config.norm_eps
            return self.node("RMSNormalization", [total, self.weight(gain)], axis=-1, epsilon=eps), total
        normed, _, _, total = self.node(
            "SkipSimplifiedLayerNormalization",
            [update, residual, self.weight(gain)],
            [f"normed_{len(self.nodes)}", "", "", f"residual_{len(self.nodes)}"],
            MICROSOFT,
            epsilon=self.config.norm_eps,
        )
        return normed, total

    def head_norm(self, x: str, heads: int, gain: str) -> str:
        """RMSNorm of each head of ``x [B, S, heads*h]``, with one gain [h] for all heads.

        Explicit nodes: GroupQueryAttention's own q/k norm inputs exist in ONNX Runtime 1.31 on CUDA only.
        """
        if heads == 1:
            return self.rms_norm(x, gain)
        split = self.constant(f"_split_{heads}_heads", [0, 0, heads, self.config.head_dim], np.int64)
        joined = self.constant(f"_join_{heads}_heads", [0, 0, heads * self.config.head_dim], np.int64)
        return self.node("Reshape", [self.rms_norm(self.node("Reshape", [x, split]), gain), joined])

    def rotary_tables(self) -> tuple[str, str]:
        """cos and sin [max_positions, h/2] of the rotary positions."""
        config = self.config
        frequency = config.rope_theta ** -(np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim)
        angle = np.arange(config.max_positions)[:, None] * frequency[None]
        return (
            self.constant("_rotary_cos", np.cos(angle), self.float_dtype),
            self.constant("_rotary_sin", np.sin(angle), self.float_dtype),
        )

    def query_key_value(self, x: str, layer: str) -> tuple[str, str, str]:
        """Packed projection with per-head norms: queries [B, S, H*h], keys and values [B, S, K*h]."""
        config, heads = self.config, self.config.heads_of(f"{layer}.attention")
        sizes = [heads * config.head_dim, config.kv_heads * config.head_dim, config.kv_heads * config.head_dim]
        split = self.constant(self.by_heads("_split_qkv", heads), sizes, np.int64)
        packed, scale = self.unscaled_linear(x, f"{layer}.qkv")
        query, key, value = self.node("Split", [packed, split], 3, axis=-1)
        query = self.head_norm(query, heads, f"{layer}.query_norm")
        key = self.head_norm(key, config.kv_heads, f"{layer}.key_norm")
        return query, key, self.node("Mul", [value, scale]) if scale else value

    def by_heads(self, name: str, heads: int) -> str:
        """The name of a constant that depends on a block's heads."""
        return name if heads == self.config.heads else f"{name}_{heads}"

    def attend(self, layer: str, inputs: list[str], outputs: int | list[str], **attributes: Any) -> str:
        """A layer's GroupQueryAttention with rotary positions: [B, S, H*h]; its first output, of ``outputs``."""
        config, heads = self.config, self.config.heads_of(f"{layer}.attention")
        attributes |= {"num_heads": heads, "kv_num_heads": config.kv_heads, "scale": config.head_dim**-0.5}
        return self.node("GroupQueryAttention", inputs, outputs, MICROSOFT, do_rotary=1, **attributes)[0]

    def ssru(self, x: str, layer: str, past: str, present: str) -> str:
        """One step of the recurrent unit (model/ssru.py): x and what it gives [B, 1, D], the state float32 in and out.

        The state is read before it is written, so that both may be bound to one buffer. It stays float32 in every
        precision: it is a sum over the whole text, and there is no more of it than this one vector.
        """
        split = self.constant("_split_ssru", [self.config.d_model] * 2, np.int64)
        joint = self._as(TensorProto.FLOAT, self.linear(x, f"{layer}.ssru"))
        candidate, gate = self.node("Split", [joint, split], 2, axis=-1)
        bias = self.constant(f"{layer}.forget_bias", self.weights[f"{layer}.forget_bias"], np.float32)
        gate = self.node("Sigmoid", [self.node("Add", [gate, bias])])
        # f c + (1 - f) w as w + f (c - w): a node less.
        kept = self.node("Mul", [gate, self.node("Sub", [past, candidate])])
        return self._as(self.float_type, self.node("Relu", [self.node("Add", [candidate, kept], [present])]))

    def _as(self, float_type: int, x: str) -> str:
        """x as this type, in a graph that computes in ``self.float_type``; without a node where that is float32."""
        return x if self.precision != "fp16" else self.node("Cast", [x], to=float_type)

    def feed_forward(self, x: str, layer: str) -> str:
        """down(relu(up(x))^2). A row's scale s passes through as s^2, which keeps it off the widest tensor."""
        hidden, scale = self.unscaled_linear(x, f"{layer}.up")
        hidden = self.node("Relu", [hidden])
        hidden = self.node("Mul", [hidden, hidden])
        if scale is None:
            return self.linear(hidden, f"{layer}.down", signed=False)
        update, inner = self.unscaled_linear(hidden, f"{layer}.down", signed=False)
        assert inner is not None
        squared = self.node("Mul", [scale, scale])
        return self.node("Mul", [update, self.node("Mul", [squared, inner])])


def quantize_matrix(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 with one scale: float32 [in, out] -> int8 [in, out], float32 scale []."""
    scale = np.abs(matrix).max() / 127
    scale = np.asarray(scale if scale > 0 else 1, np.float32)
    return np.clip(np.rint(matrix / scale), -127, 127).astype(np.int8), scale
