"""What is live and what is published, for people and for machines."""

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from model.store import Version
from release.cluster import ClusterError, Json
from release.pods import Pod, identity, last_words
from release.service import Service, complete, refusals


def status_json(service: Service) -> Json:
    """The service's pointer, and what every pod says for itself; ``well`` where all agree and are ready."""
    now, deployment = service.pointer(), service.deployment()
    pods = [_pod(service, pod) for pod in service.pods()]
    there = [pod for pod in pods if pod["state"] != "leaving"]
    agree = all(pod["ready"] and pod["run_id"] == (now.run_id or pod["run_id"]) for pod in there)
    return {
        "service": str(service),
        "address": now.address,
        "run_id": now.run_id,
        "since": now.since,
        "before": list(now.before),
        "by_release": now.marks_run in ("", now.run_id),
        "pods": pods,
        "reason": refusals(deployment),
        "well": bool(there) and agree and complete(deployment, now.address),
    }


def status_text(found: Json) -> str:
    """The same for people."""
    lines = [
        f"service  {found['service']}",
        f"live     {found['run_id'] or 'a version that no run id names'}, {found['address']}",
        f"since    {found['since'] or 'unknown: no release has moved it'}",
        f"before   {', '.join(reversed(found['before'])) or 'none'}",
    ]
    if not found["by_release"]:
        lines.append("WARNING  the address was changed by something else than a release (kubectl edit?)")
    rows = [[pod["name"], pod["state"], pod["run_id"] or "?", pod["started"]] for pod in found["pods"]]
    lines += ["", tabulate(rows, ["pod", "state", "serves run", "started"], tablefmt="simple", disable_numparse=True)]
    lines += [f"{pod['name']}: {pod['why']}" for pod in found["pods"] if pod["why"]]
    lines += [found["reason"]] if found["reason"] else []
    return "\n".join([*lines, "", "all is well" if found["well"] else "NOT ALL IS WELL"])


def versions_text(found: Sequence[Version]) -> str:
    """A table of versions."""
    head = ["", "run", "published (UTC)", "precision", "family", "figure", "code", "sha256", "MB"]
    rows = [
        [
            "live" if each.live else "",
            each.run_id,
            f"{each.published:%Y-%m-%d %H:%M}" if each.published else "",
            each.precision,
            each.family,
            each.metric,
            each.code_version,
            each.sha256[:12],
            f"{each.bytes / 1e6:.1f}",
        ]
        for each in found
    ]
    return tabulate(rows, head, tablefmt="simple", disable_numparse=True)


def _pod(service: Service, pod: Pod) -> dict[str, Any]:
    said: Json = {}
    why = ""
    if trouble := pod.trouble():
        why = ": ".join(trouble)
        words = last_words(service.cluster, pod, trouble[0])
        why += f"\n{words}" if words else ""
    elif pod.ready:
        try:
            said = identity(service.cluster, pod)
        except ClusterError as error:
            why = str(error)
    return {
        "name": pod.name,
        "address": pod.address,
        "ready": pod.ready,
        "state": pod.state(),
        "started": pod.started,
        "run_id": said.get("run_id", ""),
        "code_version": said.get("code_version", ""),
        "sha256": said.get("sha256", ""),
        "why": why,
    }
