"""A run's summary.json, gathered from what the steps recorded and wrote; it is made for failed and killed runs too.

Every part comes from an artifact's own manifest, so a summary can only hold what a step has really written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evaluation.results import Evaluation, Verdict
from model.row_counts import RowCount, row_count

Json = dict[str, Any]


KILLED = "its process ended without a word: killed from outside, or out of memory"


def read_steps(records: Path, now: float, interrupted: bool = False) -> list[Json]:
    """Every step that began: ``{"name", "status": "ok|failed|killed", "seconds", "outputs", "error"?}``, in order.

    Args:
        records: The file that components/step.py appended to; it may be absent, and its last line may be cut short.
        now: Unix time at which a step without an end is taken to have been killed.
        interrupted: Whether the run was; then whatever the last step says of its end is a consequence of that.
    """
    steps: dict[str, Json] = {}
    for line in records.read_text(encoding="utf-8").splitlines() if records.exists() else []:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue  # the process died while writing it
        name = event["name"]
        if event["event"] == "start":
            seconds = round(now - event["time"], 3)
            steps[name] = {"name": name, "status": "killed", "seconds": seconds, "error": KILLED, "outputs": {}}
        elif name in steps:
            steps[name] = {key: event[key] for key in ("name", "status", "seconds", "error", "outputs")}
    found = list(steps.values())
    if interrupted and found and found[-1]["status"] != "ok":
        found[-1].update(status="killed", error="interrupted")
    for step in found:
        if not step["error"]:
            del step["error"]
    return found


def gather(steps: Iterable[Mapping[str, Any]]) -> Json:
    """The parts of the summary that artifacts hold: corpus, tokenizer, training, curves, variants, gates.

    ``row_counts`` is what became of every row, from the first step to the last, as each step counted it.
    """
    outputs = {step["name"]: step["outputs"] for step in steps}

    def manifest(step: str, output: str, file: str) -> Json:
        return _json(Path(outputs[step][output]) / file) if outputs.get(step) else {}

    checkpoint = outputs.get("train-model", {}).get("checkpoint")
    names = [name for name in outputs if name.startswith("evaluate-") and outputs[name]]
    measured = {name.removeprefix("evaluate-"): Evaluation.read(outputs[name]["evaluation"]) for name in names}
    verdict = Verdict.read(outputs["gate"]["verdict"]) if outputs.get("gate") else Verdict()
    order = sorted(measured, key=["fp32", "fp16", "int8"].index)
    corpus = manifest("prepare-data", "corpus", "corpus.json")
    tokenizer = manifest("train-tokenizer", "tokenizer", "tokenizer_report.json")
    training = manifest("train-model", "checkpoint", "training.json")
    int8 = manifest("quantize-int8", "quantized", "bundle.json").get("provenance", {}).get("quantization", {})
    counted = [_prepared(corpus)] if corpus else []
    told = [part.get("row_counts", []) for part in (tokenizer, training, int8)]
    for entries in (*told, *(measured[variant].row_counts for variant in order)):
        # The variants are measured on the same rows: what is told again is not told twice.
        counted += [entry for entry in entries if entry not in counted]
    return {
        "corpus": corpus,
        "tokenizer": tokenizer,
        "training": training,
        "row_counts": counted,
        "curves": _lines(Path(checkpoint) / "curves.jsonl") if checkpoint else [],
        "variants": [measured[variant].model_dump() for variant in order],
        "gates": [result.model_dump() for result in verdict.gates],
        "chosen": verdict.variant,
    }


def _prepared(card: Json) -> RowCount:
    """The rows that prepare-data read, kept and left out, in the form of the steps after it."""
    counts = card["counts"]
    left_out = {**counts.get("rejected", {}), "duplicates": counts.get("duplicates", 0)}
    return row_count("prepare-data", "what was read", counts["read"], counts["kept"], left_out)


def point_latest(run_dir: Path) -> None:
    """Make the symbolic link ``latest`` beside the run's folder point at it, without a moment in which it is absent."""
    draft = run_dir.parent / f".latest-{run_dir.name}"
    draft.unlink(missing_ok=True)
    draft.symlink_to(run_dir.name)
    os.replace(draft, run_dir.parent / "latest")


def _json(path: Path) -> Json:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
