"""Checkpoints: safetensors and JSON, written beside their place and renamed, so a killed run leaves the last whole one.

A training folder holds ``model.safetensors`` (the best weights so far), ``training.json``, ``curves.jsonl`` and, while
training runs, ``last/`` (weights, optimiser state, step) to resume from. Nothing is pickled.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from model.errors import ProjectError
from model.files import replace_directory, write_bytes, write_json

if TYPE_CHECKING:
    import torch
    from torch import nn

WEIGHTS = "model.safetensors"
INFO = "training.json"
LAST = "last"


class CheckpointError(ProjectError, ValueError):
    """A checkpoint that cannot be read or does not belong to this run."""


def load_checkpoint(folder: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The best weights (float32 arrays by state-dict name) and the contents of ``training.json``; needs no torch.

    Raises:
        CheckpointError: when a file is missing or unreadable.
    """
    folder = Path(folder)
    if missing := [name for name in (WEIGHTS, INFO) if not (folder / name).exists()]:
        raise CheckpointError(f"{folder} is not a finished checkpoint: {', '.join(missing)} is missing")
    try:
        return safetensors.load_file(folder / WEIGHTS), json.loads((folder / INFO).read_text("utf-8"))
    except (SafetensorError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{folder} holds a damaged checkpoint: {error}") from None


def save_weights(network: nn.Module, folder: Path) -> None:
    """Write the network's weights as the best ones of this run."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().float().contiguous() for name, tensor in network.state_dict().items()}
    write_bytes(folder / WEIGHTS, save(tensors))


def save_last(
    folder: Path, network: nn.Module, optimizers: list[torch.optim.Optimizer], progress: dict[str, Any]
) -> None:
    """Replace ``last/`` with the present state; ``progress`` is plain JSON and identifies the run."""
    import torch
    from safetensors.torch import save_file

    tensors = {f"network.{k}": v.detach().contiguous() for k, v in network.state_dict().items()}
    tensors["rng"] = torch.get_rng_state()  # drawn from by dropout
    for i, optimizer in enumerate(optimizers):
        for parameter, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{parameter}.{key}": value.contiguous() for key, value in state.items()}

    def fill(partial: Path) -> None:
        save_file(tensors, partial / "state.safetensors")
        write_json(partial / "progress.json", progress)

    replace_directory(folder / LAST, fill)


def load_last(
    folder: Path, network: nn.Module, optimizers: list[torch.optim.Optimizer], identity: dict[str, Any]
) -> dict[str, Any] | None:
    """Restore the state saved by :func:`save_last` in place and return its progress, or None when there is none.

    Raises:
        CheckpointError: when the saved state is of another run (another corpus, tokenizer or configuration).
    """
    import torch
    from safetensors.torch import load_file

    source = folder / LAST
    if not (source / "progress.json").exists():
        return None
    progress = json.loads((source / "progress.json").read_text("utf-8"))
    if differing := sorted(key for key, value in identity.items() if progress.get("identity", {}).get(key) != value):
        raise CheckpointError(
            f"{source} was made by a run with another {', '.join(differing)}: train into an empty folder, or delete it"
        )
    tensors = load_file(source / "state.safetensors")
    network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
    torch.set_rng_state(tensors["rng"])
    states: list[dict[int, dict[str, torch.Tensor]]] = [defaultdict(dict) for _ in optimizers]
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, i, parameter, key = name.split(".", 3)
            states[int(i)][int(parameter)][key] = tensor
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return progress


def forget_last(folder: Path) -> None:
    """Remove what only an unfinished run needs, a killed process's half-written state too."""
    for left in (folder / LAST, *folder.glob(f".{LAST}.partial-*")):
        shutil.rmtree(left, ignore_errors=True)
