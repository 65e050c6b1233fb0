"""The report's three plots: loss and learning rate over the run, and what each variant's size costs in quality.

They are small inline SVG (plot.svg.j2): no script, no font and no request, colours from the page's own CSS. A plot is
460 x 280 units whatever the data, so two fit side by side on a desk and one fills a phone with text that can be read.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evaluation.results import Summary, finite

Point = tuple[float, float]
_COLOURS = {"fp32": "s1", "fp16": "s2", "int8": "s3"}  # classes of the style sheet


class Series(NamedTuple):
    """A curve; ``style`` is "faint", which leaves it out of the legend too, "dots" or nothing."""

    name: str
    colour: str
    points: Sequence[Point]
    style: str = ""


@dataclass(frozen=True)
class Plot:
    """What is drawn, and where: maps data to the plot's units, a tenth of one exactly.

    Attributes:
        labels, ranges: of the x axis and of the y axis; a range is the data's values at its ends.
        marks: labelled points: label, x, y, colour.
        rules: dashed lines: label, y, colour.
    """

    title: str
    labels: tuple[str, str]
    ranges: tuple[Point, Point]
    series: Sequence[Series] = ()
    marks: Sequence[tuple[str, float, float, str]] = ()
    rules: Sequence[tuple[str, float, str]] = ()

    width, height = 460, 280
    left, right, top, bottom = 66, width - 14, 14, height - 44  # of the area inside the axes

    def x(self, value: float) -> float:
        """The unit at which a value of the x axis lies."""
        low, high = self.ranges[0]
        return round(self.left + (value - low) / (high - low) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """The unit at which a value of the y axis lies."""
        low, high = self.ranges[1]
        return round(self.bottom - (value - low) / (high - low) * (self.bottom - self.top), 1)


def training_plots(run: Summary) -> list[Plot]:
    """Loss, chrF of the validation rows and learning rate; those of which nothing was recorded are left out."""
    loss, valid, score, rate = (recorded(run, key) for key in ("loss", "valid_loss", "valid_chrf", "lr"))
    # The first steps of a loss would flatten all the rest.
    cap = max((y for _, y in loss[len(loss) // 25 :] + valid), default=math.inf)
    losses = [
        Series("", "s1", thinned(loss), "faint"),
        Series("training", "s1", thinned(smoothed(loss))),
        validations(valid),
    ]
    plots = [
        lines("Loss", losses, "nats per token", cap),
        lines("chrF", [validations(score)], "chrF"),
        lines("Learning rate", [Series("learning rate", "s2", thinned(rate))], "learning rate"),
    ]
    return [plot for plot in plots if plot]


def validations(points: Sequence[Point]) -> Series:
    """What was found at each validation, as dots where there are few."""
    return Series("validation", "s3", thinned(points), "dots" if len(points) <= 40 else "")


def lines(title: str, series: Sequence[Series], label: str, cap: float = math.inf) -> Plot | None:
    """Curves over the run's steps, up to ``cap``; None where they have no points."""
    points = [point for each in series for point in each.points]
    if not points:
        return None
    xs, ys = zip(*points, strict=True)
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), min(max(ys), cap)
    pad = (y1 - y0) * 0.06 or abs(y1) * 0.1 or 1.0
    inside = [each._replace(points=[point for point in each.points if point[1] <= y1]) for each in series]
    return Plot(title, ("step", label), ((x0, max(x1, x0 + 1)), (y0 - pad, y1 + pad)), inside)


def recorded(run: Summary, key: str) -> list[Point]:
    """A figure of the training by its step, where it is a number."""
    return [(record["step"], record[key]) for record in run.curves if finite(record.get(key)) is not None]


def smoothed(points: Sequence[Point]) -> list[Point]:
    """A centred mean over about a fiftieth of the run; unlike a trailing one it does not lag behind a steep start."""
    reach = len(points) // 100
    out = []
    for i, (x, _) in enumerate(points):
        near = min(reach, i, len(points) - 1 - i)
        window = [y for _, y in points[i - near : i + near + 1]]
        out.append((x, sum(window) / len(window)))
    return out


def thinned(points: Sequence[Point], most: int = 500) -> list[Point]:
    """At most about ``most`` points, the last one always among them: a page has no use for more."""
    return [*points[: -1 : max(1, -(-len(points) // most))], *points[-1:]]


def size_against_quality(run: Summary) -> Plot | None:
    """Every variant by its bytes and its mean chrF (running text: its loss), with what the gates allow as dashes."""
    by_loss = all(variant.mean_chrf is None for variant in run.variants)
    quality = {v.variant: v.loss if by_loss else v.mean_chrf for v in run.variants}
    marks = [
        (v.variant, v.bytes / 1e6, value, _COLOURS.get(v.variant, "s4"))
        for v in run.variants
        if (value := quality[v.variant]) is not None and v.bytes is not None
    ]
    if len(marks) < 2:
        return None
    base, sign, bound = quality.get("fp32"), 1 if by_loss else -1, "most" if by_loss else "least"
    rules = [
        (f"{bound} allowed: {gate.variant}", base * (1 + gate.threshold * sign), _COLOURS.get(gate.variant, "s4"))
        for gate in run.gates
        if base is not None and gate.name == "max_chrf_loss" and gate.threshold is not None
    ]
    heights = [y for _, _, y, _ in marks] + [y for _, y, _ in rules]
    low, high = min(heights), max(heights)
    # Never zoom in so far that a loss nobody would notice looks like a cliff.
    pad = max((high - low) * 0.12, abs(high) * 0.01, 1e-3)
    labels = "size on disk, MB", "held-out loss, nats/token (lower is better)" if by_loss else "mean chrF"
    ranges = (0.0, max(x for _, x, _, _ in marks) * 1.15 or 1.0), (low - pad, high + pad)
    return Plot("Size against quality", labels, ranges, marks=marks, rules=rules)


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
