"""Small inline SVG plots for the report: no script, no font and no request, colours from the page's own CSS.

A plot is 460 x 280 units whatever the data, so two fit side by side on a desk and one fills a phone with text that
can still be read.

    python -c "from evaluation.report.plots import lines; print(lines('', [('a', 's1', [(0, 1), (1, 2)], '')], '', ''))"
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

from evaluation.report.templates import ENVIRONMENT
from evaluation.results import finite

Point = tuple[float, float]
Series = tuple[str, str, Sequence[Point], str]  # name, colour class (s1..s4), points, extra classes ("faint", "dots")


def lines(title: str, series: Sequence[Series], x_label: str, y_label: str, cap: float | None = None) -> Markup:
    """A line plot; ``cap`` cuts the y axis from above (the first steps of a loss would flatten all the rest)."""
    series = [(name, colour, _finite(points), extra) for name, colour, points, extra in series]
    every = [point for _, _, points, _ in series for point in points]
    if not every:
        return Markup()
    xs, ys = zip(*every, strict=True)
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    y1 = y1 if cap is None else min(y1, cap)
    pad = (y1 - y0) * 0.06 or abs(y1) * 0.1 or 1.0
    frame = _Frame(x0, x1 if x1 > x0 else x0 + 1, y0 - pad, y1 + pad)
    paths, dots = [], []
    for name, colour, points, extra in series:
        inside = [point for point in points if point[1] <= y1]
        placed = [(frame.x(x), frame.y(y)) for x, y in inside]
        paths.append((f"{colour} {extra}", " ".join(f"{x},{y}" for x, y in placed)))
        if "dots" in extra.split():
            said = [f"{name}: {short(y)} at {short(x)}" for x, y in inside]
            dots += [(colour, x, y, text) for (x, y), text in zip(placed, said, strict=True)]
    legend = [(name, colour) for name, colour, _, extra in series if name and "faint" not in extra.split()]
    return frame.drawn(title, x_label, y_label, paths=paths, dots=dots, legend=legend if len(legend) > 1 else [])


def scatter(
    title: str,
    points: Sequence[tuple[float, float, str, str]],
    x_label: str,
    y_label: str,
    rules: Sequence[tuple[float, str, str]] = (),
) -> Markup:
    """Labelled points (x, y, label, colour class) on an x axis from 0, with dashed ``rules`` (y, label, colour)."""
    points = _finite(points)
    if not points:
        return Markup()
    rules = [rule for rule in rules if finite(rule[0]) is not None]
    heights = [y for _, y, _, _ in points] + [y for y, _, _ in rules]
    low, high = min(heights), max(heights)
    # Never zoom in so far that a loss nobody would notice looks like a cliff.
    pad = max((high - low) * 0.12, abs(high) * 0.01, 1e-3)
    frame = _Frame(0.0, max(x for x, _, _, _ in points) * 1.15 or 1.0, low - pad, high + pad)
    marks = [(colour, frame.x(x), frame.y(y), label) for x, y, label, colour in points]
    dashes = [(colour, frame.y(y), label) for y, label, colour in rules]
    return frame.drawn(title, x_label, y_label, rules=dashes, marks=marks)


def ticks(low: float, high: float, target: int = 5) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) inside [low, high]."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    power = 10 ** math.floor(math.log10(span / target))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(span / s - target))
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """15000 -> 15k, 0.00125 -> 0.00125: at most what an axis has room for."""
    for least, unit, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / unit:g}{letter}"
    return f"{value:.4g}"


class _Frame:
    """Maps data to the plot's units, a tenth of one exactly, and knows the ticks of its axes."""

    width, height = 460, 280
    left, right, top, bottom = 66, width - 14, 14, height - 44  # of the area inside the axes

    def __init__(self, x0: float, x1: float, y0: float, y1: float) -> None:
        self.x0, self.x1, self.y0, self.y1 = x0, x1, y0, y1
        self.x_ticks = [(self.x(value), short(value)) for value in ticks(x0, x1)]
        self.y_ticks = [(self.y(value), short(value)) for value in ticks(y0, y1)]

    def x(self, value: float) -> float:
        return round(self.left + (value - self.x0) / (self.x1 - self.x0) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        return round(self.bottom - (value - self.y0) / (self.y1 - self.y0) * (self.bottom - self.top), 1)

    def drawn(self, title: str, x_label: str, y_label: str, **parts: Any) -> Markup:
        """The axes and what lies inside them: paths, dots, legend, rules, marks."""
        labels = {"title": title, "x_label": x_label, "y_label": y_label}
        return Markup(ENVIRONMENT.get_template("plot.svg.j2").render(frame=self, **labels, **parts))


def _finite(points: Iterable[Any]) -> list[Any]:
    """The points whose x and y are both numbers."""
    return [point for point in points if finite(point[0]) is not None and finite(point[1]) is not None]
