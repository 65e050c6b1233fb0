"""The samples of a report: for every test set, the better half beside the worse half, so that neither is hidden.

They were drawn evenly over the quantiles of sentence chrF (metrics.spread), not picked by hand.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.figures import decimal
from evaluation.report.plots import escape

# Sentence chrF from which a translation is usually usable, and below which it is usually wrong: only colours a badge.
_GOOD, _BAD = 60.0, 35.0
# Words of the output times words of the reference, above which they are not compared: it takes the square of them.
_COMPARED = 1 << 16


def samples_section(summary: Mapping[str, Any]) -> str:
    """The samples of the published variant, or of the first one that has any."""
    by_variant = {k: v for k, v in (summary.get("samples") or {}).items() if v}
    if not by_variant:
        return ""
    published = (summary.get("published") or {}).get("variant")
    variant = published if published in by_variant else next(iter(by_variant))
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for sample in by_variant[variant]:
        groups.setdefault((str(sample.get("test_set")), str(sample.get("direction"))), []).append(sample)
    continuations = all(sample.get("chrf") is None for sample in by_variant[variant])
    lead = f"What {variant} wrote. " + (
        "Continuations of held-out openings, sampled with a fixed seed."
        if continuations
        else "Rows at even steps from the best to the worst sentence chrF, not picked by hand; "
        "underlined: words that the reference has not."
    )
    body = "".join(_group(key, rows, opened=i == 0 or len(groups) <= 2) for i, (key, rows) in enumerate(groups.items()))
    return f'<section><h2>Samples, good and bad</h2><p class="lead">{escape(lead)}</p>{body}</section>'


def _group(key: tuple[str, str], rows: Sequence[Mapping[str, Any]], opened: bool) -> str:
    test_set, direction = key
    arrow = "" if direction == "text" else direction.replace("-", " → ")
    if any(row.get("chrf") is None for row in rows):
        inner = f"<div class='sides'>{''.join(_continuation(row) for row in rows)}</div>"
    else:
        ranked = sorted(rows, key=lambda row: -row["chrf"])
        half = (len(ranked) + 1) // 2
        sides = (("The better half", ranked[:half]), ("The worse half", ranked[half:]))
        inner = "".join(f"<div><h3>{t}</h3>{''.join(map(_translation, side))}</div>" for t, side in sides if side)
        inner = f'<div class="sides">{inner}</div>'
    state = " open" if opened else ""
    title = f"<summary>{escape(test_set)} <span>{escape(arrow)}</span></summary>"
    return f"<details{state}>{title}<div>{inner}</div></details>"


def _translation(row: Mapping[str, Any]) -> str:
    score = row["chrf"]
    style = "good" if score >= _GOOD else "bad" if score < _BAD else "wait"
    badge = f'<b class="badge {style}">chrF {decimal(score, 0)}</b>'
    output = _marked(str(row.get("output", "")), str(row.get("reference", "")))
    return (
        f'<div class="sample">{_line("source", escape(row.get("source", "")), "", badge)}'
        f"{_line('model', output, 'out')}{_line('reference', escape(row.get('reference', '')))}</div>"
    )


def _continuation(row: Mapping[str, Any]) -> str:
    return (
        f'<div class="sample">{_line("opening", escape(row.get("source", "")))}'
        f"{_line('model', escape(row.get('output', '')), 'out')}"
        f"{_line('original', escape(row.get('reference', '')))}</div>"
    )


def _line(label: str, html: str, style: str = "", badge: str = "") -> str:
    return f'<p class="{style}"><span>{label}</span><q dir="auto">{badge}{html}</q></p>'


def _marked(output: str, reference: str) -> str:
    """The output with the words that are not in the reference, at that place, underlined."""
    words, wanted = output.split(), reference.split()
    if len(words) * len(wanted) > _COMPARED:
        return escape(" ".join(words))
    out = []
    for kind, start, end, _, _ in difflib.SequenceMatcher(None, words, wanted, autojunk=False).get_opcodes():
        text = escape(" ".join(words[start:end]))
        if text:
            out.append(text if kind == "equal" else f'<span class="off">{text}</span>')
    return " ".join(out) if out else '<span class="off">(nothing)</span>'
