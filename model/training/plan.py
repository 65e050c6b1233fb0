"""What a training will take, told before its first step: tokens, passes and memory; and its time, after a few steps.

Memory is not guessed at by the network's shape: the network itself is run on one row and on two, as long as the longest
one, and what autograd keeps of them for the backward pass is counted. That grows with the rows and with nothing else,
so the biggest batch is known by it, in whatever precision and on whatever device. What cannot fit is refused here, with
what to set instead; the system would end the process without a word, an hour later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.config import NetworkConfig, TrainingConfig
from model.errors import ProjectError
from model.memory import free_memory, held_memory
from model.network import Transformer, count_parameters
from model.tokenizer import Tokenizer
from model.training.batches import Batch, Examples
from model.training.muon import Muon

SMALLER = "make network.d_model, network.d_ff or the layers smaller, or the tokenizer's vocab_size"
PACED_STEPS = 10  # by which the time is told
WARMING_STEPS = 3  # before them, which are slower
LEAST_STATE = 1  # numbers that an optimiser keeps of a parameter: Muon's momentum; AdamW keeps two
WORKING = 14  # bytes for each number of the matrices that Muon turns at a time: two copies, and three in its products
FLOAT = 4  # bytes of a weight, of its gradient, and of a number that an optimiser keeps


class PlanError(ProjectError, ValueError):
    """A training that does not fit into the memory that there is; the message says what to set instead."""


@dataclass(frozen=True)
class Plan:
    """What a training will take; memory in bytes.

    Attributes:
        tokens_per_pass: on both sides, by the first batches.
        batch: rows and positions of the biggest batch.
        held: what the process holds already, or a GPU for it, with the weights.
        optimizer: what the optimisers keep.
        activations: what autograd keeps of the biggest batch until its backward pass.
        working: what an optimiser works with, or a checkpoint's copy; after the activations and yet beside them, for a
            CPU's heap keeps what was freed.
        free: what may still be taken, None where that cannot be known.
    """

    parameters: int
    steps: int
    passes: float
    tokens_per_pass: int
    batch: tuple[int, int]
    held: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    working: int
    free: int | None

    @property
    def more(self) -> int:
        """What training will take beside what is held."""
        return self.gradients + self.optimizer + self.activations + self.working

    def told(self) -> dict[str, Any]:
        """For ``training.json``."""
        return {**asdict(self), "batch": list(self.batch), "peak": self.held + self.more}

    def __str__(self) -> str:
        rows, positions = self.batch
        free = "" if self.free is None else f", {_size(self.free)} more are free"
        return (
            f"plan: {self.passes:.3g} passes over {self.tokens_per_pass:,} tokens each\n"
            f"plan: about {_size(self.held + self.more)} of memory at its peak: {_size(self.held)} are held, with "
            f"{_size(self.weights)} of weights; gradients {_size(self.gradients)}, optimizers "
            f"{_size(self.optimizer)}, working copies {_size(self.working)}, activations {_size(self.activations)} for "
            f"{rows} rows of {positions} tokens{free}"
        )


def must_hold(network: NetworkConfig, vocab_size: int, device: torch.device) -> None:
    """Refuse a network whose weights, gradients and optimisers alone do not fit, before it is made.

    Raises:
        PlanError: where it does not.
    """
    with torch.device("meta"):
        parameters = count_parameters(Transformer(network, vocab_size))
    least, free = parameters * FLOAT * (2 + LEAST_STATE), _free(device)
    if free is not None and least > free:
        raise PlanError(
            f"a network of {parameters:,} parameters takes {_size(least)} with its gradients and optimizers alone, and "
            f"{_size(free)} are free {_where(device)}: {SMALLER}, or {_elsewhere(device)}"
        )


def make_plan(
    examples: Examples,
    network: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    loss: Callable[[Batch], Tensor],
    device: torch.device,
) -> Plan:
    """Plan the training of a network, before its first step or before those that a resumed run has still to make.

    Args:
        loss: of a batch, through the network.

    Raises:
        PlanError: where it does not fit.
    """
    config, extent = examples.config, examples.extent()
    parameters, rows = count_parameters(network), max(1, config.batch_tokens // extent.widest)
    weights, (state, working) = parameters * FLOAT, _optimized(optimizers)
    # A resumed run holds some of it already.
    loaded = sum(tensor.nbytes for each in optimizers for kept in each.state.values() for tensor in kept.values())
    held = held_memory()[0] if device.type == "cpu" else torch.cuda.memory_allocated(device)
    free = _free(device)
    network.train()
    source = examples.network.family == "seq2seq"
    one, two = (_kept(network, loss, count, extent.widest, source, device) for count in (1, 2))
    row = two - one
    plan = Plan(
        parameters=parameters,
        steps=config.steps,
        passes=config.steps * config.grad_accum_steps / extent.batches,
        tokens_per_pass=round(extent.tokens),
        batch=(rows, extent.widest),
        held=held - loaded,
        weights=weights,
        gradients=weights,
        optimizer=state,
        activations=one + row * (rows - 1),
        working=max(working, weights + state),
        free=None if free is None else free + loaded,
    )
    if plan.free is not None and plan.more > plan.free:
        raise PlanError(_refused(plan, config, row, device))
    return plan


def _optimized(optimizers: Sequence[torch.optim.Optimizer]) -> tuple[int, int]:
    """Bytes that the optimisers keep, and that one of them works with at most."""
    state, working = 0, 0
    for optimizer in optimizers:
        given = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        numbers = sum(parameter.numel() for parameter in given)
        if isinstance(optimizer, Muon):
            alike: dict[tuple[int, ...], int] = {}
            for matrix in given:
                shape = tuple(sorted(matrix.shape))
                alike[shape] = alike.get(shape, 0) + matrix.numel() * WORKING
            state, working = state + numbers * FLOAT, max(working, *alike.values())
        else:
            state += 2 * numbers * FLOAT
    return state, working


def _kept(
    network: nn.Module, loss: Callable[[Batch], Tensor], rows: int, length: int, source: bool, device: torch.device
) -> int:
    """Bytes that autograd keeps of a forward pass, but for the weights themselves."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    found: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor  # held until the end, so that no two have the same place

    ids = np.full((rows, length), Tokenizer.pad_id + 1)
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        whole = loss(Batch.of(ids if source else None, ids, ids))
    del whole
    return sum(found.values())


