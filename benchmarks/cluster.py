"""What `make cluster-test` found on a real cluster, as the table of docs/cluster-test.md; tests/cluster/ has the tests.

print(cluster_table(json.loads(Path("results/cluster.json").read_text())))
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from benchmarks.machine import markdown
from evaluation.figures import processor

# The facts that count calls, in the order in which they are told; those of other names are in the file only.
UNDER_LOAD = {
    "release and back under load": "a release, and the way back",
    "pod deleted under load": "a pod deleted",
    "server killed under load": "`kill -9` for one of two servers",
    "wrong storageUri under load": "a `storageUri` that leads nowhere",
    "corrupted bundle under load": "a release of a bundle with one wrong bit",
}

# Runs of the pipeline on Kubeflow, by the fact that tells of each.
ON_KUBEFLOW = {
    "kubeflow run": "the first run",
    "kubeflow second run": "the same again, from the cache",
    "kubeflow failing gate": "a gate that nothing passes",
    "kubeflow killed training": "training killed, and gone on with from its checkpoint",
    "kubeflow release": "published and released to the service",
}


def cluster_table(result: Mapping[str, Any]) -> str:
    """Calls made and failed while things happened; runs on Kubeflow; how many tests ended how, on what, when."""
    facts = result["facts"]
    loads = [(text, facts[name]) for name, text in UNDER_LOAD.items() if name in facts]
    if canary := facts.get("canary"):
        loads.append(("weights put into the Gateway's route, and taken out", canary["load"]))
    if scaled := facts.get("autoscaling"):
        seconds = (
            f"one pod to three in {scaled['seconds_to_three']:.0f} s, and back in {scaled['seconds_to_one']:.0f} s"
        )
        loads.append((seconds, _both(scaled["heavy"], scaled["light"])))
    rows = [
        [text, f"{sum(load['calls'].values()):,}", f"{load['failed']:,}", f"{load.get('asked_again', 0):,}"]
        for text, load in loads
    ]
    tables = [markdown(["under load", "calls answered", "failed", "asked again"], rows)]
    runs = [
        [text, run["state"], str(run["exit status"]), f"{run['seconds']:.0f}", f"{run['pods']}"]
        for name, text in ON_KUBEFLOW.items()
        if (run := facts.get(name))
    ]
    if runs:
        tables.append(markdown(["on Kubeflow, profile tiny", "run", "exit status", "seconds", "pods"], runs))
    return "\n\n".join([*tables, _caption(result)])


def _both(*loads: Mapping[str, Any]) -> dict[str, Any]:
    calls: Counter[str] = Counter()
    for load in loads:
        calls.update(load["calls"])
    return {"calls": calls, "failed": sum(load["failed"] for load in loads)}


def _caption(result: Mapping[str, Any]) -> str:
    ended = Counter(test["outcome"] for test in result["tests"].values())
    versions = ", ".join(  # an image's name says already whose it is
        version if re.fullmatch(r"[\w-]+:[\w.]+", version) else f"{name.replace('_', ' ')} {version}"
        for name, version in result["versions"].items()
    )
    notes = [f"Tests: {', '.join(f'{count} {outcome}' for outcome, count in sorted(ended.items()))}."]
    notes += [f"Not run: {name} ({test['reason']})." for name, test in result["tests"].items() if "reason" in test]
    notes.append(f"{processor(result['machine'])}, {result['date'][:10]}, code {result['code_version']}; {versions}.")
    return " ".join(notes)
