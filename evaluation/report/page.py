"""The report of a run: one HTML page that needs nothing else, for a person to read on a desk, a phone or paper.

Built from summary.json alone, so it can be made again at any time; a section whose data the run did not reach is left
out, because the report of a failed run is the one that is read most closely. Every text goes through ``escape``.

    python -m evaluation.report.page runs/latest/summary.json > report.html
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.figures import count, decimal, duration, gate_figures, megabytes, processor, reasons
from evaluation.gate import mean_chrf
from evaluation.report import plots
from evaluation.report.plots import escape
from evaluation.report.samples import samples_section
from evaluation.report.sections import (
    corpus_section,
    provenance_section,
    rows_section,
    steps_section,
    tokenizer_section,
    training_section,
)
from evaluation.report.style import CSS
from evaluation.report.table import result_table

__all__ = ["render_report", "result_table"]

_COLOURS = {"fp32": "s1", "fp16": "s2", "int8": "s3"}
_BADGE = {True: ("good", "pass"), False: ("bad", "fail"), None: ("wait", "skipped")}


def render_report(summary: Mapping[str, Any]) -> str:
    """The whole page, for any summary.json, of a finished, failed or killed run."""
    sections = [
        _header(summary),
        _quality(summary),
        _gates(summary.get("gates") or []),
        samples_section(summary),
        training_section(summary),
        corpus_section(summary.get("corpus") or {}),
        rows_section(summary.get("row_counts") or []),
        tokenizer_section(summary.get("tokenizer") or {}),
        steps_section(summary),
        provenance_section(summary),
    ]
    title = f"Prometheus Mini: {summary.get('profile') or 'run'} {summary.get('run_id') or ''}".strip()
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main>\n</body>\n</html>\n"
    )


def _header(summary: Mapping[str, Any]) -> str:
    facts = [
        f"run {summary['run_id']}" if summary.get("run_id") else "",
        f"started {summary['started']}" if summary.get("started") else "",
        f"code {summary['code_version']}" if summary.get("code_version") else "",
    ]
    heading = f"Profile {summary['profile']}" if summary.get("profile") else "Evaluation"
    published, why = summary.get("published") or {}, reasons(summary)
    if why:
        items = "".join(f"<li>{escape(reason)}</li>" for reason in why)
        what = "This run" if "status" in summary else "A gate" if len(why) == 1 else f"{len(why)} gates"
        kept = f" Published all the same: {escape(published.get('variant'))}." if published else ""
        verdict = f'<div class="verdict bad"><strong>{what} failed.</strong>{kept}<ul>{items}</ul></div>'
    elif published:
        skipped = sum(row.get("passed") is None for row in summary.get("gates") or [])
        note = f"; {skipped} skipped" if skipped else ""
        verdict = (
            f'<div class="verdict good"><strong>Published: {escape(published.get("variant"))}.</strong> '
            f"Every gate that could be measured passed{note}. "
            f"The bundle is <code>{escape(published.get('path'))}</code>.</div>"
        )
    elif "published" not in summary and summary.get("gates"):  # made by the gate step, before anything is published
        verdict = '<div class="verdict good"><strong>Every gate that could be measured passed.</strong></div>'
    else:
        verdict = '<div class="verdict wait"><strong>Nothing was published.</strong></div>'
    return (
        f'<header><p class="brand">Prometheus Mini</p><h1>{escape(heading)}</h1>'
        f"<p>{escape(' · '.join(fact for fact in facts if fact))}</p>{verdict}{_tiles(summary)}</header>"
    )


def _tiles(summary: Mapping[str, Any]) -> str:
    variants = {v.get("variant"): v for v in summary.get("variants") or []}
    name = (summary.get("published") or {}).get("variant")
    shown = variants.get(name) or next(iter(variants.values()), None)
    tiles = []
    if shown:
        label, chrf = escape(shown.get("variant")), mean_chrf(shown)
        if chrf is not None:
            tiles.append((decimal(chrf), f"mean chrF, {label}"))
        else:
            tiles.append((decimal(shown.get("loss"), 3), f"held-out nats/token, {label}"))
        tiles.append((megabytes(shown.get("bytes")), f"bundle on disk, {label}"))
        speed = shown.get("tokens_per_second") or {}
        tiles.append((count(speed.get("32")), f"tokens/s at 32 requests ({count(speed.get('1'))} at one)"))
    training = summary.get("training") or {}
    if training.get("parameters"):
        tiles.append((f"{training['parameters'] / 1e6:.2f} M", "parameters"))
    if summary.get("seconds") is not None:
        tiles.append((duration(summary["seconds"]), "whole run"))
    body = "".join(f'<div class="tile"><b>{escape(value)}</b><span>{text}</span></div>' for value, text in tiles)
    return f'<div class="tiles">{body}</div>' if tiles else ""


def _quality(summary: Mapping[str, Any]) -> str:
    variants = summary.get("variants") or []
    if not variants:
        return ""
    lead = "Measured through the serving engine, on each bundle as it would be served"
    machines = dict.fromkeys(processor(v["hardware"]) for v in variants if v.get("hardware"))
    lead += "".join(f"; {escape(machine)}" for machine in machines) + "."
    parts = [f'<h2>Quality and cost</h2><p class="lead">{lead}</p>', _scores(variants)]
    plot = _size_against_quality(variants, summary.get("gates") or [])
    costs = f'<div class="card"><h3>Cost</h3>{_costs(variants)}</div>'
    parts.append(
        f'<div class="pair lean"><div class="card"><h3>Size against quality</h3>{plot}</div>{costs}</div>'
        if plot
        else costs
    )
    return f"<section>{''.join(parts)}</section>"


def _scores(variants: Sequence[Mapping[str, Any]]) -> str:
    places = list(dict.fromkeys((r["test_set"], r["direction"]) for v in variants for r in v.get("rows") or []))
    if not places:
        return ""
    head = "".join(f'<th colspan="2" class="group center">{escape(v.get("variant"))}</th>' for v in variants)
    sub = '<th class="group">BLEU</th><th>chrF</th>' * len(variants)
    body = []
    for test_set, direction in places:
        cells, rows, cut = [], None, 0
        for variant in variants:
            match = [r for r in variant.get("rows") or [] if (r["test_set"], r["direction"]) == (test_set, direction)]
            row = match[0] if match else {}
            rows, cut = rows or row.get("rows"), cut or row.get("truncated") or 0
            cells.append(f'<td class="group">{decimal(row.get("bleu"))}</td><td>{decimal(row.get("chrf"))}</td>')
        arrow = str(direction).replace("-", " → ")
        note = f' <span class="ratio">({count(cut)} cut)</span>' if cut else ""
        body.append(
            f'<tr><th class="place">{escape(test_set)} <span class="ratio nowrap">{escape(arrow)}</span></th>'
            f'<td class="wide">{count(rows)}{note}</td>{"".join(cells)}</tr>'
        )
    signatures = [
        f"{name}: {escape(signature)}"
        for name, key in (("BLEU", "bleu_signature"), ("chrF", "chrf_signature"))
        for signature in sorted({r[key] for v in variants for r in v.get("rows") or [] if r.get(key)})
    ]
    note = f'<p class="note">sacreBLEU signatures. {"; ".join(signatures)}</p>' if signatures else ""
    return (
        f'<div class="card"><div class="scroll"><table><thead><tr><th></th><th class="wide"></th>{head}</tr>'
        f'<tr><th>Test set</th><th class="wide">Rows</th>{sub}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>{note}</div>"
    )


def _costs(variants: Sequence[Mapping[str, Any]]) -> str:
    base = next((v for v in variants if v.get("variant") == "fp32"), {})

    def ratio(value: Any, reference: Any, unit: str) -> str:
        if not all(isinstance(v, (int, float)) and v > 0 for v in (value, reference)) or value == reference:
            return ""
        text = f"{value / reference:.0%}" if unit == "%" else f"{value / reference:.2g}×"
        return f' <span class="ratio">{text}</span>'

    def speed(variant: Mapping[str, Any], batch: str) -> Any:
        return (variant.get("tokens_per_second") or {}).get(batch)

    rows = [("Size", [megabytes(v.get("bytes")) + ratio(v.get("bytes"), base.get("bytes"), "%") for v in variants])]
    rows.append(("Held-out loss, nats/token", [decimal(v.get("loss"), 3) for v in variants]))
    for key, label in (("perplexity", "Perplexity"), ("bits_per_character", "Bits per character")):
        if any(v.get(key) is not None for v in variants):
            rows.append((label, [decimal(v.get(key), 3) for v in variants]))
    rows += [
        (f"Tokens/s, {text}", [count(speed(v, b)) + ratio(speed(v, b), speed(base, b), "×") for v in variants])
        for b, text in (("1", "one request"), ("32", "32 requests"))
    ]
    rows.append(("Peak memory, MB", [count(v.get("peak_memory_mb")) for v in variants]))
    head = "".join(f"<th>{escape(v.get('variant'))}</th>" for v in variants)
    body = "".join(f"<tr><th>{label}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for label, cells in rows)
    return f'<div class="scroll"><table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _size_against_quality(variants: Sequence[Mapping[str, Any]], gates: Sequence[Mapping[str, Any]]) -> str:
    scores = [mean_chrf(v) for v in variants]
    by_loss = all(score is None for score in scores)
    values = [v.get("loss") for v in variants] if by_loss else scores
    points = [
        (v["bytes"] / 1e6, value, str(v.get("variant")), _COLOURS.get(str(v.get("variant")), "s4"))
        for v, value in zip(variants, values, strict=True)
        if isinstance(value, (int, float)) and isinstance(v.get("bytes"), (int, float))
    ]
    base = next((value for _, value, name, _ in points if name == "fp32"), None)
    rules = [
        (
            base * (1 + gate["threshold"] * (1 if by_loss else -1)),
            f"{'most' if by_loss else 'least'} allowed: {gate['variant']}",
            _COLOURS.get(gate["variant"], "s4"),
        )
        for gate in gates
        if base is not None and gate.get("name") == "max_chrf_loss" and isinstance(gate.get("threshold"), (int, float))
    ]
    label = "held-out loss, nats/token (lower is better)" if by_loss else "mean chrF"
    return plots.scatter("Size against quality", points, "size on disk, MB", label, rules) if len(points) > 1 else ""


def _gates(gates: Sequence[Mapping[str, Any]]) -> str:
    """One row a gate; on a phone its detail moves from the last column to a row of its own."""
    if not gates:
        return ""
    body = []
    for row in gates:
        label, value, bound = gate_figures(row)
        style, word = _BADGE[row.get("passed")]
        detail = escape(row.get("detail") or "")
        noted = "noted" if detail else ""
        name = escape(label).replace("/", "/<wbr>")
        body.append(
            f'<tr class="{noted}"><th>{name}</th><td class="left">{escape(row.get("variant"))}</td>'
            f'<td class="left"><span class="badge {style}">{word}</span></td><td>{value}</td><td>{escape(bound)}</td>'
            f'<td class="wrap wide">{detail}</td></tr>'
        )
        if detail:
            body.append(f'<tr class="narrow"><td class="wrap" colspan="5">{detail}</td></tr>')
    head = (
        '<th>Gate</th><th class="left">Variant</th><th class="left">Verdict</th><th>Value</th><th>Bound</th>'
        '<th class="left wide">Detail</th>'
    )
    return (
        '<section><h2>Gates</h2><p class="lead">What a variant must reach to be published.</p><div class="card scroll">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div></section>"
    )


if __name__ == "__main__":
    print(render_report(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
