"""All parts of the check, one after another, each in a process of its own and within its time.

The result is written after each part, so that what was measured stays, whatever comes next.
"""

from __future__ import annotations

import importlib
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu.folder import Prepared
from benchmarks.gpu.processes import Part
from benchmarks.machine import RESULTS, BenchmarkError
from model.files import write_json
from model.processors import describe

# Seconds of each part but training, with the start of its process; the first one on a machine takes longest.
BUDGETS = {"precision": 75, "parity": 45, "training": 0, "resume": 90, "group": 45}
BESIDE = 165.0  # seconds beside training for all of them: with six minutes of training, nine at most
INSIDE = ("resume.short_run", "resume.killed_run", "resume.twice")  # parts of a part
ENDING = 8.0  # seconds that training's process may take beside its training
PATIENCE = 10  # of a rehearsal, whose processors may be busy with other things: so many times the seconds

Json = dict[str, Any]


def check(prepared: Prepared, minutes: float, out: Path | None) -> tuple[Json, Path]:
    """Run every part, and write the result after each of them; the result, and the file that it is in.

    Args:
        minutes: of training; the other parts take three more at most.
        out: the file; None for one in ``results/`` that is named by the GPU, or in ``build/`` for a rehearsal.
    """
    began = time.monotonic()
    result: Json = {
        "kind": "gpu",
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": describe(),
        "rehearsal": prepared.training.device == "cpu",
        "minutes": minutes,
        "parts": {},
    }
    end = began + (60 * minutes + BESIDE) * (PATIENCE if result["rehearsal"] else 1)
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        for name, budget in BUDGETS.items():
            seconds = 60 * minutes if name == "training" else float(budget)
            result["parts"][name] = _figures(name, prepared, seconds, end, Path(folder) / name)
            result["seconds"] = round(time.monotonic() - began, 1)
            out = out or _named(result)
            write_json(out, result)
    assert out
    return result, out


def measured(name: str, prepared: Prepared, seconds: float, work: Path) -> Json:
    """The figures of one part, in the process of its own: its module's ``measure``, or the function that it names."""
    module, _, function = name.partition(".")
    measure: Callable[[Prepared, float, Path], Json] = getattr(
        importlib.import_module(f"benchmarks.gpu.{module}"), function or "measure"
    )
    return measure(prepared, seconds, work)


def passed(result: Json) -> bool:
    """Whether every part was measured, and found what it must."""
    return all(part["measured"] and part.get("within", True) for part in result["parts"].values())


def _figures(name: str, prepared: Prepared, seconds: float, end: float, work: Path) -> Json:
    began = time.monotonic()
    if began >= end:
        return {"measured": False, "error": "the parts before it left no time"}
    limit = seconds + ENDING if name == "training" else seconds
    limit = min(limit * (PATIENCE if prepared.training.device == "cpu" else 1), end - began)
    print(f"{name}: up to {limit:.0f} s", file=sys.stderr, flush=True)
    try:
        part = Part(name, prepared, seconds if name == "training" else limit, work)
        found = {"measured": True, **part.figures(limit)}
    except BenchmarkError as error:
        found = {"measured": False, "error": str(error)}
        print(f"{name}: {error}", file=sys.stderr, flush=True)
    return {**found, "part_seconds": round(time.monotonic() - began, 1)}


def _named(result: Json) -> Path:
    """The file for this machine's result."""
    if result["rehearsal"]:
        return RESULTS.parent / "build" / "gpu-rehearsal.json"
    name = result["parts"]["precision"].get("device", {}).get("name", "unknown")
    return RESULTS / f"gpu-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
