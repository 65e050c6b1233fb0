"""The samples of a report: for every test set, the better half beside the worse half, so that neither is hidden.

They were drawn evenly over the quantiles of sentence chrF (metrics.spread), not picked by hand.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from evaluation.results import Sample, Summary

# Words of the output times words of the reference, above which they are not compared: it takes the square of them.
_COMPARED = 1 << 16


@dataclass(frozen=True)
class Group:
    """The samples of one test set in one direction: continuations, or translations in two halves, ranked by chrF."""

    test_set: str
    direction: str
    continuations: list[Sample]
    better: list[Sample]
    worse: list[Sample]


def shown(run: Summary) -> tuple[str, list[Group]]:
    """The variant whose samples are shown, the published one or the first that has any, and its samples in groups."""
    by_variant = {variant: samples for variant, samples in run.samples.items() if samples}
    published = run.published.variant if run.published else ""
    variant = published if published in by_variant else next(iter(by_variant), "")
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in by_variant.get(variant, []):
        groups.setdefault((sample.test_set, sample.direction), []).append(sample)
    return variant, [_group(*place, samples) for place, samples in groups.items()]


def _group(test_set: str, direction: str, samples: list[Sample]) -> Group:
    if any(sample.chrf is None for sample in samples):
        return Group(test_set, direction, samples, [], [])
    ranked = sorted(samples, key=lambda sample: -(sample.chrf or 0.0))
    half = (len(ranked) + 1) // 2
    return Group(test_set, direction, [], ranked[:half], ranked[half:])


def marked(output: str, reference: str) -> list[tuple[str, bool]]:
    """The output in runs of words, each with whether the reference has it at that place."""
    words, wanted = output.split(), reference.split()
    if len(words) * len(wanted) > _COMPARED:
        return [(" ".join(words), True)]
    changes = difflib.SequenceMatcher(None, words, wanted, autojunk=False).get_opcodes()
    runs = [(" ".join(words[start:end]), kind == "equal") for kind, start, end, _, _ in changes if end > start]
    return runs or [("(nothing)", False)]
