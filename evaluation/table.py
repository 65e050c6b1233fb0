"""A run's result as a table for the terminal: what ``make pipeline-run`` ends with.

python -m evaluation.report runs/latest/summary.json --table
"""

from collections.abc import Mapping
from typing import Any

from evaluation.figures import aligned, change, costs, count, decimal, duration, gate_table
from evaluation.outcome import REFUSED, held_back, outcome, reasons
from evaluation.results import Step, Summary
from model.row_counts import warning


def result_table(summary: Summary | Mapping[str, Any]) -> str:
    """Scores, costs, gates and verdict of a summary.json; whatever a failed run did not reach is left out."""
    run = Summary.model_validate(summary)
    blocks = [_head(run), _steps(run), _scores(run), _costs(run), gate_table(run.gates), warning(run.row_counts)]
    blocks.append(two_samples(run))
    if run.status or run.gates:
        blocks.append(_verdict(run))
    return "\n\n".join(block for block in blocks if block)


def _head(run: Summary) -> str:
    seconds = "" if run.seconds is None else duration(run.seconds)
    resumed = f"went on {len(run.resumed)} ×" if run.resumed else ""
    parts = (run.run_id and f"run {run.run_id}", run.profile and f"profile {run.profile}", seconds, resumed)
    return ", ".join(filter(None, parts))


def _steps(run: Summary) -> str:
    rows = [[step.name, duration(step.seconds), _ended(step)] for step in run.steps]
    return aligned(["step", "time", ""], rows)


def _ended(step: Step) -> str:
    return "made before" if step.reused else "" if step.status == "ok" else step.status


def _scores(run: Summary) -> str:
    quality = [name for variant in run.variants for name in (f"{variant.variant} BLEU", "chrF")]
    rows = []
    for scores in run.places():
        segments = next((score.segments for score in scores if score.segments is not None), None)
        figures = [figure for score in scores for figure in (decimal(score.bleu), decimal(score.chrf) + change(score))]
        rows.append([scores[0].test_set, scores[0].direction, count(segments), *figures])
    return aligned(["test set", "direction", "rows", *quality], rows, left=2)


def _costs(run: Summary) -> str:
    rows = [[label, *(figure for figure, _ in figures)] for label, figures in costs(run.variants)]
    return aligned(["", *(variant.variant for variant in run.variants)], rows) if run.variants else ""


def _verdict(run: Summary) -> str:
    lines = [f"published {run.published.variant}: {run.published.path}"] if run.published else []
    if run.generation.why:
        lines.append(f"beams by default: {run.generation.beams} ({run.generation.why})")
    held = held_back(run)
    for variant, why in held.items():
        lines += [f"WARNING: {variant} is held back:", *(f"  {reason}" for reason in why)]
    if why := reasons(run):
        word = "REFUSED, nothing is published:" if outcome(run) == REFUSED else "FAILED:"
        return "\n".join([*lines, word, *(f"  {reason}" for reason in why)])
    return "\n".join([*lines, f"OK, with {' and '.join(held)} held back" if held else "OK"])


def two_samples(run: Summary) -> str:
    """What the published variant wrote, a text in each direction: neither its best nor its worst held-out ones."""
    chosen = run.published.variant if run.published else ""
    variant = next((one for one in run.variants if one.variant == chosen), None)
    if variant is None:
        return ""
    heldout = [sample for sample in variant.samples if sample.test_set == "heldout"]
    directions = dict.fromkeys(sample.direction for sample in heldout)
    ways = [[sample for sample in heldout if sample.direction == direction] for direction in directions]
    shown = [way[len(way) // 2] for way in ways] if len(ways) > 1 else heldout[:2]
    rows = [(f"{sample.direction}:", _line(sample.source), "→", _line(sample.output)) for sample in shown]
    return "\n".join(" ".join(row) for row in rows)


def _line(text: str) -> str:
    """A text in one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= 160 else f"{line[:159]}…"
