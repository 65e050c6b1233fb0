"""The same weights and the same batch on the CPU in float32 and on the device in each precision: loss and gradients.

A new network's output projections are zero, and so are the gradients of all that is behind them: they are filled first.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.folder import Prepared
from benchmarks.gpu.precision import PRECISIONS
from model.training.batches import Batch
from model.training.loop import Trainer

BATCH_TOKENS = 4096  # what a CPU does in float32 in some seconds
FILLED_STD = 0.02
# Of the difference's norm to the gradients' own: rounding to 24, 8 and 11 bits, many times over.
TOLERANCES = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 1e-2}

Json = dict[str, Any]


def measure(prepared: Prepared, seconds: float, work: Path) -> Json:
    """For each precision the loss, and how far it and the gradients are from the CPU's."""
    torch.manual_seed(0)
    tokens = min(BATCH_TOKENS, prepared.training.batch_tokens)
    reference = prepared.trainer(work, device="cpu", precision="fp32", batch_tokens=tokens)
    with torch.no_grad():
        for parameter in reference.network.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=FILLED_STD)
    batch = next(reference.examples.train_batches())
    loss, gradients = _gradients(reference, batch)
    found: Json = {"tokens": batch.tokens, "loss": loss, "precisions": {}}
    for name in PRECISIONS:
        trainer = prepared.trainer(work, precision=name, batch_tokens=tokens)
        trainer.network.load_state_dict(reference.network.state_dict())
        there, others = _gradients(trainer, batch)
        errors = {key: _error(others[key], gradient) for key, gradient in gradients.items()}
        worst = max(errors, key=lambda key: errors[key])
        whole = _error(*(torch.cat([each.flatten() for each in these.values()]) for these in (others, gradients)))
        found["precisions"][name] = {
            "loss": there,
            "loss_error": abs(there - loss) / abs(loss),
            "gradient_error": whole,
            "worst_gradient_error": errors[worst],
            "worst_gradient": worst,
            "tolerance": TOLERANCES[name],
            "within": whole <= TOLERANCES[name],  # no number is not within
        }
    found["within"] = all(each["within"] for each in found["precisions"].values())
    return found


def _gradients(trainer: Trainer, batch: Batch) -> tuple[float, dict[str, Tensor]]:
    """The loss in nats per token, and the gradients of all parameters by name, float64 on the CPU."""
    trainer.network.eval()  # nothing is drawn for dropout
    loss = trainer.loss(batch) / batch.target_tokens
    trainer.scaler.scale(loss).backward()
    scale = trainer.scaler.get_scale()
    named = trainer.network.named_parameters()
    return loss.item(), {
        name: parameter.grad.double().cpu() / scale for name, parameter in named if parameter.grad is not None
    }


def _error(there: Tensor, here: Tensor) -> float:
    return ((there - here).norm() / here.norm()).item()
