"""The result of a run as aligned plain text for the terminal; the last lines say what was published, or what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from evaluation.figures import costs, count, decimal, duration, gate_figures, reasons
from evaluation.results import GateResult, Summary
from model.row_counts import warning

VERDICTS = {True: "pass", False: "FAIL", None: "skipped"}


def result_table(summary: Summary | Mapping[str, Any]) -> str:
    """Scores, costs, gates and verdict of a summary.json; whatever a failed run did not reach is left out."""
    run = Summary.model_validate(summary)
    blocks = [_head(run), _steps(run), _scores(run), _costs(run), gate_table(run.gates), warning(run.row_counts)]
    if run.status or run.gates:
        blocks.append(_verdict(run))
    return "\n\n".join(block for block in blocks if block)


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns two spaces apart; the first ``left`` of them flush left, the others right; empty without rows."""
    sides = ["left" if i < left else "right" for i in range(len(head))]
    text = tabulate([head, *rows], tablefmt="plain", colalign=sides, disable_numparse=True) if rows else ""
    return "\n".join(line.rstrip() for line in text.splitlines())


def _head(run: Summary) -> str:
    seconds = "" if run.seconds is None else duration(run.seconds)
    return ", ".join(
        filter(None, [run.run_id and f"run {run.run_id}", run.profile and f"profile {run.profile}", seconds])
    )


def _steps(run: Summary) -> str:
    rows = [[step.name, duration(step.seconds), "" if step.status == "ok" else step.status] for step in run.steps]
    return aligned(["step", "time", ""], rows)


def _scores(run: Summary) -> str:
    quality = [name for variant in run.variants for name in (f"{variant.variant} BLEU", "chrF")]
    rows = []
    for scores in run.places():
        segments = next((score.segments for score in scores if score.segments is not None), None)
        figures = [decimal(figure) for score in scores for figure in (score.bleu, score.chrf)]
        rows.append([scores[0].test_set, scores[0].direction, count(segments), *figures])
    return aligned(["test set", "direction", "rows", *quality], rows, left=2)


def _costs(run: Summary) -> str:
    rows = [[label, *(figure for figure, _ in figures)] for label, figures in costs(run.variants)]
    return aligned(["", *(variant.variant for variant in run.variants)], rows) if run.variants else ""


def gate_table(gates: Sequence[GateResult]) -> str:
    """One line a gate, then why gates were skipped; empty without gates."""
    figures = [(gate, *gate_figures(gate)) for gate in gates]
    rows = [[label, gate.variant, VERDICTS[gate.passed], value, bound] for gate, label, value, bound in figures]
    skipped = [f"  {gate.detail}" for gate in gates if gate.passed is None]
    return "\n".join([aligned(["gate", "variant", "verdict", "value", "bound"], rows, 3), *dict.fromkeys(skipped)])


def _verdict(run: Summary) -> str:
    why = reasons(run)
    lines = [f"published {run.published.variant}: {run.published.path}"] if run.published else []
    if why:
        return "\n".join([*lines, "FAILED:", *(f"  {reason}" for reason in why)])
    return "\n".join([*lines, "OK" if run.published else "OK (nothing was published)"])
