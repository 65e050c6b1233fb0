"""The state of an unfinished run, which goes on from it exactly where it was, whatever ended it and when.

    last/step-00000200/manifest.json       sizes and hashes of the others
                       state.safetensors   weights, optimisers' moments, random states
                       progress.json       where the run is, and what identifies it
                       model.safetensors   the best weights so far, once there are some

A checkpoint is written beside its place, forced to disk and renamed into it. The last two are kept. Each is held
against its manifest before it is used; one that is damaged is passed over, and the one before it taken. A copy of all
this elsewhere is :mod:`model.training.remote`'s.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.files import replace_directory, sha256_file, write_bytes, write_json
from model.settings import differing
from model.training.checkpoint import WEIGHTS, CheckpointError

if TYPE_CHECKING:
    import torch
    from torch import nn

LAST = "last"
STATE, PROGRESS, MANIFEST = "state.safetensors", "progress.json", "manifest.json"
UPLOAD = ".upload-"  # begins the name of a folder whose files are being sent elsewhere
KEPT = 2


@dataclass
class TrainState:
    """Where a run is; plain numbers, stored with every checkpoint. Losses are in nats per token, chrF up to 100."""

    step: int = 0
    tokens: int = 0
    target_tokens: int = 0
    seconds: float = 0.0
    train_loss: float = math.nan
    valid_loss: float = math.nan
    best_loss: float = math.inf  # of the best weights, whatever they are the best by
    best_chrf: float = -1.0  # likewise; -1 where chrF is not what they are chosen by
    best_step: int = 0
    stale: int = 0  # validations since the best one


def save(
    out: Path, step: int, network: nn.Module, optimizers: list[torch.optim.Optimizer], progress: dict[str, Any]
) -> None:
    """Keep the present state as the checkpoint of ``step``; ``progress`` is plain JSON and identifies the run."""
    from safetensors.torch import save_file

    tensors = state_of(network, optimizers)

    def fill(partial: Path) -> None:
        save_file(tensors, partial / STATE)
        (partial / STATE).chmod(0o644)  # the library makes it private
        write_json(partial / PROGRESS, progress)
        if (out / WEIGHTS).exists():
            shutil.copyfile(out / WEIGHTS, partial / WEIGHTS)
        files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in partial.iterdir()}
        write_json(partial / MANIFEST, {"files": files})

    replace_directory(place(out, step), fill)
    for older in kept(out)[:-KEPT]:
        shutil.rmtree(older)


def state_of(network: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """Weights, optimisers' moments and random states, by their names in a checkpoint."""
    import torch

    tensors = {f"network.{k}": v.detach().contiguous() for k, v in network.state_dict().items()}
    tensors["rng.cpu"] = torch.get_rng_state()  # drawn from by dropout
    if (device := next(network.parameters()).device).type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(device)
    for i, optimizer in enumerate(optimizers):
        for parameter, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{parameter}.{key}": value.contiguous() for key, value in state.items()}
    return tensors


def restore(
    out: Path, network: nn.Module, optimizers: list[torch.optim.Optimizer], identity: dict[str, Any]
) -> dict[str, Any] | None:
    """Restore the newest whole checkpoint in place and return its progress, or None when there is none.

    Raises:
        CheckpointError: when it is of another run (another corpus, tokenizer or configuration), or of other code.
    """
    from safetensors.torch import load_file

    there = kept(out)
    for folder in reversed(there):
        if problem := damage(folder):
            print(f"warning: checkpoint {folder} is damaged, and passed over: {problem}", file=sys.stderr, flush=True)
            shutil.rmtree(folder)  # else it would be the newest of those to be kept
            continue
        progress: dict[str, Any] = json.loads((folder / PROGRESS).read_text("utf-8"))
        if other := [*differing(progress.get("identity", {}), identity)]:
            raise CheckpointError(
                f"{folder} was made by a run with another {', '.join(other)}: train into an empty folder, or delete it"
            )
        try:
            set_state(load_file(folder / STATE), network, optimizers)
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{folder} was made by other code ({str(error).splitlines()[0]}): go on with the code that made it, or "
                "train into an empty folder"
            ) from None
        if (folder / WEIGHTS).exists():
            write_bytes(out / WEIGHTS, (folder / WEIGHTS).read_bytes())
        else:
            (out / WEIGHTS).unlink(missing_ok=True)
        return progress
    if there:
        told = f"warning: no whole checkpoint is left in {out / LAST}: training begins at its first step"
        print(f"{told}, unless one lies elsewhere", file=sys.stderr, flush=True)
    return None


def set_state(tensors: dict[str, torch.Tensor], network: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    """Put what :func:`state_of` has found in its place."""
    import torch

    network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
    torch.set_rng_state(tensors["rng.cpu"])
    device = next(network.parameters()).device
    if device.type == "cuda" and "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"], device)
    states: list[dict[int, dict[str, torch.Tensor]]] = [defaultdict(dict) for _ in optimizers]
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, i, parameter, key = name.split(".", 3)
            states[int(i)][int(parameter)][key] = tensor
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def place(out: Path, step: int) -> Path:
    """The folder of the checkpoint of a step."""
    return out / LAST / f"step-{step:08}"


def kept(out: Path) -> list[Path]:
    """The folders of the checkpoints in a training folder, the oldest first."""
    return sorted((out / LAST).glob("step-*"))


def listed(folder: Path) -> dict[str, dict[str, Any]]:
    """The files of a checkpoint, by its manifest.

    Raises:
        OSError, ValueError: where it has none, or a damaged one.
    """
    found = json.loads((folder / MANIFEST).read_text("utf-8"))
    files = found.get("files") if isinstance(found, dict) else None
    if not isinstance(files, dict) or not {STATE, PROGRESS} <= files.keys() <= {STATE, PROGRESS, WEIGHTS}:
        raise ValueError(f"{MANIFEST} does not list a checkpoint's files")
    return files


def damage(folder: Path) -> str:
    """What is wrong with a checkpoint's files, as its manifest has them; empty where nothing is."""
    try:
        for name, known in listed(folder).items():
            if (size := (folder / name).stat().st_size) != known["bytes"]:
                return f"{name}: {size:,} bytes, {MANIFEST} says {known['bytes']:,}"
            if (found := sha256_file(folder / name)) != known["sha256"]:
                return f"{name}: sha256 {found}, {MANIFEST} says {known['sha256']}"
    except json.JSONDecodeError as error:
        return f"{MANIFEST}: {error}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return str(error)
    return ""


def tidy(out: Path) -> None:
    """Remove what a killed process has left half written."""
    for pattern in (".*.draft", ".*.partial-*", f"{UPLOAD}*", f"{LAST}/.*.partial-*"):
        for left in out.glob(pattern):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def forget(out: Path) -> None:
    """Remove what only an unfinished run needs."""
    tidy(out)
    shutil.rmtree(out / LAST, ignore_errors=True)
