"""The report of a run: one HTML page that needs nothing else, for a person to read on a desk, a phone or paper.

Built from summary.json alone, so it can be made again at any time; a section whose data the run did not reach is left
out, because the report of a failed run is the one that is read most closely. In the templates every text is escaped on
its way out, and an unknown name is an error.
"""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluation import figures, outcome
from evaluation.report import plots
from evaluation.report.rules import rules
from evaluation.results import Sample, Summary, finite
from model.row_counts import warning

# Keys whose value is a section of its own, or says nothing to a reader of the report.
_ELSEWHERE = {
    *("format_version", "network", "versions", "shards", "config", "counts", "row_counts", "seconds", "sha256"),
    "examples",
}
# Words of the output times words of the reference, above which they are not compared: it takes the square of them.
_COMPARED = 1 << 16


def render_report(summary: Summary | Mapping[str, Any]) -> str:
    """The whole page, for any summary.json, of a finished, failed or killed run."""
    run = Summary.model_validate(summary)
    published = run.published.variant if run.published else None
    sampled, groups = _samples(run, published)
    return ENVIRONMENT.get_template("page.html.j2").render(
        run=run,
        reasons=outcome.reasons(run),
        held_back=outcome.held_back(run),
        refused=outcome.outcome(run) == outcome.REFUSED,
        shown=run.shown(),
        costs=figures.costs(run.variants),
        machines=dict.fromkeys(figures.processor(variant.hardware) for variant in run.variants if variant.hardware),
        size_plot=plots.size_against_quality(run),
        gates=[(gate, *figures.gate_figures(gate)) for gate in run.gates],
        sampled=sampled,
        groups=groups,
        training_plots=plots.training_plots(run),
        rules=rules(run.corpus),
        warning=warning(run.row_counts),
        settings=json.dumps(run.settings, ensure_ascii=False, indent=1),
    )


def _samples(run: Summary, published: str | None) -> tuple[str, dict[tuple[str, str], list[Sample]]]:
    """The published variant, or the first that has samples, and what it wrote by test set and direction, best first.

    They were drawn evenly over the quantiles of sentence chrF (quality.spread), not picked by hand; the better half is
    shown beside the worse half, so that neither is hidden.
    """
    by_variant = {variant.variant: variant.samples for variant in run.variants if variant.samples}
    variant = published if published and published in by_variant else next(iter(by_variant), "")
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in by_variant.get(variant, []):
        groups.setdefault((sample.test_set, sample.direction), []).append(sample)
    return variant, {key: sorted(group, key=lambda sample: -(sample.chrf or 0.0)) for key, group in groups.items()}


def marked(output: str, reference: str) -> list[tuple[str, bool]]:
    """The output in runs of words, each with whether the reference has it at that place."""
    words, wanted = output.split(), reference.split()
    if len(words) * len(wanted) > _COMPARED:
        return [(" ".join(words), True)]
    changes = difflib.SequenceMatcher(None, words, wanted, autojunk=False).get_opcodes()
    runs = [(" ".join(words[start:end]), kind == "equal") for kind, start, end, _, _ in changes if end > start]
    return runs or [("(nothing)", False)]


def facts(data: Mapping[str, Any]) -> dict[str, str]:
    """A card's figures in words. Keys that nobody has heard of yet are shown as they are."""
    return {spaced(k): written(v) for k, v in data.items() if k not in _ELSEWHERE and v not in (None, "", [], {})}


def written(value: Any) -> str:
    """Plain data as people write it: mappings as "key value" pairs, lists separated by commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{spaced(key)} {written(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(written, value))
    return str(value)


def spaced(key: object) -> str:
    """``train_loss`` -> train loss."""
    return str(key).replace("_", " ")


def numbers(*mappings: Mapping[str, Any]) -> dict[str, float]:
    """The entries that can be drawn as bars; of equal keys the last one holds."""
    merged = {key: value for mapping in mappings for key, value in mapping.items()}
    return {key: value for key, value in merged.items() if finite(value) is not None}


ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
for function in (
    *(facts, written, spaced, numbers, marked, plots.short),
    *(figures.change, figures.count, figures.decimal, figures.duration, figures.megabytes, figures.last_line),
):
    ENVIRONMENT.filters[function.__name__] = function
ENVIRONMENT.globals["ticks"] = plots.ticks
