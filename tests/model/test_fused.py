"""The gradients written by hand against autograd's, of the formulas as they stand in a book."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from model.config import NetworkConfig
from model.fused import relu_squared, rms_norm, rotate
from model.network import FeedForward, rotary_tables


def plain(x: Tensor, weight: Tensor, eps: float, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
    y = x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight
    return rotate(y, *rotary) if rotary else y


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_the_norm_and_its_gradient(rotated: bool, eps: float) -> None:
    torch.manual_seed(0)
    x, weight, into = torch.randn(2, 5, 3, 16), torch.randn(16), torch.randn(2, 5, 3, 16)
    cos, sin = (table[:, None] for table in rotary_tables(5, 16, 10000.0))
    rotary = (cos, sin) if rotated else None
    found, expected = [], []
    for norm, kept in ((rms_norm, found), (plain, expected)):
        leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
        y = norm(*leaves, eps, rotary)
        (y * into).sum().backward()
        kept += [y, *(leaf.grad for leaf in leaves)]
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


def test_the_norm_hands_on_what_autocast_wants() -> None:
    x, weight = torch.randn(3, 16, requires_grad=True), nn.Parameter(torch.ones(16))
    with torch.autocast("cpu", torch.bfloat16):
        y = rms_norm(x, weight, 1e-6)
    assert y.dtype is torch.bfloat16 and rms_norm(x.bfloat16(), weight, 1e-6).dtype is torch.float32
    y.float().sum().backward()
    assert x.grad is not None and x.grad.dtype is torch.float32


def test_the_square_and_its_gradient() -> None:
    x = torch.randn(5, 16, dtype=torch.float64, requires_grad=True)
    assert torch.equal(relu_squared(x), torch.relu(x) ** 2)
    assert torch.autograd.gradcheck(relu_squared, (x,))


def test_the_feed_forward_keeps_the_rectified_and_its_square_alone() -> None:
    layer = FeedForward(NetworkConfig(d_model=16, d_ff=48))
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        layer(torch.randn(5, 16))
    assert sum(tensor.shape == (5, 48) for tensor in kept) == 2
