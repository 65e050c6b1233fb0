"""A run's summary.json, gathered from what the steps recorded and wrote; it is made for failed and killed runs too.

Every part comes from an artifact's own manifest, so a summary can only hold what a step has really written.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
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
        with contextlib.suppress(json.JSONDecodeError):  # the process died while writing it
            step = json.loads(line)
            steps[step["name"]] = step
    for step in steps.values():
        began = step.pop("began")
        if step["status"] == "running":
            step.update(status="killed", seconds=round(now - began, 3), error=KILLED)
        if interrupted and step["status"] != "ok":
            step.update(status="killed", error="interrupted")
        if not step["error"]:
            del step["error"]
    return list(steps.values())


def gather(steps: Sequence[Mapping[str, Any]], target: str) -> Json:
    """The parts of the summary that the steps and their artifacts hold; ``target`` is where a bundle is published.

    ``row_counts`` is what became of every row, from the first step to the last, as each step counted it.
    """
    outputs = {step["name"]: step["outputs"] for step in steps}

    def read(step: str, output: str, file: str) -> str:
        path = Path(outputs[step][output], file) if outputs.get(step) else None
        return path.read_text(encoding="utf-8") if path and path.exists() else ""

    def manifest(*place: str) -> Json:
        return json.loads(read(*place) or "{}")

    evaluated = [outputs.get(f"evaluate-{variant}") for variant in ("fp32", "fp16", "int8")]
    measured = [Evaluation.read(found["evaluation"]) for found in evaluated if found]
    verdict = Verdict.read(outputs["gate"]["verdict"]) if outputs.get("gate") else Verdict()
    published = any(step["name"] == "publish" and step["status"] == "ok" for step in steps)
    corpus = manifest("prepare-data", "corpus", "corpus.json")
    tokenizer = manifest("train-tokenizer", "tokenizer", "tokenizer_report.json")
    training = manifest("train-model", "checkpoint", "training.json")
    int8 = manifest("quantize-int8", "quantized", "bundle.json").get("provenance", {}).get("quantization", {})
    counted = [_prepared(corpus)] if corpus else []
    told = [part.get("row_counts", []) for part in (tokenizer, training, int8)]
    for entries in (*told, *(evaluation.row_counts for evaluation in measured)):
        # The variants are measured on the same rows: what is told again is not told twice.
        counted += [entry for entry in entries if entry not in counted]
    return {
        "corpus": corpus,
        "tokenizer": tokenizer,
        "training": training,
        "row_counts": counted,
        "curves": [json.loads(line) for line in read("train-model", "checkpoint", "curves.jsonl").splitlines()],
        "variants": [evaluation.model_dump() for evaluation in measured],
        "gates": [result.model_dump() for result in verdict.gates],
        "published": {"variant": verdict.variant, "path": target} if published else None,
        "steps": [{key: value for key, value in step.items() if key != "outputs"} for step in steps],
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
    draft.replace(run_dir.parent / "latest")
