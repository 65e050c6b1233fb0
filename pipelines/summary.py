"""A run's summary.json, gathered from what the steps recorded and wrote; it is made for failed and killed runs too."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation import gathered
from evaluation.results import Verdict

Json = dict[str, Any]
INNER = ("outputs", "code", "versions", "hardware")  # of a step's record: what the runner reads, and nobody else
KILLED = "its process ended without a word: killed from outside, or out of memory"


def read_steps(records: Path, now: float, interrupted: bool = False) -> list[Json]:
    """Every step that began: ``{"name", "status": "ok|failed|killed", "seconds", "outputs", "error"?}``, in order.

    Args:
        records: The file that components/step.py appended to; it may be absent, and its last line may be cut short.
        now: Unix time at which a step without an end is taken to have been killed.
        interrupted: Whether the run was; then a failure of the last step is a consequence of that.
    """
    steps: dict[str, Json] = {}
    for line in records.read_text(encoding="utf-8").splitlines() if records.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):  # the process died while writing it
            step = json.loads(line)
            steps[step["name"]] = step
    for step in steps.values():
        began = step.pop("began")
        if step["status"] == "running":
            step.update(status="killed", seconds=round(now - began, 3), error="interrupted" if interrupted else KILLED)
        if interrupted and step["status"] == "failed":
            step.update(status="killed", error="interrupted")
        if not step["error"]:
            del step["error"]
    return list(steps.values())


def gather(steps: Sequence[Mapping[str, Any]], target: str) -> Json:
    """The parts of the summary that the steps and their artifacts hold; ``target`` is where a bundle is published."""
    outputs = {step["name"]: step["outputs"] for step in steps}

    def place(step: str, output: str) -> str | None:
        return (outputs.get(step) or {}).get(output)

    variants = [place(f"variant-{precision}", "evaluation") for precision in ("fp32", "fp16", "int8")]
    verdict = place("gate", "verdict")
    published = any(step["name"] == "publish" and step["status"] == "ok" for step in steps)
    return {
        **gathered.gather(
            place("prepare-data", "corpus"),
            place("train-tokenizer", "tokenizer"),
            place("train-model", "checkpoint"),
            [variant for variant in variants if variant],
            verdict,
        ),
        "published": {"variant": Verdict.read(verdict or "").variant, "path": target} if published else None,
        "steps": [{key: value for key, value in step.items() if key not in INNER} for step in steps],
    }
