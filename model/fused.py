"""Parts of the network whose gradients are written by hand, for CPUs.

There, what is no matrix product costs what it moves through memory. Autograd's gradient of a norm that is followed by a
rotation moves some 25 tensors, and keeps six; these move half as many, and keep two.

Legend as in model/network.py; N is any leading dimensions.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (j, j + h/2) of x [B, S, heads, h] by its position's angle; cos and sin are [S, 1, h/2]."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def rms_norm(x: Tensor, weight: Tensor, eps: float, rotary: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """RMSNorm over the last dimension, in float32, and then, with cosines and sines, :func:`rotate`.

    Args:
        x: [N, D], or [B, S, heads, h] where it is rotated; float32 or half.
        weight: float32 [D] or [h].

    Returns:
        A tensor of x's shape, in autocast's dtype where that is on, for what multiplies it next; else in float32.
    """
    dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else torch.float32
    if x.device.type == "cpu":
        return _RMSNorm.apply(x, weight, *(rotary or (None, None)), eps, dtype)
    y = F.rms_norm(x.float(), weight.shape, weight, eps)
    return (rotate(y, *rotary) if rotary else y).to(dtype)


def relu_squared(x: Tensor) -> Tensor:
    """relu(x)², in x's dtype: ``pow`` would leave that under CUDA's autocast."""
    return _ReLUSquared.apply(x)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, cos: Tensor | None, sin: Tensor | None, eps: float, dtype: torch.dtype
    ) -> Tensor:
        ctx.dtype, x = x.dtype, x.float()
        inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normal = x * inverse
        ctx.save_for_backward(normal, inverse, weight, cos, sin)
        if cos is None or sin is None:
            return (normal * weight).to(dtype)
        swapped = weight.roll(weight.shape[0] // 2)
        y = normal * (torch.cat([cos, cos], dim=-1) * weight)
        return _add_halves(y, normal, torch.cat([-sin, sin], dim=-1) * swapped).to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normal, inverse, weight, cos, sin = ctx.saved_tensors
        gradient = gradients[0].float()
        if cos is not None:  # rotated back
            back = gradient * torch.cat([cos, cos], dim=-1)
            gradient = _add_halves(back, gradient, torch.cat([sin, -sin], dim=-1))
        along = gradient * normal
        mean = (along @ weight).div_(weight.shape[0]).unsqueeze(-1)
        grad_x = (gradient * weight).addcmul_(normal, mean, value=-1).mul_(inverse)
        return grad_x.to(ctx.dtype), along.flatten(0, -2).sum(0), None, None, None, None


def _add_halves(y: Tensor, x: Tensor, factors: Tensor) -> Tensor:
    """y plus, in place, x with its two halves exchanged times the factors."""
    half = x.shape[-1] // 2
    y[..., :half].addcmul_(x[..., half:], factors[..., :half])
    y[..., half:].addcmul_(x[..., :half], factors[..., half:])
    return y


class _ReLUSquared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = x.relu()
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return (positive * gradients[0]).mul_(2)
