"""Where training runs, and in which precision."""

import contextlib
import ctypes

import torch

from model.config import TrainingConfig
from model.errors import ProjectError
from model.training.precision import multiplies_bfloat16
from model.training.ranks import ALONE, Ranks


class TrainingError(ProjectError, RuntimeError):
    """Training cannot go on; the message says why and what to change."""


def choose_device(config: TrainingConfig, ranks: Ranks = ALONE) -> torch.device:
    """The configured device, after a real operation on it: a listed GPU is not always a working one.

    Of processes that train together each has the GPU of its own number on its machine.

    Raises:
        TrainingError: where a GPU was demanded and none works, or only some of the processes have one.
    """
    device = _own_device(config, ranks.local)
    if ranks.size > 1 and (found := ranks.sum(device.type == "cuda")[0]) not in (0, ranks.size):
        raise TrainingError(
            f"{found:.0f} of {ranks.size} processes have a GPU that works: start as many on each machine as it has "
            "GPUs, or set training.device=cpu"
        )
    return device


def _own_device(config: TrainingConfig, number: int) -> torch.device:
    if config.device == "cpu":
        return torch.device("cpu")
    try:
        device = torch.device("cuda", number)
        (torch.ones(8, device=device) @ torch.ones(8, device=device)).item()
        torch.cuda.set_device(device)
        return device
    except (RuntimeError, AssertionError) as error:
        if config.device == "cuda":
            raise TrainingError(
                f"training.device=cuda was demanded and no GPU works ({str(error).splitlines()[0]}): "
                "use training.device=auto to train on the CPU"
            ) from None
        return torch.device("cpu")


def choose_precision(config: TrainingConfig, device: torch.device) -> torch.dtype:
    """The configured precision; ``auto`` is bfloat16 where it is native, else float16 on a GPU and float32 on a CPU."""
    if config.precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[config.precision]
    if multiplies_bfloat16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else torch.float32


def return_free_memory() -> None:
    """Give freed heap pages back to the system, where the C library is glibc.

    Batches of ever new shapes leave its heap full of holes: without this a run of 8.9 M parameters grew from 3 to 9 GB
    in half an hour; with it, it stays below 4.2 GB and takes 1.5 % longer.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
