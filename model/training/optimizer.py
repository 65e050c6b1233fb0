"""Muon for the matrices, AdamW for the rest, and the learning-rate schedules.

Embeddings, norms and anything that is not a matrix of the network's body train with AdamW.
"""

import math

import torch
from torch import nn

from model.config import TrainingConfig
from model.training.muon import Muon
from model.training.precision import multiplies_bfloat16


def build_optimizers(network: nn.Module, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """[Muon, AdamW]; each parameter is in exactly one of them."""
    matrices, rest = list[nn.Parameter](), list[nn.Parameter]()
    for name, parameter in network.named_parameters():
        (matrices if parameter.ndim == 2 and not name.startswith("embedding") else rest).append(parameter)
    dtype = torch.bfloat16 if multiplies_bfloat16(rest[0].device) else torch.float32
    muon = Muon(matrices, config.muon_lr, config.muon_weight_decay, dtype=dtype)
    adam = torch.optim.AdamW(rest, lr=config.adam_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    return [muon, adam]


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Share of the peak learning rate at ``step`` (0-based), in (0, 1]."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "cosine":
        progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
        share = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return config.final_lr_fraction + (1 - config.final_lr_fraction) * share
    start = (1 - config.warmdown_fraction) * config.steps
    progress = (step - start) / max(1.0, config.steps - start)
    return max(config.final_lr_fraction, min(1.0, 1 - progress))


def set_learning_rate(optimizers: list[torch.optim.Optimizer], share: float) -> None:
    """Set every group's rate to a share of the peak it was built with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("peak_lr", group["lr"])
            group["lr"] = group["peak_lr"] * share
