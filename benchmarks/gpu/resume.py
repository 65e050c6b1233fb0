"""A short run that is killed and goes on makes the same weights as one left in peace, where nothing is left to chance.

It is trained in fp16 and with dropout, so that the scale of the gradients and the GPU's own random state have to come
back with everything else. PyTorch is asked for algorithms that repeat themselves; whether those that it takes by
itself do, is told beside it.
"""

import json
import os
import re
import signal
import time
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.gpu.folder import Prepared
from benchmarks.gpu.processes import Part
from benchmarks.machine import BenchmarkError
from model.training.tracking import CURVE

RUN: dict[str, Any] = {"steps": 24, "save_every": 5, "eval_every": 8, "grad_accum_steps": 2, "precision": "fp16"}
DROPOUT = 0.1
BATCH_TOKENS = 4096
KILLED_AFTER = 13  # steps, between two checkpoints
REPEATING = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # without it cuBLAS does not

Json = dict[str, Any]


def measure(prepared: Prepared, seconds: float, work: Path) -> Json:
    """Hashes of the weights of a run in peace and of one that was killed, and after which step it went on."""
    deadline = time.monotonic() + seconds
    peace = Part("resume.short_run", prepared, seconds, work / "peace", REPEATING).figures(seconds)
    Part("resume.killed_run", prepared, seconds, work / "killed", REPEATING).killed(deadline - time.monotonic())
    resumed = Part("resume.short_run", prepared, seconds, work / "killed", REPEATING)
    end = resumed.figures(max(1.0, deadline - time.monotonic()))
    went_on = re.findall(r"resuming after step (\d+)", resumed.said())
    found = {
        "steps": RUN["steps"],
        "precision": RUN["precision"],
        "dropout": DROPOUT,
        "killed_after_checkpoint": KILLED_AFTER - KILLED_AFTER % RUN["save_every"],
        "went_on_after_step": int(went_on[-1]) if went_on else None,
        "weights": [peace["weights"], end["weights"]],
        "same_weights": peace["weights"] == end["weights"],
        "same_curve": peace["curve"] == end["curve"],
        "not_repeating": sorted({*peace["not_repeating"], *end["not_repeating"]}),
    }
    found["within"] = found["same_weights"] and found["same_curve"] and bool(found["went_on_after_step"])
    try:
        twice = Part("resume.twice", prepared, seconds, work / "twice").figures(max(1.0, deadline - time.monotonic()))
        return {**found, "repeats_itself_by_default": twice["same_weights"]}
    except BenchmarkError as error:  # which takes nothing from what was found before
        return {**found, "repeats_itself_by_default": None, "by_default": str(error)}


def short_run(prepared: Prepared, seconds: float, work: Path) -> Json:
    """The run, in a process of its own, with algorithms that repeat themselves."""
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        info = _trained(prepared, work)
    lacking = {str(warning.message).split(" does not")[0] for warning in told if "determinis" in str(warning.message)}
    points = [json.loads(line) for line in (work / CURVE).read_text("utf-8").splitlines()]
    clocked = ("seconds", "tokens_per_second")
    return {
        "weights": info["sha256"]["weights"],
        "curve": [{key: point[key] for key in point if key not in clocked} for point in points],
        "not_repeating": sorted(lacking),
    }


def killed_run(prepared: Prepared, seconds: float, work: Path) -> Json:
    """The same, ended as a machine that is switched off ends it."""
    from model.training.loop import Trainer

    update = Trainer.update

    def updated(trainer: Trainer, *given: Any) -> Any:
        if trainer.state.step == KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)
        return update(trainer, *given)

    with patch.object(Trainer, "update", updated):
        return short_run(prepared, seconds, work)


def twice(prepared: Prepared, seconds: float, work: Path) -> Json:
    """Whether two runs in peace are the same without asking for it."""
    hashes = [_trained(prepared, work / name)["sha256"]["weights"] for name in ("one", "other")]
    return {"same_weights": hashes[0] == hashes[1]}


def _trained(prepared: Prepared, work: Path) -> Json:
    tokens = min(BATCH_TOKENS, prepared.training.batch_tokens)
    return prepared.train(work, dropout=DROPOUT, batch_tokens=tokens, **RUN)
