"""How a run ended: published; published with a variant held back; refused, for no variant may be; or failed on its way.

The first two are well: exit status 0. A variant is held back where it failed a gate, and another one is published. A
run is refused where that is none. Whatever else a run broke off at is a failure.
"""

from collections.abc import Mapping
from typing import Any

from evaluation.figures import MISSING, duration, gate_figures, last_line
from evaluation.results import NONE, GateResult, Summary

PUBLISHED, HELD_BACK, REFUSED, FAILED = "published", "held back", "refused", "failed"
WELL = (PUBLISHED, HELD_BACK)


def outcome(summary: Summary | Mapping[str, Any]) -> str:
    """One of the four words."""
    run = Summary.model_validate(summary)
    if reasons(run):
        broken = any(step.status != "ok" and step.name != "refuse" for step in run.steps)
        return REFUSED if _refused(run) and not broken else FAILED
    return HELD_BACK if held_back(run) else PUBLISHED


def reasons(summary: Summary | Mapping[str, Any]) -> list[str]:
    """Why nothing was published, or not all is well with it, one sentence a cause; empty if all is well."""
    run = Summary.model_validate(summary)
    found = _broken(run)
    if _refused(run):
        found += [_sentence(gate) for gate in run.gates if gate.passed is False]
    if not found and (error := last_line(run.error)):  # else it only tells again what a step or a gate has told
        found.append(error)
    if not found and run.status == FAILED:
        found.append("the run failed and left no reason: see its log")
    return found


def held_back(summary: Summary | Mapping[str, Any]) -> dict[str, list[str]]:
    """The variants that failed a gate where another one is published, each with a sentence a gate."""
    run = Summary.model_validate(summary)
    found: dict[str, list[str]] = {}
    for gate in [] if _refused(run) else run.gates:
        if gate.passed is False:
            found.setdefault(gate.variant, []).append(_sentence(gate))
    return found


def _refused(run: Summary) -> bool:
    """Whether the gates were asked and let no variant pass."""
    chosen = run.chosen or (run.published.variant if run.published else NONE)
    return bool(run.gates) and chosen == NONE


def _broken(run: Summary) -> list[str]:
    """A sentence for each step that ended badly, but for the one that tells of the gates."""
    found = []
    judged = any(gate.passed is False for gate in run.gates)
    for step in run.steps:
        if step.status != "ok" and not (step.name == "refuse" and judged):
            text = f"step {step.name} {step.status} after {duration(step.seconds)}"
            found.append(f"{text}: {last_line(step.error)}" if last_line(step.error) else text)
    return found


def _sentence(gate: GateResult) -> str:
    _, value, bound = gate_figures(gate)
    detail = f" ({gate.detail})" if gate.detail else ""
    measured = "not measured" if value == MISSING else value
    return f"gate {gate.name} of {gate.variant}: {measured}, must be {bound}{detail}"
