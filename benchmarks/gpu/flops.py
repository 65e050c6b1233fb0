"""How much arithmetic training is, by a formula, and how much the device can do, by its fastest product.

Counted is what the model needs, as in the utilisation of PaLM's paper (arXiv 2204.02311, appendix B): the products of
matrices for real tokens, three times each (forward, and both gradients), causal attention as a whole square. Left out
are padding, the optimisers' products, and all that is no product.

Legend as in model/network.py.
"""

import re
import time
from collections.abc import Sequence

import torch

from model.config import NetworkConfig
from model.tokenizer import Tokenizer
from model.training.batches import Batch

FORMULA = "6 x parameters of the matrices that a real token passes, and 12 x H x h for each pair in attention"
# Dense 16-bit TFLOP/s with sums in float32, by NVIDIA's data sheets.
DATA_SHEETS = {"H200": 989.0, "H100 80GB HBM3": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "T4": 65.0}
ROUNDS, SECONDS = 20, 2.0  # of measuring a product, whichever ends first


def training_flops(network: NetworkConfig, vocabulary: int, batches: Sequence[Batch]) -> int:
    """FLOPs of a step's forward and backward pass over the real tokens of some batches, on the CPU."""
    width, attended = network.d_model, network.heads * network.head_dim
    query_and_out, kv = 2 * width * attended, 2 * width * network.kv_heads * network.head_dim
    layer = query_and_out + kv + 2 * width * network.d_ff
    multiplied = 0
    for batch in batches:
        targets = (batch.inputs != Tokenizer.pad_id).sum(1)
        pairs = targets.square()
        multiplied += network.decoder_layers * layer * int(targets.sum()) + vocabulary * width * batch.target_tokens
        if batch.source is not None:
            sources = (batch.source != Tokenizer.pad_id).sum(1)
            multiplied += network.encoder_layers * layer * int(sources.sum())
            multiplied += network.encoder_layers * 2 * attended * int(sources.square().sum())
            multiplied += network.decoder_layers * (query_and_out * int(targets.sum()) + kv * int(sources.sum()))
            pairs = pairs + targets * sources
        multiplied += network.decoder_layers * 2 * attended * int(pairs.sum())
    return 6 * multiplied


def product_tflops(device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP/s of the fastest of some products of two square matrices of normal numbers."""
    size = 8192 if device.type == "cuda" else 768
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    least, began = float("inf"), time.perf_counter()
    for _ in range(ROUNDS):
        started = time.perf_counter()
        one @ other
        wait(device)
        least = min(least, time.perf_counter() - started)
        if time.perf_counter() - began > SECONDS:
            break
    return 2 * size**3 / least / 1e12


def data_sheet(name: str) -> float | None:
    """What the maker says of a GPU by this name, in TFLOP/s; None where it is not known here."""
    return next((tflops for known, tflops in DATA_SHEETS.items() if re.search(rf"\b{known}\b", name)), None)


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
