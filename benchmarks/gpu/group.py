"""Data-parallel training as far as one GPU can show it.

One process is begun as torchrun does it, and must learn what it learns without. Then a process group of one is
made, by NCCL where there is a GPU, and gradients go through it the way that training sends them: a sum over one process
must leave them as they are.
"""

import contextlib
import importlib
import importlib.util
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import distributed

from benchmarks.gpu.folder import Prepared
from benchmarks.gpu.resume import REPEATING

RUN = {"steps": 12, "eval_every": 12, "save_every": 12}
BATCH_TOKENS = 4096
RANKS = "model.training.ranks"  # several processes that train one network
ABSENT = "not in this version"
TOLERANCE = 1e-5  # of the difference's norm to the gradients' own: they are weighted by tokens, and back

Json = dict[str, Any]


def measure(prepared: Prepared, seconds: float, work: Path) -> Json:
    """Whether training learns the same under torchrun, and what a group of one makes of gradients."""
    config = {**RUN, "batch_tokens": min(BATCH_TOKENS, prepared.training.batch_tokens)}
    os.environ.update(REPEATING)
    torch.use_deterministic_algorithms(True, warn_only=True)
    alone = prepared.train(work / "alone", **config)
    with patch.dict(os.environ, _torchrun()):
        begun = prepared.train(work / "begun", **config)
    same = alone["sha256"]["weights"] == begun["sha256"]["weights"]
    found: Json = {"same_weights_under_torchrun": same, "status": ABSENT, "within": same}
    if importlib.util.find_spec(RANKS) is None:
        return found
    with _group() as backend:
        error = _summed(prepared, work, config["batch_tokens"])
    told = "as they are" if error <= TOLERANCE else "OTHERWISE"
    return {
        **found,
        "status": f"gradients through a group of one by {backend}: {told}",
        "backend": backend,
        "gradient_error": error,
        "within": same and error <= TOLERANCE,
    }


def _summed(prepared: Prepared, work: Path, batch_tokens: int) -> float:
    """How far gradients that went through the group are from what they were."""
    trainer = prepared.trainer(work, batch_tokens=batch_tokens, precision="fp32")
    batch = next(trainer.examples.train_batches())
    loss = trainer.loss(batch) / batch.target_tokens
    loss.backward()
    gradients = [each.grad for each in trainer.network.parameters() if each.grad is not None]
    before = torch.cat([gradient.flatten() for gradient in gradients]).clone()
    # It says that there are two, for one alone would not ask the group; which has one, whose sum is its own.
    ranks = importlib.import_module(RANKS).Ranks(rank=0, size=2)
    ranks.mean(trainer.network, loss.detach(), batch.target_tokens, batch.tokens)
    after = torch.cat([gradient.flatten() for gradient in gradients])
    return ((after - before).norm() / before.norm()).item()


@contextlib.contextmanager
def _group() -> Iterator[str]:
    """A process group of this process alone; the name of its backend."""
    backend = "nccl" if torch.cuda.is_available() and distributed.is_nccl_available() else "gloo"
    with patch.dict(os.environ, _torchrun()):
        distributed.init_process_group("cpu:gloo,cuda:nccl" if backend == "nccl" else backend)
        try:
            yield backend
        finally:
            distributed.destroy_process_group()


def _torchrun() -> dict[str, str]:
    """What torchrun tells the one process that it begins."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one = dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), "1")
    first = dict.fromkeys(("RANK", "LOCAL_RANK", "GROUP_RANK"), "0")
    return {**one, **first, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
