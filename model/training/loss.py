"""Cross-entropy over a tied vocabulary without ever holding all logits.

The vocabulary projection is the widest matrix of a small model: 4,096 rows of 8,000 float32 logits are 131 MB, read
and written several times by the usual log-softmax and its backward pass. Working through blocks of rows that fit in
cache, and making the gradient in the same visit, costs a fraction of it (the idea of fused linear cross-entropy,
Liger Kernel, arXiv 2410.10989).

Legend: S tokens, D width, V vocabulary.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Logits per block: 8 MB of float32, a CPU's cache; on a GPU, where each block costs some launches, a quarter of a GB.
BLOCK_LOGITS = {"cpu": 2_000_000, "cuda": 64_000_000}
BLOCK_ROWS = 64  # a block has a multiple of these, the last one with zeros: few shapes to make kernels for


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, labels: Tensor, smoothing: float, differentiable: bool
    ) -> Tensor:
        matrix, vocabulary = weight.to(features.dtype), weight.shape[0]
        rows = max(1, BLOCK_LOGITS[features.device.type] // vocabulary)
        multiple = min(rows, BLOCK_ROWS)
        rows -= rows % multiple
        total = torch.zeros((), dtype=torch.float32, device=features.device)
        gradients = None
        if differentiable and (features.requires_grad or weight.requires_grad):
            gradients = torch.empty_like(features), torch.zeros_like(weight, dtype=torch.float32)
        for start in range(0, features.shape[0], rows):
            block, target = features[start : start + rows], labels[start : start + rows, None]
            count = len(block)
            block = F.pad(block, (0, 0, 0, -count % multiple))
            logits = (block @ matrix.T)[:count].float()
            # One visit makes the softmax, where logsumexp and exp would be two; its largest value is never near 0.
            softmax = logits.softmax(-1)
            normaliser = logits.amax(-1, keepdim=True) - softmax.amax(-1, keepdim=True).log()
            chosen = (normaliser - logits.gather(1, target)).sum()
            total += chosen
            if smoothing:
                uniform = (normaliser - logits.mean(-1, keepdim=True)).sum()
                total += smoothing * (uniform - chosen)
            if gradients is not None:
                gradient = softmax
                if smoothing:
                    gradient -= smoothing / vocabulary
                gradient.scatter_add_(1, target, torch.full_like(target, smoothing - 1.0, dtype=torch.float32))
                gradient = F.pad(gradient.to(features.dtype), (0, 0, 0, -count % multiple))
                gradients[0][start : start + rows] = (gradient @ matrix)[:count]
                gradients[1].add_((gradient.T @ block).float())
        if gradients is not None:
            ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        grad_features, grad_weight = ctx.saved_tensors
        return grad_features * outputs[0].to(grad_features.dtype), grad_weight * outputs[0], None, None, None


def linear_cross_entropy(features: Tensor, weight: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Summed cross-entropy of ``features @ weight.T`` against ``labels``, in nats.

    Args:
        features: [S, D], float32 or half; the multiplications run in its dtype, sums in float32.
        weight: [V, D] float32, the tied embedding.
        labels: i64 [S].
        smoothing: label smoothing, as in ``torch.nn.functional.cross_entropy``.

    Returns:
        A float32 scalar, differentiable once in ``features`` and ``weight``.
    """
    # Inside the function gradients are always off: only here can it be told that nobody will want them.
    return _LinearCrossEntropy.apply(features, weight, labels, smoothing, torch.is_grad_enabled())
