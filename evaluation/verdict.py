"""The verdict on a run's variants: which one is published, written for the pipeline and shown to people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from evaluation.figures import reasons
from evaluation.gate import choose, gate
from evaluation.report.page import render_report
from evaluation.results import NONE, Evaluation, Summary, Verdict
from model.config import GateConfig
from model.files import write_json, write_text


def decide(evaluations: Mapping[str, str], config: GateConfig, machine: str, out: str, report: str) -> str:
    """Judge the evaluation directories, write ``out``/verdict.json and the HTML ``report``.

    Returns:
        The variant to publish on this machine ("cpu" or "gpu"), or "none".
    """
    measured = {variant: Evaluation.read(path) for variant, path in evaluations.items()}
    gates = gate(measured, config)
    chosen = choose(measured, gates, machine)
    metrics = measured[chosen].figures() if chosen else {}
    verdict = Verdict(variant=chosen or NONE, machine=machine, gates=gates, metrics=metrics)
    write_json(Path(out) / "verdict.json", verdict.model_dump())
    summary = Summary(variants=list(measured.values()), gates=gates)
    write_text(Path(report), render_report(summary))
    for reason in reasons(summary):
        print(reason)
    print(f"to be published for a {machine} machine: {verdict.variant}")
    return verdict.variant
