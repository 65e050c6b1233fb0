"""Two to four runs on one page: the settings that differ, curves on top of each other, scores, samples side by side.

Built from the runs' summaries, and from what they wrote for each row where that is still there. The page needs nothing
else: no script, no font, no request.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from sacrebleu import sentence_chrf

from evaluation.paired import Measured, Rows, compared
from evaluation.quality import spread
from evaluation.report import plots
from evaluation.report.page import ENVIRONMENT
from evaluation.results import Evaluation, Sample, Summary

LETTERS, COLOURS = "ABCD", ("s2", "s3", "s4", "s1")
SAMPLES = 6  # of a test set and direction
ABSENT = object()


class Compared(NamedTuple):
    """A run, and by place (``heldout/ru-en``) what the variant that it is known by wrote; empty where that is gone."""

    summary: Summary
    rows: Mapping[str, Rows]

    @property
    def variant(self) -> Evaluation:
        """The variant that the run is known by; an empty one where none was measured."""
        return self.summary.shown() or Evaluation()


def render_comparison(runs: Sequence[Compared]) -> str:
    """The page of two to four runs, whatever each of them reached."""
    if not 2 <= len(runs) <= len(LETTERS):
        raise ValueError(f"two to {len(LETTERS)} runs can be compared, not {len(runs)}")
    summaries = [run.summary for run in runs]
    return ENVIRONMENT.get_template("compare.html.j2").render(
        runs=[*zip(LETTERS, COLOURS, runs, strict=False)],
        settings=differences([run.settings for run in summaries]),
        origins=differences([_origin(run) for run in summaries]),
        plots=_plots(summaries),
        same_tokens=len({run.tokenizer.get("sha256") for run in summaries}) == 1,
        scores=_scores(runs),
        samples=_samples(runs),
    )


def differences(sections: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The dotted names whose values differ, each with the value of every run; None where it has none."""
    flat = [dict(_flat(section)) for section in sections]
    names = dict.fromkeys(chain.from_iterable(flat))
    found = {name: [each.get(name, ABSENT) for each in flat] for name in names}
    return {
        name: [None if value is ABSENT else value for value in values]
        for name, values in found.items()
        if any(value != values[0] for value in values)
    }


def _flat(section: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs = []
    for key, value in section.items():
        # A mapping such as gate.min_chrf is one value: its keys are data.
        deeper = isinstance(value, Mapping) and not prefix
        pairs += _flat(value, f"{key}.") if deeper else [(f"{prefix}{key}", value)]
    return pairs


def _origin(run: Summary) -> dict[str, Any]:
    """What a run was made of and on, besides its settings."""
    counts = {f"text, {split}": run.corpus.get("counts", {}).get(split) for split in ("train", "valid", "heldout")}
    machine = {name: run.hardware.get(name) for name in ("cpu", "cores", "gpus")}
    return {"code": run.code_version, **counts, **machine, **run.versions}


def _plots(runs: Sequence[Summary]) -> list[plots.Plot]:
    """Loss in training and in validation, a curve for each run."""
    found = []
    for title, key, smooth in (("Training loss", "loss", True), ("Validation loss", "valid_loss", False)):
        curves = [plots.recorded(run, key) for run in runs]
        cap = max((y for curve in curves for _, y in curve[len(curve) // 25 :]), default=0.0)
        series = [
            plots.Series("", colour, plots.thinned(plots.smoothed(curve) if smooth else curve))
            for colour, curve in zip(COLOURS, curves, strict=False)
        ]
        found.append(plots.lines(title, series, "nats per token", cap))
    return [plot for plot in found if plot]


def _scores(runs: Sequence[Compared]) -> dict[str, list[Measured | None]]:
    """By place that any run was scored in: each run's chrF, with its interval where its rows are there."""
    found = {}
    for place in dict.fromkeys(score.place for run in runs for score in run.variant.scores):
        told = [{score.place: score.chrf for score in run.variant.scores}.get(place) for run in runs]
        plain = [None if chrf is None else Measured(chrf, None, None) for chrf in told]
        with_rows = [run.rows[place] for run in runs if place in run.rows]
        tested = iter(compared(with_rows) if with_rows else ())
        found[place] = [next(tested) if place in run.rows else plain[i] for i, run in enumerate(runs)]
    return found


def _samples(runs: Sequence[Compared]) -> dict[str, list[list[Sample]]]:
    """By place: rows that all runs have, each with every run's sample; of runs without rows, the samples they share."""
    found: dict[str, list[list[Sample]]] = {}
    for place in runs[0].rows:
        rows = [run.rows[place] for run in runs if place in run.rows and run.rows[place][:2] == runs[0].rows[place][:2]]
        if len(rows) == len(runs):
            found[place] = _drawn(place, rows)
    kept = [{(s.test_set, s.direction, s.source): s for s in run.variant.samples} for run in runs]
    for key, sample in {} if found else kept[0].items():
        if all(key in samples for samples in kept):
            place = f"{sample.test_set}/{sample.direction}"
            found.setdefault(place, []).append([samples[key] for samples in kept])
    return found


def _drawn(place: str, rows: Sequence[Rows]) -> list[list[Sample]]:
    """Rows drawn evenly from where the last run is most ahead of the first to where it is most behind."""
    test_set, _, direction = place.rpartition("/")
    sources, references, _ = rows[0]
    chrf = [[sentence_chrf(o, [r]).score for o, r in zip(each.outputs, references, strict=True)] for each in rows]
    ahead = [last - first for first, last in zip(chrf[0], chrf[-1], strict=True)]

    def sample(run: int, i: int) -> Sample:
        texts = {"source": sources[i], "reference": references[i], "output": rows[run].outputs[i]}
        return Sample(test_set=test_set, direction=direction, chrf=chrf[run][i], **texts)

    return [[sample(run, i) for run in range(len(rows))] for i in spread(ahead, SAMPLES)]
