"""The samples of a report: for every test set, the better half beside the worse half, so that neither is hidden.

They were drawn evenly over the quantiles of sentence chrF (metrics.spread), not picked by hand.
"""

from __future__ import annotations

import difflib

from evaluation.results import Sample, Summary

# Words of the output times words of the reference, above which they are not compared: it takes the square of them.
_COMPARED = 1 << 16


def shown(run: Summary) -> tuple[str, dict[tuple[str, str], list[Sample]]]:
    """The published variant, or the first that has samples, and what it wrote by test set and direction, best first."""
    by_variant = {variant.variant: variant.samples for variant in run.variants if variant.samples}
    published = run.published.variant if run.published else ""
    variant = published if published in by_variant else next(iter(by_variant), "")
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
