"""Parts of the network whose gradients are written by hand, for CPUs.

There, what is no matrix product costs what it moves through memory, and most where one call of PyTorch visits a tensor
in short pieces. Autograd's gradient of a norm that is followed by a rotation moves some 25 tensors, and keeps six;
these keep one, and visit what they move as long rows of numbers.

Legend as in model/network.py; N is any leading dimensions.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (j, j + h/2) of x [B, S, heads, h] by its position's angle; cos and sin are [S, 1, h/2]."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def normalised(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor | None]:
    """RMSNorm over the last dimension, in float32, of what matrices multiply next.

    On a CPU its gain is left for these: they are smaller than what they multiply, and the norm alone has a gradient of
    one pass. On a GPU, where calls cost and not bytes, the norm applies it.

    Args:
        x: [N, D], float32 or half.
        weight: float32 [D].

    Returns:
        A tensor of x's shape, in autocast's dtype where that is on, else in float32; and what :func:`scaled` is to
        apply to the columns of the matrices.
    """
    dtype = _wanted(x)
    if x.device.type == "cpu":
        return _Normalised.apply(x, eps, dtype), weight
    return F.rms_norm(x.float(), weight.shape, weight, eps).to(dtype), None


def scaled(matrix: Tensor, gain: Tensor | None) -> Tensor:
    """A matrix [rows, D] with its columns times a gain [D], where there is one."""
    return matrix if gain is None else matrix * gain


def norm_of_heads(x: Tensor, weight: Tensor, eps: float, rotary: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """RMSNorm of each head, with one gain for all, and then, with cosines and sines, :func:`rotate`.

    Args:
        x: [B, S, heads, h], float32 or half.
        weight: float32 [h].

    Returns:
        A tensor of x's shape, in autocast's dtype where that is on, else in float32.
    """
    dtype = _wanted(x)
    if x.device.type == "cpu":
        return _NormOfHeads.apply(x, weight, *(rotary or (None, None)), eps, dtype)
    y = F.rms_norm(x.float(), weight.shape, weight, eps)
    return (rotate(y, *rotary) if rotary else y).to(dtype)


def linear_relu_squared(x: Tensor, matrix: Tensor) -> Tensor:
    """relu(x @ matrix.T)², of x [N, D] and a float32 matrix [rows, D] -> [N, rows], in autocast's dtype or in x's."""
    dtype = _wanted(x, x.dtype)
    return _LinearReLUSquared.apply(x.to(dtype), matrix.to(dtype))


def attend_folded(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Dot-product attention as :func:`model.network.attend` describes it, for a CPU.

    The H / K query heads that share a key head are folded into its rows, so that the shared head is read once and never
    expanded, and that with one key head nothing has to be moved.
    """
    return _Attention.apply(query, key, value, mask, causal)


def _wanted(x: Tensor, otherwise: torch.dtype = torch.float32) -> torch.dtype:
    """Autocast's dtype where that is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else otherwise


def _normal(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x [N, D] by its root mean square, and one over that, [N, 1]; both float32."""
    x = x.float().contiguous()
    inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return x * inverse, inverse


def _back(gradient: Tensor, normal: Tensor, inverse: Tensor) -> Tensor:
    """The gradient of x, of which :func:`_normal` has made ``normal``; all float32.

    It is (gradient - normal * mean(gradient * normal)) * inverse. PyTorch has this as one pass under another name, as
    the gradient of v in g v / |v| (weight normalisation), for v = normal, |v|² = D and g = sqrt(D) inverse.
    """
    width = normal.shape[-1]
    rows, root = normal.view(-1, width), math.sqrt(width)
    gains, norms = inverse.view(-1, 1) * root, torch.full((len(rows), 1), root)
    found = torch.ops.aten._weight_norm_interface_backward(gradient.reshape(rows.shape), rows, gains, norms, 0)[0]
    return found.view(normal.shape)


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        normal, inverse = _normal(x, eps)
        y = normal.to(dtype)
        ctx.dtype = x.dtype
        ctx.save_for_backward(y, inverse)  # y is kept by what multiplies it, too
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normal, inverse = ctx.saved_tensors
        return _back(gradients[0].float(), normal.float(), inverse).to(ctx.dtype), None, None