class Pace:
    """Tells once, when a few steps have been made, how long all the others will take.

    Attributes:
        seconds: of the whole run, as it was told; None before that.
    """

    def __init__(self, steps: int) -> None:
        self.seconds: float | None = None
        self._steps, self._made, self._began = steps, 0, 0.0

    def stepped(self, step: int, seconds: float) -> None:
        """Step number ``step`` has ended, so many seconds into the run."""
        self._made += 1
        if self._made == WARMING_STEPS:
            self._began = seconds
        if self._made == WARMING_STEPS + PACED_STEPS:
            each, left = (seconds - self._began) / PACED_STEPS, self._steps - step
            self.seconds = round(seconds + each * left, 2)
            print(f"plan: {each:.3g} s a step, {left:,} more steps in about {_time(each * left)}", flush=True)


def peak_memory(device: torch.device) -> int:
    """Bytes that this process has held at most so far, on the device that it trains on."""
    return held_memory()[1] if device.type == "cpu" else torch.cuda.max_memory_allocated(device)


def _refused(plan: Plan, config: TrainingConfig, row: int, device: torch.device) -> str:
    """Why it does not fit, and what would."""
    rows, positions = plan.batch
    free = plan.free or 0
    said = (
        f"training would take {_size(plan.more)} of memory beside what it holds, and {_size(free)} are free "
        f"{_where(device)}: {_size(plan.activations)} of them for {rows} rows of {positions} tokens at a time"
    )
    fitting = rows - -(-(plan.more - free) // max(1, row))
    if fitting < 1:
        return f"{said}. One row is too much already: {SMALLER}, or network.max_positions, or {_elsewhere(device)}"
    tokens = fitting * positions
    steps = -(-config.batch_tokens * config.grad_accum_steps // tokens)
    return (
        f"{said}. training.batch_tokens={tokens} with training.grad_accum_steps={steps} makes steps of about the same "
        f"size that fit; or {_elsewhere(device)}"
    )


def _free(device: torch.device) -> int | None:
    if device.type == "cpu":
        return free_memory()
    # What PyTorch has taken and does not use is not free to others, and is to us.
    spare = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + spare


def _where(device: torch.device) -> str:
    return "within the limits of this process" if device.type == "cpu" else "on the GPU"


def _elsewhere(device: torch.device) -> str:
    if device.type == "cpu":
        return "give it more memory (on a cluster, resources.train_memory)"
    return "take a larger GPU"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _time(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
