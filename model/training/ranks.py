"""Several processes train one network: each has its share of a step's micro-batches, and all make the same step.

torchrun starts them, or :mod:`model.training.launch`, on one machine or several, and tells each who it is by the
variables RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE. Micro-batches are dealt out in turn, and once a step the
gradients of all, weighted by their tokens, are summed in one buffer, as accumulation sums them in one process. So the
number of processes changes no more than the order in which floating-point numbers are added, and a checkpoint, which
the first of them writes, knows nothing of it.

It is not DistributedDataParallel, which sums in every backward pass that goes through its own ``forward``. Our loss
takes the features and the embedding (model/training/loss.py); a network of this size is one buffer of some 36 MB; and
its weights are the tokens of all, which nobody knows before.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.errors import ProjectError

PATIENCE = timedelta(hours=1)  # with a process that is alive; one that has ended is noticed at once
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


class RanksError(ProjectError, RuntimeError):
    """Processes that cannot train together, or no longer; the message says why and what to change."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together: alone, where nothing else is said.

    Attributes:
        rank: its number, of ``size``.
        local: its number among those on its machine, of ``beside``; and that of its GPU.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    beside: int = 1

    @property
    def first(self) -> bool:
        """Whether it is the one that writes and tells."""
        return self.rank == 0

    def mean(self, network: nn.Module, loss: Tensor, tokens: int, *counts: int) -> list[float]:
        """Gradients become the mean over the tokens of all processes.

        Args:
            network: every parameter has its gradient, a mean over this process's own tokens.
            loss: float32 scalar, the same mean, on the device.
            tokens: which it has.
            counts: what else is to be summed, each below 2^24 in all.

        Returns:
            The loss and, summed, tokens and counts: one wait for the device a step.
        """
        if self.size == 1:
            return [loss.item(), tokens, *counts]
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        means = sum(gradient.numel() for gradient in gradients) + 1
        sums = torch.tensor([tokens, *counts], dtype=torch.float32).to(loss.device, non_blocking=True)
        flat = torch.cat([*(gradient.ravel() for gradient in gradients), loss[None], sums])
        flat[:means] *= tokens
        with self._heard():
            dist.all_reduce(flat)
        flat[:means] /= flat[means]
        parts = flat[: means - 1].split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return flat[means - 1 :].tolist()

    def sum(self, *numbers: float) -> list[float]:
        """The sum of each number over all processes, in float64."""
        return self._reduced(torch.tensor(numbers, dtype=torch.float64), dist.ReduceOp.SUM).tolist()

    def any(self, number: int) -> int:
        """The greatest of all processes' numbers: the signal that any was asked to end by."""
        return int(self._reduced(torch.tensor([number]), dist.ReduceOp.MAX))

    def wait(self) -> None:
        """Until all are here."""
        self.any(0)

    def turns(self) -> Iterator[bool]:
        """The first process, then the first of each machine, then all others: whether it has had its turn.

        So what the first ones leave in a folder is found by the others, whether machines share it or not.
        """
        for here in (self.first, self.local == 0, True):
            yield here
            self.wait()

    def share(self, data: bytes) -> bytes:
        """What the first process gives."""
        if self.size == 1:
            return data
        length = torch.tensor([len(data)])
        with self._heard():
            dist.broadcast(length, 0)
            sent = torch.frombuffer(bytearray(data), dtype=torch.uint8) if self.first else _empty(int(length))
            dist.broadcast(sent, 0)
        return sent.numpy().tobytes()

    def _reduced(self, numbers: Tensor, how: dist.ReduceOp.RedOpType) -> Tensor:
        if self.size > 1:
            with self._heard():
                dist.all_reduce(numbers, how)
        return numbers

    @contextlib.contextmanager
    def _heard(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise RanksError(
                f"process {self.rank} of {self.size} waits for another one in vain, whose own words tell why "
                f"({str(error).splitlines()[0][:200]}): start all of them again, and training goes on"
            ) from None


ALONE = Ranks()


def _empty(length: int) -> Tensor:
    return torch.empty(length, dtype=torch.uint8)


@contextlib.contextmanager
def joined(micro_batches: int) -> Iterator[Ranks]:
    """This process among those that it was started with; alone without WORLD_SIZE. Only the first is heard.

    Args:
        micro_batches: of a step, which are dealt out.

    Raises:
        RanksError: where the others cannot be reached, or a step cannot be shared out among them.
    """
    ranks = started()
    if ranks.size == 1:
        yield ranks
        return
    if micro_batches % ranks.size:
        raise RanksError(
            f"training.grad_accum_steps={micro_batches} cannot be shared out among {ranks.size} processes: make it a "
            "multiple of their number, and training.batch_tokens as much smaller"
        )
    # What lies on a GPU goes by NCCL, everything else, such as a word between processes, by gloo.
    both = torch.cuda.is_available() and dist.is_nccl_available()
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if both else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise RanksError(
            f"process {ranks.rank} of {ranks.size} does not find the others at MASTER_ADDR and MASTER_PORT "
            f"({str(error).splitlines()[0][:200]}): start them with torchrun"
        ) from None
    try:
        with contextlib.ExitStack() as quiet:
            if not ranks.first:
                nowhere = quiet.enter_context(open(os.devnull, "w", encoding="utf-8"))
                quiet.enter_context(contextlib.redirect_stdout(nowhere))
            yield ranks
    finally:
        dist.destroy_process_group()


def started(environment: Mapping[str, str] = os.environ) -> Ranks:
    """Who this process is, by its environment.

    Raises:
        RanksError: where a part of it is missing.
    """
    if environment.get("WORLD_SIZE", "1") == "1":
        return Ranks()
    if missing := [name for name in VARIABLES if not environment.get(name, "").isdigit()]:
        raise RanksError(
            f"WORLD_SIZE={environment['WORLD_SIZE']} says that several processes train together, and "
            f"{', '.join(missing)} is not set to a number: start them with torchrun, or unset WORLD_SIZE to train alone"
        )
    rank, size, local, beside = (int(environment[name]) for name in VARIABLES)
    return Ranks(rank, size, local, beside)
