"""Muon: every matrix moves by its momentum with all singular values made alike.

After Jordan et al., https://kellerjordan.github.io/posts/muon/. The Newton-Schulz iteration that does it is nothing but
matrix products, and most of the work: matrices of one shape, or of one shape turned, go through it together, in the
precision that the hardware multiplies by itself.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Quintic = tuple[float, float, float]  # a, b and c of a X + b (X X^T) X + c (X X^T)^2 X
# From the page above: they take singular values from [0.003, 1] to about [0.7, 1.2] in five steps.
QUINTIC = (3.4445, -4.7750, 2.0315)
STEPS = 5
EPS = 1e-7


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal, with decoupled weight decay.

    A matrix of R rows and C columns moves by ``lr * sqrt(max(1, R / C))`` times an orthogonal matrix, as in the code of
    the method's author. The state of a parameter is its float32 momentum, ``momentum_buffer``.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Matrices [R, C]; ``dtype`` is that of the Newton-Schulz products: bfloat16 where it is native."""
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        assert closure is None, "the loss is computed once a step, by the caller"
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    shapes.setdefault((min(matrix.shape), max(matrix.shape)), []).append(matrix)
            for matrices in shapes.values():
                self._move(matrices, group["lr"], group["weight_decay"], group["momentum"])

    def _move(self, matrices: list[nn.Parameter], lr: float, weight_decay: float, momentum: float) -> None:
        wide = []
        for matrix in matrices:
            assert matrix.grad is not None
            if not self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix.grad)
            average = self.state[matrix]["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
            ahead = matrix.grad.lerp(average, momentum)  # Nesterov's
            wide.append(ahead.T if matrix.shape[0] > matrix.shape[1] else ahead)
        for matrix, update in zip(matrices, self._updates(matrices, torch.stack(wide)), strict=True):
            rows, columns = matrix.shape
            matrix.mul_(1 - lr * weight_decay)
            turned = update.T if rows > columns else update
            matrix.add_(turned, alpha=-lr * max(1.0, rows / columns) ** 0.5)

    def _updates(self, matrices: list[nn.Parameter], x: Tensor) -> Tensor:
        """Where each matrix goes, of where its momentum points, both [N, R, C] with R <= C: turned where it is not."""
        return orthogonal(x.to(self.dtype))


def orthogonal(x: Tensor, steps: Sequence[Quintic] = (QUINTIC,) * STEPS) -> Tensor:
    """x [N, R, C] with R <= C -> the same singular vectors with singular values near 1, in its shape and dtype.

    Args:
        steps: coefficients of each step, which are told that no singular value is larger than 1.
    """
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=EPS)
    if x.dtype is torch.float32 and x.shape[1] < x.shape[2]:
        return _by_gram(x, steps)
    for a, b, c in steps:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _by_gram(x: Tensor, steps: Sequence[Quintic]) -> Tensor:
    """The same where C exceeds R: every factor is a polynomial of X X^T, so that only two products are R x R x C.

    Half the multiplications at C = 5 R. It needs float32, for the small singular values are squared.
    """
    gram, product = x @ x.mT, None
    for step, (a, b, c) in enumerate(steps, 1):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        if step < len(steps):
            gram = factor @ gram @ factor
    assert product is not None
    return product @ x
