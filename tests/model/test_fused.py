"""The gradients written by hand against autograd's, of the formulas as they stand in a book."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from model.config import NetworkConfig
from model.fused import linear_relu_squared, norm_of_heads, normalised, rotate, scaled
from model.network import FeedForward, rotary_tables


def plain(x: Tensor, weight: Tensor, eps: float, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
    y = x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight
    return rotate(y, *rotary) if rotary else y


def of_heads(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return norm_of_heads(x, weight, eps)


def turned(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return norm_of_heads(x, weight, eps, tables())


def left_to_the_matrix(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    normal, gain = normalised(x, weight, eps)
    return normal @ scaled(torch.eye(16), gain).T


def tables() -> tuple[Tensor, Tensor]:
    cos, sin = rotary_tables(5, 16, 10000.0)
    return cos[:, None], sin[:, None]


@pytest.mark.parametrize("norm", [of_heads, turned, left_to_the_matrix])
@pytest.mark.parametrize("eps", [1e-6, 0.5])
@pytest.mark.parametrize("whole", [True, False])
def test_the_norms_and_their_gradients(norm: Callable[..., Tensor], eps: float, whole: bool) -> None:
    torch.manual_seed(0)
    rows, weight, into = torch.randn(2, 5, 4, 16), torch.randn(16), torch.randn(2, 5, 3, 16)
    found, expected = [], []
    for kept, of in ((found, norm), (expected, lambda *given: plain(*given, tables() if norm is turned else None))):
        leaves = [rows.clone().requires_grad_(), weight.clone().requires_grad_()]
        x = leaves[0][:, :, :3]  # a part of what a matrix gives
        y = of(x.contiguous() if whole else x, leaves[1], eps)
        (y * into).sum().backward()
        kept += [y, *(leaf.grad for leaf in leaves)]
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


def test_nothing_has_a_norm_and_a_gradient() -> None:
    """A vector of zeros, as a dead head gives."""
    x = torch.zeros(2, 1, 3, 16, requires_grad=True)
    norm_of_heads(x, torch.ones(16), 1e-6).sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


@pytest.mark.parametrize("norm", [norm_of_heads, lambda *given: normalised(*given)[0]])
def test_the_norms_hand_on_what_autocast_wants(norm: Callable[..., Tensor]) -> None:
    x, weight = torch.randn(2, 5, 3, 16, requires_grad=True), nn.Parameter(torch.ones(16))
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(x, weight, 1e-6)
    assert y.dtype is torch.bfloat16 and norm(x.bfloat16(), weight, 1e-6).dtype is torch.float32
    y.float().sum().backward()
    assert x.grad is not None and x.grad.dtype is torch.float32


def test_the_square_and_its_gradients() -> None:
    x, matrix = (torch.randn(*shape, 16, dtype=torch.float64, requires_grad=True) for shape in ((2, 5), (24,)))
    torch.testing.assert_close(linear_relu_squared(x, matrix), torch.relu(x @ matrix.T) ** 2)
    assert torch.autograd.gradcheck(linear_relu_squared, (x, matrix))


def test_the_feed_forward_keeps_the_rectified_and_its_square_alone() -> None:
    layer = FeedForward(NetworkConfig(d_model=16, d_ff=48))
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        layer(torch.randn(5, 16))
    assert sum(tensor.shape == (5, 48) for tensor in kept) == 2
