"""The verdict on a run's variants: which one is published, written for the pipeline and shown to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.figures import reasons
from evaluation.gate import choose, gate
from evaluation.report.page import render_report
from evaluation.results import NONE, Evaluation, GateResult, Summary, Verdict
from model.config import GateConfig
from model.files import write_json, write_text


def decide(evaluations: Mapping[str, str], config: GateConfig, machine: str, out: str, report: str) -> str:
    """Judge the evaluation directories, write ``out``/verdict.json and the HTML ``report``.

    Returns:
        The variant to publish on this machine ("cpu" or "gpu"), or "none".
    """
    measured = {variant: load_evaluation(path) for variant, path in evaluations.items()}
    gates = gate(measured, config)
    chosen = choose(measured, gates, machine)
    metrics = measured[chosen].figures() if chosen else {}
    verdict = Verdict(variant=chosen or NONE, machine=machine, gates=gates, metrics=metrics)
    write_json(Path(out) / "verdict.json", verdict.model_dump())
    summary = Summary(**summarize(measured, gates))
    write_text(Path(report), render_report(summary))
    for reason in reasons(summary):
        print(reason)
    print(f"to be published for a {machine} machine: {verdict.variant}")
    return verdict.variant


def summarize(measured: Mapping[str, Evaluation], gates: Sequence[GateResult]) -> dict[str, Any]:
    """The part of a run's summary that evaluations and gates make: variants, samples, gates."""
    return {
        "variants": [evaluation.figures() for evaluation in measured.values()],
        "samples": {
            variant: [sample.model_dump() for sample in evaluation.samples] for variant, evaluation in measured.items()
        },
        "gates": [result.model_dump() for result in gates],
    }


def load_evaluation(directory: str | Path) -> Evaluation:
    """The evaluation.json of one variant."""
    return Evaluation.read(Path(directory) / "evaluation.json")


def load_verdict(directory: str | Path) -> Verdict:
    """What :func:`decide` wrote."""
    return Verdict.read(Path(directory) / "verdict.json")
