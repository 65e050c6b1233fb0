"""Reading evaluations, writing the verdict: what stands between the gate's library functions and Kubeflow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.config import GateConfig

NONE = "none"  # the decision that no variant may be published


def decide(evaluations: Mapping[str, str], config: GateConfig, machine: str, out: str, report: str) -> str:
    """Judge the evaluation directories, write ``out``/verdict.json and the HTML ``report``.

    Returns:
        The variant to publish on this machine ("cpu" or "gpu"), or "none".
    """
    from evaluation.figures import reasons
    from evaluation.gate import choose, gate
    from evaluation.report.page import render_report
    from model.files import write_json

    measured = {variant: load_evaluation(path) for variant, path in evaluations.items()}
    gates = gate(measured, config)
    chosen = choose(measured, gates, machine)
    metrics = {key: value for key, value in measured.get(chosen or "", {}).items() if key != "samples"}
    decision = chosen or NONE
    verdict = {"variant": decision, "machine": machine, "gates": gates, "metrics": metrics}
    write_json(Path(out) / "verdict.json", verdict)
    Path(report).write_text(render_report(summarize(measured, gates)), encoding="utf-8")
    for reason in reasons({"gates": gates}):
        print(reason)
    print(f"to be published for a {machine} machine: {decision}")
    return decision


def summarize(measured: Mapping[str, Mapping[str, Any]], gates: list[dict[str, Any]]) -> dict[str, Any]:
    """The part of a run's summary that evaluations and gates make: variants, samples, gates."""
    return {
        "variants": [{k: v for k, v in report.items() if k != "samples"} for report in measured.values()],
        "samples": {variant: report.get("samples", []) for variant, report in measured.items()},
        "gates": gates,
    }


def load_evaluation(directory: str | Path) -> dict[str, Any]:
    """The evaluation.json of one variant."""
    return json.loads((Path(directory) / "evaluation.json").read_text(encoding="utf-8"))


def load_verdict(directory: str | Path) -> dict[str, Any]:
    """What :func:`decide` wrote."""
    return json.loads((Path(directory) / "verdict.json").read_text(encoding="utf-8"))
