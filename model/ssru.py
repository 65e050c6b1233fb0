"""A recurrent unit in the place of a decoder's self-attention: SSRU, the simpler simple recurrent unit.

After Kim et al. 2019, "From Research to Production and Back: Ludicrously Fast Neural Machine Translation"
(https://aclanthology.org/D19-5632, equations 1 to 3):

    f_t = sigmoid(W_f x_t + b_f)        c_t = f_t * c_(t-1) + (1 - f_t) * W x_t        y_t = relu(c_t)

What a text has said so far is one vector c, whatever its length: a decode step costs the same at the first token and at
the last, and nothing grows. As no matrix stands between c_(t-1) and c_t, a whole text is trained at once, by a scan.

Legend: B rows, S tokens, D width, N blocks of M tokens.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import NetworkConfig
from model.fused import scaled

LONGEST_MEMORY = 64  # tokens; sentences are hardly longer


def scan(decay: Tensor, update: Tensor) -> Tensor:
    """c_t = decay_t * c_(t-1) + update_t over the second dimension, from c = 0; all are float [B, S, D].

    In about 2 sqrt(S) dependent steps instead of S: blocks of sqrt(S) tokens are scanned side by side, each from 0, and
    then take over, one after another, what the one before ends with, times the product of their decays so far. Nothing
    is divided, and with decays in [0, 1] no number grows beyond the sum of the updates: unlike the quotients of
    cumulative products, which overflow within a sentence, it needs no logarithms. The gradient is the same scan,
    backwards, and keeps two tensors.
    """
    return _Scan.apply(decay, update)


def _scanned(decay: Tensor, update: Tensor) -> Tensor:
    batch, length, width = decay.shape
    size = math.isqrt(max(length - 1, 0)) + 1  # rounded up
    padding = (0, 0, 0, -length % size)
    decay_BNMD = F.pad(decay, padding).view(batch, -1, size, width)
    state_BNMD = F.pad(update, padding).clone().view(batch, -1, size, width)
    product_BNMD = decay_BNMD.clone()
    for t in range(1, size):
        state_BNMD[:, :, t].addcmul_(decay_BNMD[:, :, t], state_BNMD[:, :, t - 1])
        product_BNMD[:, :, t].mul_(product_BNMD[:, :, t - 1])
    for n in range(1, state_BNMD.shape[1]):
        state_BNMD[:, n].addcmul_(product_BNMD[:, n], state_BNMD[:, n - 1, -1:])
    return state_BNMD.view(batch, -1, width)[:, :length].contiguous()


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, decay: Tensor, update: Tensor) -> Tensor:
        state = _scanned(decay, update)
        ctx.save_for_backward(decay, state)
        return state

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        decay, state = ctx.saved_tensors
        # g_t = gradient_t + decay_(t+1) * g_(t+1): the same recurrence, read from the end.
        following = F.pad(decay[:, 1:], (0, 0, 0, 1))
        back = _scanned(following.flip(1), gradients[0].flip(1)).flip(1)
        return back * F.pad(state[:, :-1], (0, 0, 1, 0)), back


class SSRU(nn.Module):
    """The unit of the module's text, [B, S, D] -> [B, S, D], as wide as the residual stream.

    The state is float32 whatever multiplies the matrices: it is a sum over the whole text. There is no projection
    behind it, so none that could start at zero as those of attention do; ``relu`` would pass no gradient to one in
    front of it.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.candidate = nn.Linear(config.d_model, config.d_model, bias=False)
        self.forget = nn.Linear(config.d_model, config.d_model)
        # Memories of 1 to LONGEST_MEMORY tokens (Tallec and Ollivier 2018, arXiv 1804.11188): at 0 all would be of 2.
        spans = torch.empty(config.d_model).uniform_(1, LONGEST_MEMORY - 1)
        with torch.no_grad():
            self.forget.bias.copy_(spans.log())

    def forward(self, x: Tensor, gain: Tensor | None = None) -> Tensor:
        """x [B, S, D], still to be multiplied by a gain [D] where there is one -> [B, S, D]."""
        joint = F.linear(x, scaled(torch.cat([self.candidate.weight, self.forget.weight]), gain)).float()
        candidate, gate = joint.chunk(2, dim=-1)
        gate = gate + self.forget.bias
        # 1 - sigmoid(x) is sigmoid(-x), but keeps its digits where the gate is nearly 1.
        return scan(gate.sigmoid(), (-gate).sigmoid() * candidate).relu().to(x.dtype)
