"""The report of a run: one HTML page that needs nothing else, for a person to read on a desk, a phone or paper.

Built from summary.json alone, so it can be made again at any time; a section whose data the run did not reach is left
out, because the report of a failed run is the one that is read most closely.

    python -m evaluation.report runs/latest/summary.json > report.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from evaluation.figures import costs, gate_figures, processor, reasons
from evaluation.report import curves, samples
from evaluation.report.templates import ENVIRONMENT
from evaluation.results import Summary
from model.row_counts import warning


def render_report(summary: Summary | Mapping[str, Any]) -> str:
    """The whole page, for any summary.json, of a finished, failed or killed run."""
    run = Summary.model_validate(summary)
    sampled, groups = samples.shown(run)
    first = run.variants[0] if run.variants else None
    return ENVIRONMENT.get_template("page.html.j2").render(
        run=run,
        reasons=reasons(run),
        shown=next((v for v in run.variants if run.published and v.variant == run.published.variant), first),
        costs=costs(run.variants),
        machines=dict.fromkeys(processor(variant.hardware) for variant in run.variants if variant.hardware),
        size_plot=curves.size_against_quality(run),
        gates=[(gate, *gate_figures(gate)) for gate in run.gates],
        sampled=sampled,
        groups=groups,
        marked=samples.marked,
        training_plots=curves.training_plots(run),
        warning=warning(run.row_counts),
        settings=json.dumps(run.settings, ensure_ascii=False, indent=1),
    )
