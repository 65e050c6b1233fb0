"""The result of a run as aligned plain text for the terminal; the last lines say what was published, or what failed.

python -m evaluation.report runs/latest/summary.json --table
"""

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
    blocks = [_head(run), _steps(run), _scores(run), _costs(run), gate_table(run.gates)]
    blocks.append(warning(run.row_counts))
    if run.status or run.gates:
        blocks.append(_verdict(run))
    return "\n\n".join(block for block in blocks if block)


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows as columns two spaces apart; the first ``left`` columns flush left, the others right."""
    sides = ["left" if i < left else "right" for i in range(max(map(len, rows)))]
    text = tabulate(rows, tablefmt="plain", colalign=sides, disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _head(run: Summary) -> str:
    parts = [f"run {run.run_id}" if run.run_id else "", f"profile {run.profile}" if run.profile else ""]
    if run.seconds is not None:
        parts.append(duration(run.seconds))
    return ", ".join(filter(None, parts))


def _steps(run: Summary) -> str:
    rows = [[step.name, duration(step.seconds), "" if step.status == "ok" else step.status] for step in run.steps]
    return aligned([["step", "time", ""], *rows]) if rows else ""


def _scores(run: Summary) -> str:
    head = ["test set", "direction", "rows"]
    for variant in run.variants:
        head += [f"{variant.variant} BLEU", "chrF"]
    rows = []
    for scores in run.places():
        segments = next((score.segments for score in scores if score.segments is not None), None)
        figures = [decimal(figure) for score in scores for figure in (score.bleu, score.chrf)]
        rows.append([scores[0].test_set, scores[0].direction, count(segments), *figures])
    return aligned([head, *rows], left=2) if rows else ""


def _costs(run: Summary) -> str:
    rows = [[label, *(figure for figure, _ in figures)] for label, figures in costs(run.variants)]
    return aligned([["", *(variant.variant for variant in run.variants)], *rows]) if run.variants else ""


def gate_table(gates: Sequence[GateResult]) -> str:
    """One line a gate, then why gates were skipped; empty without gates."""
    if not gates:
        return ""
    rows = [["gate", "variant", "verdict", "value", "bound"]]
    for gate in gates:
        label, value, bound = gate_figures(gate)
        rows.append([label, gate.variant, VERDICTS[gate.passed], value, bound])
    skipped = [f"  {gate.detail}" for gate in gates if gate.passed is None]
    return "\n".join([aligned(rows, left=3), *dict.fromkeys(skipped)])


def _verdict(run: Summary) -> str:
    why = reasons(run)
    lines = [f"published {run.published.variant}: {run.published.path}"] if run.published else []
    if why:
        return "\n".join([*lines, "FAILED:", *(f"  {reason}" for reason in why)])
    return "\n".join([*lines, "OK" if run.published else "OK (nothing was published)"])