class _NormOfHeads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, cos: Tensor | None, sin: Tensor | None, eps: float, dtype: torch.dtype
    ) -> Tensor:
        ctx.dtype = x.dtype
        normal, inverse = _normal(x, eps)
        ctx.save_for_backward(normal, inverse, weight, cos, sin)
        if cos is None or sin is None:
            return (normal * weight).to(dtype)
        along = torch.cat([cos, cos], dim=-1) * weight
        across = torch.cat([-sin, sin], dim=-1) * weight.roll(weight.shape[0] // 2)
        return _turned(normal, along, across).to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normal, inverse, weight, cos, sin = ctx.saved_tensors
        gradient = gradients[0].float().contiguous()
        if cos is not None:  # rotated back
            gradient = _turned(gradient, torch.cat([cos, cos], dim=-1), torch.cat([sin, -sin], dim=-1))
        grad_weight = (gradient * normal).flatten(0, -2).sum(0)
        grad_x = _back(gradient * weight, normal, inverse).to(ctx.dtype)
        return grad_x, grad_weight, None, None, None, None


def _turned(x: Tensor, along: Tensor, across: Tensor) -> Tensor:
    """x [B, S, heads, h] times ``along``, plus x with its heads' halves exchanged times ``across``, both [S, 1, h]."""
    batch, length, heads, width = x.shape
    rows, halves = x.reshape(batch, -1), torch.tensor([1, 0])
    exchanged = x.reshape(-1, 2, width // 2).index_select(1, halves).view(batch, -1)
    along, across = (table.expand(length, heads, width).reshape(1, -1) for table in (along, across))
    return (rows * along).addcmul_(exchanged, across).view(x.shape)


class _LinearReLUSquared(torch.autograd.Function):
    """Keeps the rectified product, made in its place; the 2 of the gradient goes into the products behind it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor) -> Tensor:
        positive = F.linear(x, matrix).relu_()
        ctx.save_for_backward(x, matrix, positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        x, matrix, positive = ctx.saved_tensors
        half = (positive * gradients[0]).flatten(0, -2)
        grad_x = torch.addmm(x.new_zeros(()), half, matrix, beta=0, alpha=2)
        grad_matrix = torch.addmm(x.new_zeros(()), half.T, x.flatten(0, -2), beta=0, alpha=2)
        return grad_x.view(x.shape), grad_matrix


class _Attention(torch.autograd.Function):
    """Keeps the weights alone; what is masked has a weight of 0, and so no gradient, without a look at the mask."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        batch, length, heads, width = query.shape
        keys, kv_heads = key.shape[1:3]
        rows = _fold(query * width**-0.5, kv_heads)
        key, value = key.transpose(1, 2), value.transpose(1, 2)  # [B, K, T, h]
        scores = (rows @ key.mT).view(batch, kv_heads, length, heads // kv_heads, keys)
        if causal:
            future = torch.ones(length, keys, dtype=torch.bool).triu(1)
            scores.masked_fill_(future[:, None], -torch.inf)
        if mask is not None:
            scores.masked_fill_(~mask[..., None, :], -torch.inf)
        weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype).view(batch, kv_heads, -1, keys)
        ctx.save_for_backward(rows, key, value, weights)
        return _unfold(weights @ value, query.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, key, value, weights = ctx.saved_tensors
        shape = gradients[0].shape
        gradient = _fold(gradients[0], key.shape[1])
        grad_weights = (gradient @ value.mT).float()
        grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights.float(), -1, torch.float32)
        grad_scores = grad_scores.to(rows.dtype)
        grad_query = _unfold(grad_scores @ key, shape) * shape[-1] ** -0.5
        grad_key, grad_value = (part.mT @ other for part, other in ((grad_scores, rows), (weights, gradient)))
        return grad_query, grad_key.transpose(1, 2), grad_value.transpose(1, 2), None, None


def _fold(x: Tensor, kv_heads: int) -> Tensor:
    """[B, S, H, h] -> [B, K, S * H / K, h]."""
    batch, length, _, width = x.shape
    return x.reshape(batch, length, kv_heads, -1).transpose(1, 2).reshape(batch, kv_heads, -1, width)


def _unfold(rows: Tensor, shape: torch.Size) -> Tensor:
    """[B, K, S * H / K, h] -> [B, S, H, h]."""
    return rows.view(shape[0], rows.shape[1], shape[1], -1).transpose(1, 2).reshape(shape)
