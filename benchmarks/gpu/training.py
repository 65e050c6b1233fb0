"""Training for some minutes with a profile's settings, by the product's own loop, to the end of its schedule.

The number of steps is fitted to the time: by the speed of the first steps, of a validation and of a checkpoint. The
schedule is fitted to the steps, so that the learning rate falls to its end.
"""

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.flops import FORMULA, data_sheet, product_tflops, training_flops, wait
from benchmarks.gpu.folder import Prepared
from model.config import TrainingConfig
from model.errors import Terminated
from model.training.batches import Batch
from model.training.loop import Trainer
from model.training.saved import save
from model.training.tracking import CURVE

SHARE = 0.06  # of the time is spent on measuring the first steps, of which the first half warms up
SAMPLE = 64  # batches by which arithmetic is counted
SPARE = 0.03  # of the time, for what is beside the steps
LEAST_STEPS = 20
POINTS = 40  # of the curve that are kept

Json = dict[str, Any]


def measure(prepared: Prepared, seconds: float, work: Path) -> Json:
    """What training did in ``seconds``, all that comes before it included.

    A run that is told to end before the end of its schedule, because it became slower, says so.
    """
    began = time.perf_counter()
    torch.manual_seed(prepared.training.seed)
    trainer = prepared.trainer(work / "pace")
    device, dtype = trainer.device, trainer.dtype
    peak = product_tflops(device, dtype)
    pace = _pace(trainer, SHARE * seconds, work / "pace")
    sample = list(itertools.islice(trainer.examples.train_batches(), SAMPLE))
    flops = training_flops(prepared.network, trainer.examples.tokenizer.vocab_size, sample)
    a_token = flops / sum(batch.tokens for batch in sample)
    del trainer
    left = seconds * (1 - SPARE) - (time.perf_counter() - began)
    steps = fitted_steps(pace, left, prepared.training)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    out = work / "run"
    try:
        info, ended = prepared.train(out, steps=steps), "at the end of its schedule"
    except Terminated as error:
        info, ended = {}, f"before the end of its schedule, in time: {error}"
    points = [json.loads(line) for line in (out / CURVE).read_text("utf-8").splitlines()]
    last = points[-1]
    speed = last["tokens"] / last["seconds"]
    tflops = speed * a_token / 1e12
    maker = data_sheet(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    return {
        "profile": prepared.profile,
        "precision": str(dtype).removeprefix("torch."),
        "parameters": info.get("parameters"),
        "batch_tokens": prepared.training.batch_tokens,
        "steps": last["step"],
        "planned_steps": steps,
        "ended": ended,
        "complete": last["step"] == steps,
        "seconds": last["seconds"],
        "tokens": last["tokens"],
        "tokens_per_second": round(speed),
        "pace": pace,
        "flops": {
            "formula": FORMULA,
            "per_token": round(a_token),
            "tflops": tflops,
            "product_tflops": peak,
            "share_of_product": tflops / peak,
            "data_sheet_tflops": maker,
            "share_of_data_sheet": tflops / maker if maker else None,
        },
        "memory_mb": _memory(device),
        "curve": _thinned([_point(point, "loss") for point in points if "loss" in point]),
        "validation": _thinned([_point(point, "valid_loss") for point in points if "valid_loss" in point]),
    }


def fitted_steps(pace: Json, seconds: float, config: TrainingConfig) -> int:
    """As many steps as there is time for, with their validations and checkpoints; enough for a schedule at least."""
    validation = pace["validation_seconds"] / config.eval_every
    checkpoint = pace["checkpoint_seconds"] / config.save_every
    return max(
        LEAST_STEPS, int((seconds - pace["validation_seconds"]) / (pace["step_seconds"] + validation + checkpoint))
    )


def _pace(trainer: Trainer, seconds: float, out: Path) -> Json:
    """Seconds of a step, of which some wait for their batches, of a validation and of a checkpoint."""
    batches = trainer.examples.train_batches(pin=trainer.device.type == "cuda")
    _steps(trainer, batches, seconds / 2)
    found = _steps(trainer, batches, seconds / 2)
    started = time.perf_counter()
    with torch.no_grad():
        for batch in trainer.examples.valid_batches():
            trainer.loss(batch).item()
    validated = time.perf_counter()
    save(out, 0, trainer.network, trainer.optimizers, {})
    saved = time.perf_counter()
    return {**found, "validation_seconds": validated - started, "checkpoint_seconds": saved - validated}


def _steps(trainer: Trainer, batches: Iterator[Batch], seconds: float) -> Json:
    """How fast steps were for so many seconds, and for two steps at least."""
    steps, waited, tokens, began = 0, 0.0, trainer.state.tokens, time.perf_counter()
    while steps < 2 or time.perf_counter() - began < seconds:
        asked = time.perf_counter()
        given = list(itertools.islice(batches, trainer.config.grad_accum_steps))
        waited += time.perf_counter() - asked
        trainer.update(given, 0.1)
        steps += 1
    wait(trainer.device)
    spent = time.perf_counter() - began
    return {
        "steps": steps,
        "step_seconds": spent / steps,
        "tokens_per_second": round((trainer.state.tokens - tokens) / spent),
        "share_waiting_for_batches": waited / spent,
    }


def _point(point: Json, key: str) -> Json:
    return {name: point[name] for name in ("step", "tokens", "seconds", key)}


def _thinned(points: list[Json]) -> list[Json]:
    """Some of the points, evenly, the first and the last among them."""
    count = min(len(points), POINTS)
    return [points[round(place * (len(points) - 1) / max(1, count - 1))] for place in range(count)]


def _memory(device: torch.device) -> Json | None:
    """The most that the run took of a GPU: by its tensors, and with what PyTorch keeps for the next ones."""
    if device.type != "cuda":
        return None
    kinds = {"allocated": torch.cuda.max_memory_allocated(device), "reserved": torch.cuda.max_memory_reserved(device)}
    return {kind: round(value / 1e6) for kind, value in kinds.items()}
