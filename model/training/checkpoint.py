"""A trained network's files; needs no torch to be read, and nothing is pickled.

A training folder holds ``model.safetensors`` (the best weights so far), ``curves.jsonl`` and, once training has ended,
``training.json`` and ``tokenizer/``, the tokenizer that the network knows. While training runs it holds ``last/`` to go
on from (:mod:`model.training.saved`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from model.errors import ProjectError
from model.files import replace_directory, sha256_file, write_bytes, write_json
from model.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = "model.safetensors"
INFO = "training.json"
TOKENIZER = "tokenizer"


class CheckpointError(ProjectError, ValueError):
    """A checkpoint that cannot be read or does not belong to this run."""


def load_checkpoint(folder: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The best weights (float32 arrays by state-dict name) and the contents of ``training.json``; needs no torch.

    Raises:
        CheckpointError: when a file is missing or unreadable, or the weights are not those that were written.
    """
    folder = Path(folder)
    if missing := [name for name in (WEIGHTS, INFO) if not (folder / name).exists()]:
        raise CheckpointError(f"{folder} is not a finished checkpoint: {', '.join(missing)} is missing")
    try:
        info = json.loads((folder / INFO).read_text("utf-8"))
        known = info.get("sha256", {}).get("weights")  # training.json of earlier releases has none
        if known and (found := sha256_file(folder / WEIGHTS)) != known:
            raise ValueError(f"{WEIGHTS}: sha256 {found}, {INFO} says {known}")
        return safetensors.load_file(folder / WEIGHTS), info
    except (SafetensorError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder} holds a damaged checkpoint: {error}") from None


def save_weights(network: nn.Module, folder: Path) -> None:
    """Write the network's weights as the best ones of this run."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().float().contiguous() for name, tensor in network.state_dict().items()}
    write_bytes(folder / WEIGHTS, save(tensors))


def finish(folder: Path, info: dict[str, Any], tokenizer: Tokenizer, files: Path) -> dict[str, Any]:
    """Make a training folder a checkpoint: ``training.json`` of ``info`` is written last, and returned.

    Args:
        files: folder of the tokenizer, whose files are copied.
    """

    def fill(partial: Path) -> None:
        for name in tokenizer.files:
            shutil.copyfile(files / name, partial / name)

    replace_directory(folder / TOKENIZER, fill)
    info = {**info, "sha256": {"weights": sha256_file(folder / WEIGHTS), "tokenizer": tokenizer.content_hash()}}
    write_json(folder / INFO, info)
    return info
