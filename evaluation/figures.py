"""How figures are written for people, the same way in the terminal's table and in the HTML report.

A missing or NaN figure is a dash: a partial run's report must never fail on what the run did not reach.

    python -c "from evaluation.figures import duration; print(duration(2712))"
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MISSING = "–"
_CONTROL = dict.fromkeys(code for code in (*range(32), *range(127, 160)) if code not in (9, 10))

# Gate name -> label, unit of its value and threshold, how the threshold binds.
_GATES = {
    "max_chrf_loss": ("quality lost against fp32", "%", "≤"),
    "max_bytes_ratio": ("bytes against fp32", "%", "≤"),
    "min_chrf": ("chrF floor", "", "≥"),
    "max_loss": ("held-out loss, nats/token", "nats", "≤"),
    "copying": ("chrF against copying the source,", "", ">"),
    "unigram": ("loss against unigram entropy,", "nats", "<"),
}


def decimal(value: Any, places: int = 1) -> str:
    """A number with fixed places and thousands separated; a dash for None, NaN or anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return MISSING
    return f"{value:,.{places}f}"


def count(value: Any) -> str:
    """A whole number with thousands separated."""
    return decimal(value, 0)


def megabytes(value: Any) -> str:
    """Bytes as MB (10^6)."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        return MISSING
    return f"{value / 1e6:,.1f} MB"


def duration(seconds: Any) -> str:
    """Seconds as 3.2 s, 45 min 12 s or 2 h 05 min."""
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not math.isfinite(seconds):
        return MISSING
    if seconds < 59.95:  # rounds to less than 60.0
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def processor(hardware: Mapping[str, Any]) -> str:
    """The processor that a figure was measured on, with its instructions: what int8 computes depends on them."""
    parts = [str(hardware.get("cpu") or "CPU"), *map(str, hardware.get("instructions") or [])]
    cores = f"{' '.join(parts)}, {hardware.get('cores', '?')} cores"
    return f"{cores}, int8 products {hardware['int8_products']}" if hardware.get("int8_products") else cores


def gate_figures(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Label, value and bound of a gate's row, in words: ("quality lost against fp32", "1.60 %", "≤ 5 %")."""
    name = str(row.get("name", ""))
    kind, _, place = name.partition(" ")
    label, unit, bound = _GATES.get(kind, (kind, "", "against"))
    label = f"{label} {place}".strip()

    def written(value: Any, trimmed: bool) -> str:
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            return MISSING
        text = f"{100 * value:.2f}" if unit == "%" else f"{value:.3f}" if unit == "nats" else f"{value:.2f}"
        text = text.rstrip("0").rstrip(".") if trimmed else text
        return f"{text} %" if unit == "%" else text

    return label, written(row.get("value"), False), f"{bound} {written(row.get('threshold'), True)}"


def reasons(summary: Mapping[str, Any]) -> list[str]:
    """Why a run failed, one sentence a cause: steps that ended badly, gates, its own error; empty if none."""
    found = []
    for step in summary.get("steps") or []:
        if step.get("status") not in ("ok", None):
            text = f"step {step.get('name')} {step['status']} after {duration(step.get('seconds'))}"
            last = last_line(step.get("error"))
            found.append(f"{text}: {last}" if last else text)
    for row in summary.get("gates") or []:
        if row.get("passed") is False:
            _, value, bound = gate_figures(row)
            detail = f" ({row['detail']})" if row.get("detail") else ""
            measured = "not measured" if value == MISSING else value
            found.append(f"gate {row.get('name')} of {row.get('variant')}: {measured}, must be {bound}{detail}")
    error = last_line(summary.get("error"))
    if error and not found:  # otherwise it only tells again what a step or a gate has told
        found.append(error)
    if not found and summary.get("status") == "failed":
        found.append("the run failed and left no reason: see its log")
    return found


def printable(text: object) -> str:
    """Text without control characters and lone surrogates: it can be printed and written whatever a log held."""
    return str(text).translate(_CONTROL).encode("utf-8", "replace").decode("utf-8")


def last_line(error: Any) -> str:
    """The last line of an error or traceback that is not empty: the one that names the exception."""
    lines = [line.strip() for line in str(error or "").splitlines() if line.strip()]
    return lines[-1] if lines else ""
