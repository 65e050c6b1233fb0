"""The report's three plots: loss and learning rate over the run, and what each variant's size costs in quality."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from evaluation.report.plots import Point, lines, scatter
from evaluation.results import Summary, finite

_COLOURS = {"fp32": "s1", "fp16": "s2", "int8": "s3"}


def training_plots(run: Summary) -> dict[str, Markup]:
    """Curves by title; those of which nothing was recorded are left out."""
    steps = [record for record in run.curves if finite(record.get("loss")) is not None]
    loss = [(record["step"], record["loss"]) for record in steps]
    valid = [(r["step"], r["valid_loss"]) for r in run.curves if finite(r.get("valid_loss")) is not None]
    rate = [(record["step"], record["lr"]) for record in steps if record.get("lr") is not None]
    cap = max((y for _, y in loss[len(loss) // 25 :] + valid), default=None)
    series = [
        ("", "s1", _thinned(loss), "faint"),
        ("training", "s1", _thinned(_smoothed(loss)), ""),
        ("validation", "s3", _thinned(valid), "dots" if len(valid) <= 40 else ""),
    ]
    plots = {
        "Loss": lines("Loss", series, "step", "nats per token", cap=cap),
        "Learning rate": lines("Learning rate", [("learning rate", "s2", _thinned(rate), "")], "step", "learning rate"),
    }
    return {title: plot for title, plot in plots.items() if plot}


def _smoothed(points: Sequence[Point]) -> list[Point]:
    """A centred mean over about a fiftieth of the run; unlike a trailing one it does not lag behind a steep start."""
    reach = len(points) // 100
    out = []
    for i, (x, _) in enumerate(points):
        near = min(reach, i, len(points) - 1 - i)
        window = [y for _, y in points[i - near : i + near + 1]]
        out.append((x, sum(window) / len(window)))
    return out


def _thinned(points: Sequence[Point], most: int = 500) -> list[Point]:
    """At most about ``most`` points, the last one always among them: a page has no use for more."""
    stride = max(1, -(-len(points) // most))
    kept = list(points[::stride])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def size_against_quality(run: Summary) -> Markup:
    """Every variant by its bytes and its mean chrF (running text: its loss), with what the gates allow as dashes."""
    by_loss = all(variant.mean_chrf is None for variant in run.variants)
    quality = {v.variant: v.loss if by_loss else v.mean_chrf for v in run.variants}
    points = [
        (v.bytes / 1e6, value, v.variant, _COLOURS.get(v.variant, "s4"))
        for v in run.variants
        if (value := quality[v.variant]) is not None and v.bytes is not None
    ]
    base = quality.get("fp32")
    rules = [
        (
            base * (1 + gate.threshold * (1 if by_loss else -1)),
            f"{'most' if by_loss else 'least'} allowed: {gate.variant}",
            _COLOURS.get(gate.variant, "s4"),
        )
        for gate in run.gates
        if base is not None and gate.name == "max_chrf_loss" and gate.threshold is not None
    ]
    label = "held-out loss, nats/token (lower is better)" if by_loss else "mean chrF"
    return scatter("Size against quality", points, "size on disk, MB", label, rules) if len(points) > 1 else Markup()
