"""The report's sections on how the model came about: training, corpus, tokenizer, steps, provenance.

Each takes what summary.json holds of it and returns HTML, or nothing where the run did not get that far. Keys that this
file has never heard of are shown as they are: a new figure in a card appears in the report without a change here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.figures import count, duration, last_line
from evaluation.report import plots
from evaluation.report.plots import escape
from model.row_counts import warning

# Keys whose value is a section of its own, or says nothing to a reader of the report.
_ELSEWHERE = {"format_version", "network", "versions", "shards", "config", "counts", "row_counts", "seconds", "sha256"}


def training_section(summary: Mapping[str, Any]) -> str:
    """Loss and learning-rate curves, and the figures of training.json."""
    training, curves = summary.get("training") or {}, summary.get("curves") or []
    if not training and not curves:
        return ""
    steps = [r for r in curves if r.get("loss") is not None]
    loss = [(r["step"], r["loss"]) for r in steps]
    valid = [(r["step"], r["valid_loss"]) for r in curves if r.get("valid_loss") is not None]
    rate = [(r["step"], r["lr"]) for r in steps if r.get("lr") is not None]
    settled = sorted(y for _, y in loss[len(loss) // 25 :] + valid if isinstance(y, (int, float)))
    cap = settled[-1] if settled else None
    drawn = [
        plots.lines(
            "Loss",
            [
                ("", "s1", _thinned(loss), "faint"),
                ("training", "s1", _thinned(_smoothed(loss)), ""),
                ("validation", "s3", _thinned(valid), "dots" if len(valid) <= 40 else ""),
            ],
            "step",
            "nats per token",
            cap=cap,
        ),
        plots.lines("Learning rate", [("learning rate", "s2", _thinned(rate), "")], "step", "learning rate"),
    ]
    titles = ("Loss", "Learning rate")
    cards = [f'<div class="card"><h3>{t}</h3>{svg}</div>' for t, svg in zip(titles, drawn, strict=True) if svg]
    pair = f'<div class="pair">{"".join(cards)}</div>' if cards else ""
    facts = _facts({**training, "time": duration(training.get("seconds"))} if training else {})
    card = f'<div class="card">{facts}</div>' if facts else ""
    return f"<section><h2>Training</h2>{pair}{card}</section>"


def _smoothed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A centred mean over about a fiftieth of the run; unlike a trailing one it does not lag behind a steep start."""
    reach = len(points) // 100
    out = []
    for i, (x, _) in enumerate(points):
        near = min(reach, i, len(points) - 1 - i)
        window = [y for _, y in points[i - near : i + near + 1]]
        out.append((x, sum(window) / len(window)))
    return out


