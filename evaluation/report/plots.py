"""Small inline SVG plots for the report: no script, no font and no request, colours from the page's own CSS.

A plot is 460 x 280 units whatever the data, so two fit side by side on a desk and one fills a phone with text that
can still be read.

    python -c "from evaluation.report.plots import lines; print(lines('', [('a', 's1', [(0, 1), (1, 2)], '')], '', ''))"
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from evaluation.figures import printable

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 14, 44

Point = tuple[float, float]
Series = tuple[str, str, Sequence[Point], str]  # name, colour class (s1..s4), points, extra classes ("faint", "dots")


def escape(text: object) -> str:
    """Text safe inside HTML: markup escaped, control characters and lone surrogates taken out."""
    return html.escape(printable(text), quote=True)


def ticks(low: float, high: float, target: int = 5) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) inside [low, high]."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    power = 10 ** math.floor(math.log10(span / target))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(span / s - target))
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def lines(title: str, series: Sequence[Series], x_label: str, y_label: str, cap: float | None = None) -> str:
    """A line plot; ``cap`` cuts the y axis from above (the first steps of a loss would flatten all the rest)."""
    series = [(name, c, [p for p in points if _finite(p)], extra) for name, c, points, extra in series]
    every = [p for _, _, points, _ in series for p in points]
    if not every:
        return ""
    x0, x1 = min(p[0] for p in every), max(p[0] for p in every)
    y0, y1 = min(p[1] for p in every), max(p[1] for p in every)
    if cap is not None and cap < y1:
        y1 = cap
        series = [(name, c, [p for p in points if p[1] <= cap], extra) for name, c, points, extra in series]
    pad = (y1 - y0) * 0.06 or abs(y1) * 0.1 or 1.0
    frame = _Frame(x0, x1 if x1 > x0 else x0 + 1, y0 - pad, y1 + pad)
    body = [frame.axes(x_label, y_label)]
    for name, colour, points, extra in series:
        inside = [(frame.x(x), frame.y(y)) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in inside)
        body.append(f'<polyline class="{colour} {extra}" points="{path}"></polyline>')
        if "dots" in extra.split():
            body += [
                f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{escape(name)}: {_short(raw[1])} at '
                f"{_short(raw[0])}</title></circle>"
                for (x, y), raw in zip(inside, points, strict=True)
            ]
    named = [(name, colour) for name, colour, _, extra in series if name and "faint" not in extra.split()]
    return _svg(title, "".join(body) + (_legend(named) if len(named) > 1 else ""))


def scatter(
    title: str,
    points: Sequence[tuple[float, float, str, str]],
    x_label: str,
    y_label: str,
    rules: Sequence[tuple[float, str, str]] = (),
) -> str:
    """Labelled points (x, y, label, colour class) on an x axis from 0, with dashed ``rules`` (y, label, colour)."""
    points = [p for p in points if _finite(p[:2])]
    if not points:
        return ""
    rules = [rule for rule in rules if math.isfinite(rule[0])]
    values = [p[1] for p in points] + [rule[0] for rule in rules]
    low, high = min(values), max(values)
    # Never zoom in so far that a loss nobody would notice looks like a cliff.
    pad = max((high - low) * 0.12, abs(high) * 0.01, 1e-3)
    frame = _Frame(0.0, max(p[0] for p in points) * 1.15 or 1.0, low - pad, high + pad)
    body = [frame.axes(x_label, y_label)]
    for y, label, colour in rules:
        at = frame.y(y)
        body.append(f'<line class="rule {colour}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"></line>')
        body.append(
            f'<text class="rule-name" x="{WIDTH - RIGHT - 4}" y="{at - 5:.1f}" text-anchor="end">{escape(label)}</text>'
        )
    for x, y, label, colour in points:
        px, py = frame.x(x), frame.y(y)
        end = px > WIDTH - 90
        body.append(
            f'<circle class="{colour}" cx="{px:.1f}" cy="{py:.1f}" r="6"><title>{escape(label)}</title></circle>'
            f'<text class="name" x="{px:.1f}" y="{py - 11:.1f}" text-anchor="{"end" if end else "middle"}">'
            f"{escape(label)}</text>"
        )
    return _svg(title, "".join(body))


class _Frame:
    """Maps data to the plot's units and draws its axes."""

    def __init__(self, x0: float, x1: float, y0: float, y1: float) -> None:
        self.x0, self.x1, self.y0, self.y1 = x0, x1, y0, y1

    def x(self, value: float) -> float:
        return LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)

    def axes(self, x_label: str, y_label: str) -> str:
        out = []
        for value in ticks(self.y0, self.y1):
            at = self.y(value)
            out.append(
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"></line>'
                f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{_short(value)}</text>'
            )
        for value in ticks(self.x0, self.x1):
            out.append(
                f'<text x="{self.x(value):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_short(value)}</text>'
            )
        base = HEIGHT - BOTTOM
        middle = (TOP + base) / 2
        out.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"></line>')
        out.append(
            f'<text class="label" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
            f"{escape(x_label)}</text>"
            f'<text class="label" x="13" y="{middle}" text-anchor="middle" transform="rotate(-90 13 {middle})">'
            f"{escape(y_label)}</text>"
        )
        return "".join(out)


def _legend(named: Sequence[tuple[str, str]]) -> str:
    out = []
    for i, (name, colour) in enumerate(named):
        y = TOP + 14 + 18 * i
        out.append(
            f'<line class="{colour}" x1="{WIDTH - RIGHT - 116}" x2="{WIDTH - RIGHT - 94}" y1="{y}" y2="{y}"></line>'
            f'<text x="{WIDTH - RIGHT - 88}" y="{y + 4}">{escape(name)}</text>'
        )
    return "".join(out)


def _svg(title: str, body: str) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )


def _finite(point: Sequence[object]) -> bool:
    return all(isinstance(v, (int, float)) and math.isfinite(v) for v in point)


def _short(value: float) -> str:
    """15000 -> 15k, 0.00125 -> 0.00125: at most what an axis has room for."""
    for least, unit, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / unit:g}{letter}"
    return f"{value:.4g}"
