"""How a run on Kubeflow ended, gathered and told as a run on this machine tells it.

The last step hands the figures over in its log (components/summary_line.py); steps, times and causes come from Kubeflow
and from what the pods said. A run that did not come so far is told with what it left.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.summary_line import find_summary
from evaluation.outcome import WELL, outcome, reasons
from evaluation.report.page import render_report
from evaluation.results import Summary
from evaluation.table import result_table
from model.files import write_json, write_text
from model.options import FAILED, OK
from pipelines.kubeflow import Json, Kubeflow, KubeflowError
from pipelines.summary import KILLED
from pipelines.watch import Step, moment, silence, steps_of, tail, words

LAST_STEPS = ("publish", "refuse")  # one of them runs whenever all before it went well, and is never cached
_RUN_ID = re.compile(r"\d{8}T\d{6}Z-(.+)-[0-9a-f]{4}")


def tell(kubeflow: Kubeflow, ended: Mapping[str, Any], names: Mapping[str, str], runs: Path) -> int:
    """Write summary.json and report.html below ``runs``, print the pods' last words and the result; the exit status."""
    steps = steps_of(ended, names)
    logs = {step.name: _log(kubeflow, ended["run_id"], step) for step in steps if _matters(step)}
    for step in steps:
        if step.state == "failed":
            said = tail(logs.get(step.name, "")) or [
                f"no log is left: {silence(step.pod)}" if step.pod else "it had no pod"
            ]
            print(f"\nlast words of {step.name}:", *(f"  {line}" for line in said), sep="\n")
    summary = summarise(ended, steps, logs)
    summary["error"] = summary["error"] or _unexplained(kubeflow, ended, summary)
    summary.update(status=outcome(summary), error="; ".join(reasons(summary)) or None)
    folder = runs / re.sub(r"[^\w.-]+", "-", summary["run_id"])
    folder.mkdir(parents=True, exist_ok=True)
    finished = Summary.model_validate(summary)
    write_json(folder / "summary.json", summary)
    write_text(folder / "report.html", render_report(finished))
    address = kubeflow.address(ended["run_id"])
    print(f"\nsummary  {folder}/summary.json\nreport   {folder}/report.html\nrun      {address}\n")
    print(result_table(finished), flush=True)
    return OK if finished.status in WELL else FAILED


def summarise(ended: Mapping[str, Any], steps: Sequence[Step], logs: Mapping[str, str]) -> Json:
    """The summary of a run: what its last step handed over, and Kubeflow's word on the steps."""
    handed = next((found for name in LAST_STEPS if (found := find_summary(logs.get(name, "")))), {})
    run_name = str(ended.get("display_name", ""))
    begun, over = moment(ended.get("created_at")), moment(ended.get("finished_at"))
    shown = []
    for step in steps:
        if step.state in ("waiting", "skipped"):
            continue
        name = f"{step.name} (cached)" if step.state == "cached" else step.name
        entry = {"name": name, "status": "ok", "seconds": step.seconds}
        if step.state not in ("ok", "cached"):
            entry |= {"status": step.state, "error": words(logs.get(step.name, "")) or KILLED}
        shown.append(entry)
    parameters = (ended.get("runtime_config") or {}).get("parameters") or {}
    # STORE/RUN_ID/bundle: a recurring run's name is its job's, which no parameter holds.
    published = str((handed.get("published") or {}).get("path", "")).removesuffix("/bundle").rpartition("/")[2]
    return {
        "run_id": published or str(parameters.get("run_id") or run_name),
        "profile": _profile(run_name),
        "code_version": parameters.get("code_version", ""),
        "started": ended.get("created_at", ""),
        "seconds": round(over - begun, 1) if over > begun else None,
        "error": "",
        **handed,
        "steps": shown,
    }


def _unexplained(kubeflow: Kubeflow, ended: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Why a run is no success although no step and no gate says so."""
    state = ended.get("state")
    if state == "SUCCEEDED" and not summary.get("published") and not reasons(summary):
        return "the run succeeded, and its last step has left no figures: its log is gone, or it is of another version"
    if state == "SUCCEEDED" or reasons(summary):
        return ""
    said = str((ended.get("error") or {}).get("message", ""))
    return f"Kubeflow calls the run {state}: {said or 'see ' + kubeflow.address(ended['run_id'])}"


def earlier_steps(kubeflow: Kubeflow, run: Mapping[str, Any], names: Mapping[str, str]) -> list[Step]:
    """The steps of the newest run of the same profile that took nothing from the cache; empty where there is none."""
    profile = _profile(str(run.get("display_name", "")))
    try:
        for other in kubeflow.runs(str(run["experiment_id"])) if profile else ():
            same = _profile(str(other.get("display_name", ""))) == profile
            if same and other.get("state") == "SUCCEEDED":
                steps = steps_of(kubeflow.run(other["run_id"]), names)
                if not any(step.state == "cached" for step in steps):
                    return steps
    except KubeflowError:  # it is only for a guess
        pass
    return []


def _profile(name: str) -> str:
    """The profile in a run's name (pipelines.request.new_run_id); empty where another gave the name."""
    match = _RUN_ID.fullmatch(name)
    return match[1] if match else ""


def _matters(step: Step) -> bool:
    return bool(step.pod) and (step.state == "failed" or step.name in LAST_STEPS)


def _log(kubeflow: Kubeflow, run_id: str, step: Step) -> str:
    try:
        return kubeflow.log(run_id, step.pod)
    except KubeflowError:
        return ""
