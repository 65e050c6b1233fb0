"""The network's layers compiled by ``torch.compile``, where a training is long enough to pay for it.

What is no matrix product, a third of a step's time in bfloat16, is then a few loops instead of many passes over memory.
The layers of a side are alike and share their code, whatever the lengths of a batch: two compilations for an
encoder-decoder. They are made at a start by one and the same batch, so that a run that goes on has the code that it
had, and comes to the same weights to the bit. On a GPU nothing is compiled yet: that has not been tried.
"""

import shutil
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from model.network import Transformer
from model.tokenizer import Tokenizer
from model.training.batches import Batch

# Operations of a whole training, 6 for each weight and token, from which on it pays: on two cores some 20 minutes, of
# which it saves 3 and takes 1.
LONG = 5e14
COMPILERS = ("g++", "clang++")
ROWS, SOURCE, TARGET = 96, 48, 40  # of the batch that is compiled with: three sizes, for equal ones are taken for one


def pays(choice: str, parameters: int, tokens: int, device: torch.device) -> bool:
    """Whether to compile a training of so many weights and padded tokens on both sides; ``choice`` is the setting."""
    if choice == "auto":
        return device.type == "cpu" and 6.0 * parameters * tokens >= LONG
    return choice == "on"


def compile_layers(network: Transformer, loss: Callable[[Batch], Tensor]) -> float:
    """Compile the layers for training, in place; the seconds that it took, 0 where it did not work, which is told.

    Args:
        loss: of a batch, through the network.
    """
    if not any(map(shutil.which, COMPILERS)):
        print(f"compile: there is no C++ compiler ({COMPILERS[0]}) here; training goes on without", flush=True)
        return 0.0
    began, layers = time.perf_counter(), network.layers()
    print("compile: once for this run, a minute or two", flush=True)
    for layer in layers:
        layer.compile(dynamic=True)
    most = network.config.max_positions
    source, ids = (
        np.full((ROWS, min(size, most - less)), Tokenizer.pad_id + 1) for size, less in ((SOURCE, 0), (TARGET, 1))
    )
    batch = Batch.of(source if network.encoder else None, ids, ids)
    network.train()
    try:
        with torch.random.fork_rng([]):
            loss(batch).backward()
    except (RuntimeError, OSError) as error:  # what is wrong of a compiler comes as one of these
        for layer in layers:
            layer._compiled_call_impl = None
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        print(f"compile: did not work ({reason}); training goes on without", flush=True)
        return 0.0
    finally:
        network.zero_grad(set_to_none=True)
    took = time.perf_counter() - began
    print(f"compile: done in {took:.0f} s", flush=True)
    return took
