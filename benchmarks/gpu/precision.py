"""Which precision is chosen on this device, what each one is worth, and how often a step waits for the device."""

import collections
import itertools
import re
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.flops import data_sheet, product_tflops, wait
from benchmarks.gpu.folder import Prepared
from model.training.batches import Batch
from model.training.loop import Trainer, choose_device, choose_precision

Json = dict[str, Any]
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
WHY = {
    torch.bfloat16: "the device multiplies it by itself, and gradients in it need no scale",
    torch.float16: "the device does not multiply bfloat16 by itself; gradients are scaled",
    torch.float32: "the device multiplies neither half precision by itself",
}
MICRO_BATCHES = (1, 4)
WARM, TIMED = 4, 8  # steps
ROOT = Path(__file__).resolve().parents[2]


def measure(prepared: Prepared, seconds: float, work: Path) -> Json:
    """The device, the choice and its reason, TFLOP/s and tokens/s of each precision, waits in a step."""
    torch.manual_seed(0)
    device = choose_device(prepared.training)
    chosen = choose_precision(prepared.training.model_copy(update={"precision": "auto"}), device)
    batches = list(itertools.islice(prepared.examples(work).train_batches(pin=device.type == "cuda"), WARM + TIMED))
    found: Json = {
        "device": describe(device),
        "chosen": str(chosen).removeprefix("torch."),
        "why": WHY[chosen],
        "precisions": {},
    }
    for name, dtype in PRECISIONS.items():
        trainer = prepared.trainer(work, precision=name)
        found["precisions"][name] = {
            "product_tflops": round(product_tflops(device, dtype), 2),
            "tokens_per_second": round(_speed(trainer, batches)),
        }
    trainer = prepared.trainer(work, precision="auto")
    _speed(trainer, batches[:WARM])
    found["waits"] = {str(count): _waits(trainer, batches[:count]) for count in MICRO_BATCHES}
    return found


def describe(device: torch.device) -> Json:
    """What a figure depends on: the GPU, its memory, what drives it."""
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda}
    if device.type != "cuda":
        return {"name": device.type, "versions": versions}
    properties = torch.cuda.get_device_properties(device)
    versions["cudnn"] = str(torch.backends.cudnn.version())
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "data_sheet_tflops": data_sheet(properties.name),
        "versions": versions,
    }


def _speed(trainer: Trainer, batches: list[Batch]) -> float:
    """Tokens per second of steps over the batches after the first ones."""
    for batch in batches[:WARM]:
        trainer.update([batch], 0.1)
    wait(trainer.device)
    began = time.perf_counter()
    for batch in batches[WARM:]:
        trainer.update([batch], 0.1)
    wait(trainer.device)
    return sum(batch.tokens for batch in batches[WARM:]) / (time.perf_counter() - began)


def _waits(trainer: Trainer, micro_batches: list[Batch]) -> Json | None:
    """How often one step over some micro-batches waits for the GPU, by line of code; None without a GPU.

    PyTorch warns of every call that does, where it is asked to.
    """
    if trainer.device.type != "cuda":
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            trainer.update(micro_batches, 0.1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    calls = [warning for warning in told if re.search("synchroniz", str(warning.message))]
    lines = collections.Counter(f"{_short(warning.filename)}:{warning.lineno}" for warning in calls)
    return {"calls": len(calls), "lines": dict(lines.most_common(12))}


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else "/".join(path.parts[-2:])