def _thinned(points: Sequence[tuple[float, float]], most: int = 500) -> list[tuple[float, float]]:
    """At most about ``most`` points, the last one always among them: a page has no use for more."""
    stride = max(1, -(-len(points) // most))
    kept = list(points[::stride])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def corpus_section(card: Mapping[str, Any]) -> str:
    """Rows kept and left out, by reason, as bars."""
    if not card:
        return ""
    counts = card.get("counts") or {}
    flat = {k: v for k, v in counts.items() if not isinstance(v, Mapping) and k != "duplicates"}
    flat |= dict(counts.get("test") or {})
    rejected = dict(counts.get("rejected") or {})
    if counts.get("duplicates"):
        rejected.setdefault("duplicates", counts["duplicates"])
    cards = [f'<div class="card"><h3>Rows</h3>{_bars(flat, "")}</div>'] if flat else []
    if rejected:
        cards.append(f'<div class="card"><h3>Left out, by reason</h3>{_bars(rejected, "muted")}</div>')
    facts = _facts(card, narrow=True)
    return (
        f'<section><h2>Corpus</h2><div class="pair">{"".join(cards)}</div>'
        f"{f'<div class=card>{facts}</div>' if facts else ''}</section>"
    )


def rows_section(counts: Sequence[Mapping[str, Any]]) -> str:
    """What became of every row, step by step: used, cut to fit, and left out by reason."""
    if not counts:
        return ""
    body = []
    for entry in counts:
        where = escape(" ".join(filter(None, (entry.get("split"), entry.get("direction")))))
        left_out = "; ".join(f"{count(n)} {reason}" for reason, n in (entry.get("left_out") or {}).items())
        cut = count(entry["cut"]) if entry.get("cut") else ""
        body.append(
            f'<tr><th>{escape(entry.get("step"))}</th><td class="left">{where}</td><td>{count(entry.get("rows"))}</td>'
            f'<td>{count(entry.get("used"))}</td><td>{cut}</td><td class="left wrap">{escape(left_out)}</td></tr>'
        )
    head = (
        '<th>Step</th><th class="left">Of</th><th>Rows</th><th>Used</th><th>Cut to fit</th>'
        '<th class="left">Left out, by reason and the setting that changes it</th>'
    )
    line = warning(counts)
    loud = f'<div class="verdict bad">{escape(line)}</div>' if line else ""
    return (
        f'<section><h2>Rows</h2><p class="lead">What became of every row, from step to step.</p>{loud}'
        f'<div class="card scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
        "</section>"
    )


def tokenizer_section(report: Mapping[str, Any]) -> str:
    """A table by language (tokens per word and per character, unknowns), and the rest as facts."""
    if not report:
        return ""
    languages = {k: v for k, v in (report.get("languages") or {}).items() if isinstance(v, Mapping)}
    keys = list(dict.fromkeys(key for figures in languages.values() for key in figures))
    table = ""
    if keys:
        head = "".join(f"<th>{escape(name)}</th>" for name in languages)
        body = "".join(
            f"<tr><th>{escape(key.replace('_', ' '))}</th>"
            + "".join(f"<td>{escape(_written(figures.get(key, '')))}</td>" for figures in languages.values())
            + "</tr>"
            for key in keys
        )
        where = f" on the {escape(report['measured_on'])} split" if report.get("measured_on") else ""
        table = (
            f'<div class="card"><h3>Measured{where}</h3><div class="scroll"><table><thead><tr><th></th>{head}</tr>'
            f"</thead><tbody>{body}</tbody></table></div></div>"
        )
    rest = {k: v for k, v in report.items() if k not in ("languages", "measured_on", "training_seconds")}
    facts = _facts({**rest, "time": duration(report.get("seconds"))}, narrow=True)
    return f'<section><h2>Tokenizer</h2><div class="pair">{table}<div class="card">{facts}</div></div></section>'


def steps_section(summary: Mapping[str, Any]) -> str:
    """Each step's time as a bar, with its error where it failed."""
    steps = summary.get("steps") or []
    if not steps:
        return ""
    longest = max((s["seconds"] for s in steps if isinstance(s.get("seconds"), (int, float))), default=0) or 1
    out = []
    for step in steps:
        share = 100 * (step.get("seconds") or 0) / longest
        ok = step.get("status") in ("ok", None)
        mark, style = ("", "") if ok else (f' <span class="badge bad">{escape(step["status"])}</span>', "bad")
        out.append(
            f'<span>{escape(step.get("name"))}{mark}</span><i class="{style}" style="width:{share:.1f}%"></i>'
            f'<span class="n">{duration(step.get("seconds"))}</span>'
        )
        if step.get("error"):
            out.append(f'<span class="why">{escape(last_line(step["error"]))}</span>')
    # One line is told at the top of the page already; a traceback is worth its room here.
    trace = str(summary.get("error") or "").strip()
    error = f"<pre>{escape(trace)}</pre>" if "\n" in trace else ""
    return f'<section><h2>Steps</h2><div class="card"><div class="bars">{"".join(out)}</div>{error}</div></section>'


def provenance_section(summary: Mapping[str, Any]) -> str:
    """What it takes to tell this run from another, or to make it again."""
    plain = {k: summary.get(k) for k in ("run_id", "profile", "code_version", "started", "status")}
    known = {**plain, "published": (summary.get("published") or {}).get("path")}
    first = _facts({k: v for k, v in known.items() if v is not None}, narrow=True)
    cards = [f'<div class="card"><h3>Run</h3>{first}</div>'] if first else []
    for key in ("hardware", "versions"):
        if summary.get(key):
            cards.append(f'<div class="card"><h3>{key.capitalize()}</h3>{_facts(summary[key], narrow=True)}</div>')
    network = (summary.get("training") or {}).get("network")
    if network:
        cards.append(f'<div class="card"><h3>Network</h3>{_facts(network, narrow=True)}</div>')
    settings = ""
    if summary.get("settings"):
        shown = escape(json.dumps(summary["settings"], ensure_ascii=False, indent=1, default=str))
        settings = f"<details><summary>Settings</summary><div><pre>{shown}</pre></div></details>"
    if not cards and not settings:
        return ""
    return f'<section><h2>Provenance</h2><div class="pair">{"".join(cards)}</div>{settings}</section>'


def _facts(data: Any, narrow: bool = False) -> str:
    """A mapping as a definition list; mappings inside it as "key value" pairs, lists separated by commas."""
    if not isinstance(data, Mapping):
        return f"<p>{escape(data)}</p>" if data else ""
    rows = []
    for key, value in data.items():
        if key in _ELSEWHERE or value in (None, "", [], {}):
            continue
        rows.append(f"<div><dt>{escape(str(key).replace('_', ' '))}</dt><dd>{escape(_written(value))}</dd></div>")
    style = ' class="one"' if narrow else ""
    return f"<dl{style}>{''.join(rows)}</dl>" if rows else ""


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{str(k).replace('_', ' ')} {_written(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_written(item) for item in value)
    return str(value)


def _bars(values: Mapping[str, Any], style: str) -> str:
    numbers = {k: v for k, v in values.items() if isinstance(v, (int, float))}
    most = max(numbers.values(), default=0) or 1
    rows = [
        f'<span>{escape(key)}</span><i class="{style}" style="width:{100 * value / most:.1f}%"></i>'
        f'<span class="n">{count(value)}</span>'
        for key, value in numbers.items()
    ]
    return f'<div class="bars">{"".join(rows)}</div>'
