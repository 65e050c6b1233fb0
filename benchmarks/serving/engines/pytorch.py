"""PyTorch by hand: our own layers in a greedy loop over a static cache, as a careful user would write it.

It reads the same weights as our fp32 bundle and gives the same tokens, which the tests hold: the proof that the other
side of the comparison runs the network that it claims to.

Legend: B rows, S tokens of a call, T cache length, L source length, H query heads, h head width, D width.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from benchmarks.serving.shapes import BOS, CONTROL_TOKENS, Workload


class PyTorch:
    """``reduced`` leaves out what CTranslate2 lacks (``reference.own_layers``), to be compared with it."""

    def __init__(self, path: Path, threads: int, reduced: bool = False) -> None:
        torch.set_num_threads(threads)
        with safe_open(str(path), "pt") as file:
            self.network: dict[str, Any] = json.loads(file.metadata()["network"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.reduced = reduced
        for name in [name for name in weights if name.endswith(".query.weight")]:
            if ".cross." not in name:
                parts = [weights.pop(name), weights.pop(name.replace("query", "kv"))]
                weights[name.replace("query", "qkv")] = torch.cat(parts)
        self.w = weights
        h, positions = self.network["head_dim"], self.network["max_positions"]
        frequency = 10000.0 ** -(torch.arange(0, h, 2).double() / h)
        angle = torch.arange(positions)[:, None] * frequency
        self.cos, self.sin = angle.cos().float(), angle.sin().float()  # [T, h/2]

    def prepare(self, workload: Workload) -> Callable[[], list[int]]:
        prompts, length = torch.tensor(workload.prompts), workload.outputs[0]
        return lambda: [length for row in self.generate(prompts, length)]

    @torch.inference_mode()
    def generate(self, prompts: Tensor, length: int) -> Tensor:
        """int64 [B, P] -> the likeliest continuation, int64 [B, length], which never is the end token."""
        B, network = len(prompts), self.network
        seq2seq = network["family"] == "seq2seq"
        capacity = length + (1 if seq2seq else prompts.shape[1])
        shape = (B, network["kv_heads"], capacity, network["head_dim"])
        cache = [(torch.zeros(shape), torch.zeros(shape)) for _ in range(network["decoder_layers"])]
        cross = self._encode(prompts) if seq2seq else []
        ids = torch.full((B, 1), BOS) if seq2seq else prompts
        output = torch.empty((B, length), dtype=torch.int64)
        at = 0
        for step in range(length):
            logits = self._decode(ids, at, cache, cross)
            logits[:, :CONTROL_TOKENS] = -math.inf
            at += ids.shape[1]
            ids = logits.argmax(1, keepdim=True)
            output[:, step] = ids[:, 0]
        return output

    def _decode(self, ids: Tensor, at: int, cache: list, cross: list) -> Tensor:
        """ids [B, S] that follow ``at`` cached tokens -> logits [B, V] of the last."""
        x = self._embed(ids)
        for i, (keys, values) in enumerate(cache):
            layer = f"decoder.layers.{i}"
            q, k, v = self._qkv(x, layer, at)
            keys[:, :, at : at + ids.shape[1]], values[:, :, at : at + ids.shape[1]] = k, v
            end = at + ids.shape[1]
            mixed = _attend(q, keys[:, :, :end], values[:, :, :end], causal=ids.shape[1] > 1)
            x = x + F.linear(mixed, self.w[f"{layer}.attention.out.weight"])
            if cross:
                q = F.linear(self._norm(x, f"{layer}.cross_norm"), self.w[f"{layer}.cross.query.weight"])
                q = self._norm(_heads(q, self.network["heads"]), f"{layer}.cross.query_norm")
                x = x + F.linear(_attend(q, *cross[i]), self.w[f"{layer}.cross.out.weight"])
            x = self._feed_forward(x, layer)
        return F.linear(self._norm(x[:, -1], "decoder.norm"), self.w["embedding.weight"])

    def _encode(self, ids: Tensor) -> list[tuple[Tensor, Tensor]]:
        """ids [B, L] -> keys and values [B, K, L, h] for the cross-attention of every decoder layer."""
        x = self._embed(ids)
        for i in range(self.network["encoder_layers"]):
            layer = f"encoder.layers.{i}"
            x = x + F.linear(_attend(*self._qkv(x, layer, 0)), self.w[f"{layer}.attention.out.weight"])
            x = self._feed_forward(x, layer)
        x = self._norm(x, "encoder.norm")
        cross = []
        for i in range(self.network["decoder_layers"]):
            prefix = f"decoder.layers.{i}.cross"
            k, v = F.linear(x, self.w[f"{prefix}.kv.weight"]).chunk(2, dim=-1)
            heads = self.network["kv_heads"]
            cross.append((self._norm(_heads(k, heads), f"{prefix}.key_norm"), _heads(v, heads)))
        return cross

    def _embed(self, ids: Tensor) -> Tensor:
        return self.w["embedding.weight"][ids] * math.sqrt(self.network["d_model"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        if self.reduced and ".cross." in name:
            return x
        return F.rms_norm(x, x.shape[-1:], self.w[f"{name}.weight"], 1e-6)

    def _qkv(self, x: Tensor, layer: str, at: int) -> tuple[Tensor, Tensor, Tensor]:
        network = self.network
        packed = F.linear(self._norm(x, f"{layer}.attention_norm"), self.w[f"{layer}.attention.qkv.weight"])
        sizes = [network["heads"] * network["head_dim"], *[network["kv_heads"] * network["head_dim"]] * 2]
        q, k, v = packed.split(sizes, dim=-1)
        q = self._norm(_heads(q, network["heads"]), f"{layer}.attention.query_norm")
        k = self._norm(_heads(k, network["kv_heads"]), f"{layer}.attention.key_norm")
        return self._rotate(q, at), self._rotate(k, at), _heads(v, network["kv_heads"])

    def _rotate(self, x: Tensor, at: int) -> Tensor:
        cos, sin = self.cos[at : at + x.shape[2]], self.sin[at : at + x.shape[2]]
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)

    def _feed_forward(self, x: Tensor, layer: str) -> Tensor:
        hidden = F.linear(self._norm(x, f"{layer}.ffn_norm"), self.w[f"{layer}.ffn.up.weight"]).relu_()
        if not self.reduced:
            hidden = hidden * hidden
        return x + F.linear(hidden, self.w[f"{layer}.ffn.down.weight"])


def _heads(x: Tensor, heads: int) -> Tensor:
    """[B, S, heads*h] -> [B, heads, S, h]."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """q [B, H, S, h], k and v [B, K, T, h] -> [B, S, H*h]. Heads that share keys are rows of one product."""
    B, H, S, h = q.shape
    K = k.shape[1]
    if causal:
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    else:
        mixed = F.scaled_dot_product_attention(q.reshape(B, K, -1, h), k, v).view(B, H, S, h)
    return mixed.transpose(1, 2).reshape(B, S, H * h)
