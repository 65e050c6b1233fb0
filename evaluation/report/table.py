"""The result of a run as aligned plain text for the terminal; the last lines say what was published, or what failed.

python -m evaluation.report.table runs/latest/summary.json
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.figures import count, decimal, duration, gate_figures, megabytes, printable, reasons
from model.row_counts import warning

VERDICTS = {True: "pass", False: "FAIL", None: "skipped"}


def result_table(summary: Mapping[str, Any]) -> str:
    """Scores, costs, gates and verdict of a summary.json; whatever a failed run did not reach is left out."""
    blocks = [_head(summary)]
    variants = summary.get("variants") or []
    if variants:
        blocks += [_scores(variants), _costs(variants)]
    if summary.get("gates"):
        blocks.append(_gates(summary["gates"]))
    blocks.append(warning(summary.get("row_counts") or []))
    if "status" in summary or summary.get("gates"):
        blocks.append(_verdict(summary))
    return printable("\n\n".join(block for block in blocks if block))


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows as columns two spaces apart; the first ``left`` columns flush left, the others right."""
    widths = [max(_width(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    lines = []
    for row in rows:
        cells = []
        for i, cell in enumerate(row):
            padding = " " * (widths[i] - _width(cell))
            cells.append(cell + padding if i < left else padding + cell)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _head(summary: Mapping[str, Any]) -> str:
    parts = [f"run {summary['run_id']}"] if summary.get("run_id") else []
    if summary.get("profile"):
        parts.append(f"profile {summary['profile']}")
    if summary.get("seconds") is not None:
        parts.append(duration(summary["seconds"]))
    blocks = [", ".join(parts)] if parts else []
    steps = [
        [
            str(step.get("name")),
            duration(step.get("seconds")),
            "" if step.get("status") in ("ok", None) else step["status"],
        ]
        for step in summary.get("steps") or []
    ]
    if steps:
        blocks.append(aligned([["step", "time", ""], *steps]))
    return "\n\n".join(blocks)


def _scores(variants: Sequence[Mapping[str, Any]]) -> str:
    places = list(dict.fromkeys((r["test_set"], r["direction"]) for v in variants for r in v.get("rows") or []))
    if not places:
        return ""
    head = ["test set", "direction", "rows"]
    for variant in variants:
        head += [f"{variant.get('variant')} BLEU", "chrF"]
    rows = [head]
    for test_set, direction in places:
        cells: list[str] = []
        total = None
        for variant in variants:
            match = [
                r for r in variant.get("rows") or [] if (r["test_set"], r["direction"]) == (test_set, direction)
            ] or [{}]
            total = total if total is not None else match[0].get("rows")
            cells += [decimal(match[0].get("bleu")), decimal(match[0].get("chrf"))]
        rows.append([test_set, direction, count(total), *cells])
    return aligned(rows, left=2)


def _costs(variants: Sequence[Mapping[str, Any]]) -> str:
    speed = [v.get("tokens_per_second") or {} for v in variants]
    rows = [["", *(str(v.get("variant")) for v in variants)], ["size", *(megabytes(v.get("bytes")) for v in variants)]]
    rows.append(["held-out loss, nats/token", *(decimal(v.get("loss"), 3) for v in variants)])
    if any(v.get("bits_per_character") is not None for v in variants):
        rows.append(["bits per character", *(decimal(v.get("bits_per_character"), 3) for v in variants)])
    rows += [[f"tokens/s, batch {batch}", *(count(s.get(batch)) for s in speed)] for batch in ("1", "32")]
    rows.append(["peak memory, MB", *(count(v.get("peak_memory_mb")) for v in variants)])
    return aligned(rows)


def _gates(gates: Sequence[Mapping[str, Any]]) -> str:
    rows = [["gate", "variant", "verdict", "value", "bound"]]
    for row in gates:
        label, value, bound = gate_figures(row)
        rows.append([label, str(row.get("variant")), VERDICTS[row.get("passed")], value, bound])
    text = aligned(rows, left=3)
    skipped = [f"  {row.get('detail')}" for row in gates if row.get("passed") is None]
    return "\n".join([text, *dict.fromkeys(skipped)])


def _verdict(summary: Mapping[str, Any]) -> str:
    published, why = summary.get("published"), reasons(summary)
    lines = [f"published {published.get('variant')}: {published.get('path')}"] if published else []
    if why:
        return "\n".join([*lines, "FAILED:", *(f"  {reason}" for reason in why)])
    return "\n".join([*lines, "OK" if published else "OK (nothing was published)"])


if __name__ == "__main__":
    print(result_table(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
