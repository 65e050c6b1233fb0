"""A fake of Kubeflow Pipelines' REST API: the few addresses that pipelines/kubeflow.py asks, answered from memory.

It runs nothing. Its answers have the form of those of a real 2.17.0: tasks without names of their own in v2beta1, the
nodes of Argo's workflow in v1beta1, a complaint with status 200 for the log of a pod that is gone.
tests/cluster/test_kubeflow.py asks a real one.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]


def stamp(second: float) -> str:
    """A time as Kubeflow writes it; 0 for one that has not come."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def node(
    name: str,
    number: int,
    state: str,
    began: float = 0,
    ended: float = 0,
    below: tuple[int, ...] = (),
    within: int | None = None,
) -> Json:
    """A task as Kubeflow lists it: a child is named by its node, a node by its pod, which ends in the same number.

    ``within`` is the number of the group that the task is in, of which only Argo tells.
    """
    children = [{"pod_name": f"mini-x7k2p-{child}"} for child in below]
    times = {"start_time": stamp(began), "end_time": stamp(ended)}
    known = {"display_name": name, "pod_name": pod(number), "state": state, "child_tasks": children, **times}
    return known if within is None else {**known, "boundary": f"mini-x7k2p-{within}"}


def pod(number: int) -> str:
    """The pod of a node."""
    return f"mini-x7k2p-system-container-impl-{number}"


def step(name: str, number: int, state: str, began: float = 0, ended: float = 0) -> list[Json]:
    """The nodes of a step that is waiting, running, ok, cached or failed; its pod's number is ``number`` + 2."""
    if state == "waiting":
        return []
    done = {"running": "RUNNING", "ok": "SUCCEEDED", "cached": "SUCCEEDED", "failed": "FAILED"}[state]
    executor = {"cached": "SKIPPED"}.get(state, done)
    return [
        node(f"{name}-driver", number, "SUCCEEDED", began, began + 1, (number + 1,)),
        node(name, number + 1, done, began + 1, ended, (number + 2,)),
        node("executor", number + 2, executor, began + 1, ended),
    ]


def workflow(tasks: list[Json]) -> Json:
    """Argo's workflow with these nodes."""
    phases = {"SUCCEEDED": "Succeeded", "RUNNING": "Running", "FAILED": "Failed", "SKIPPED": "Skipped"}
    nodes = {
        f"mini-x7k2p-{task['pod_name'].rpartition('-')[2]}": {
            "displayName": task["display_name"],
            "type": "Pod",
            "templateName": "system-container-impl",
            "phase": phases.get(task["state"], "Pending"),
            "startedAt": task["start_time"],
            "finishedAt": task["end_time"],
            "message": task.get("message", ""),
            "children": [child["pod_name"] for child in task["child_tasks"]],
            "boundaryID": task.get("boundary", "mini-x7k2p"),
        }
        for task in tasks
    }
    return {"metadata": {"name": "mini-x7k2p"}, "status": {"nodes": nodes}}


class FakeKubeflow:
    """What the fake knows, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Json, dict[str, str]]] = []
        self.runs: dict[str, list[Json]] = {}  # by id, what each question gets; the last is for all that follow
        self.workflows: dict[str, Json] = {}  # by run, as of the last question
        self.logs: dict[str, str] = {}
        self.archived: dict[str, str] = {}
        self.recurring: list[Json] = []
        self.multi_user = False
        self.refusal: Callable[[str], tuple[int, str, dict[str, str]] | None] = lambda path: None
        self.host = ""

    def bodies(self, path: str) -> list[Json]:
        """What was posted to a path."""
        return [body for method, asked, body, _ in self.asked if method == "POST" and asked.split("?")[0] == path]

    def answer(self, method: str, path: str, body: Json) -> tuple[int, str]:
        """Status and text."""
        place = path.split("?", maxsplit=1)[0].removeprefix("/apis/v2beta1/")
        if match := re.fullmatch(r"/apis/v1alpha1/runs/[^/]+/nodes/([^/]+)/log", path):
            gone = {"error_message": "Failed to read logs: pods not found", "error_details": "..."}
            return 200, self.logs.get(match[1], json.dumps(gone))
        if match := re.fullmatch(r"runs/[^/]+/nodes/([^/]+)/artifacts/main-logs:read", place):
            kept = self.archived.get(match[1])
            return (200, json.dumps({"data": base64.b64encode(kept.encode()).decode()})) if kept else (404, "{}")
        if place == "healthz":
            return 200, json.dumps({"multi_user": self.multi_user})
        if place == "experiments":
            return 200, json.dumps({"experiment_id": "e1", **body} if method == "POST" else {})
        if place == "runs":
            if method == "POST":
                self.runs.setdefault("r1", [{}])
                return 200, json.dumps({"run_id": "r1"})
            return 200, json.dumps({"runs": [{"run_id": name, **runs[-1]} for name, runs in self.runs.items()]})
        if place == "recurringruns":
            if method == "POST":
                self.recurring.append({"recurring_run_id": "q1", "status": "ENABLED", **body})
            return 200, json.dumps(self.recurring[-1] if method == "POST" else {"recurringRuns": self.recurring})
        if match := re.fullmatch(r"recurringruns/q1(:disable|:enable)?", place):
            self.recurring[0]["status"] = {":disable": "DISABLED", ":enable": "ENABLED"}.get(match[1], "")
            del self.recurring[: method == "DELETE"]
            return 200, "{}"
        name = place.removeprefix("runs/").removesuffix(":terminate")
        if match := re.fullmatch(r"/apis/v1beta1/runs/([^/]+)", place):
            return 200, json.dumps(
                {"pipeline_runtime": {"workflow_manifest": json.dumps(self.workflows.get(match[1], {}))}}
            )
        if name in self.runs:
            answers = self.runs[name]
            found = answers.pop(0) if len(answers) > 1 else answers[0]
            tasks = (found.get("run_details") or {}).get("task_details") or []
            self.workflows[name] = workflow(tasks)
            nameless = [{key: value for key, value in task.items() if key != "pod_name"} for task in tasks]
            return 200, json.dumps({"run_id": name, **found, "run_details": {"task_details": nameless}})
        return 404, json.dumps({"error": f"{place} not found", "message": f"{place} not found"})


@contextmanager
def fake_kubeflow() -> Iterator[FakeKubeflow]:
    """A fake that listens at ``.host``."""
    fake = FakeKubeflow()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            fake.asked.append((self.command, self.path, body, dict(self.headers)))
            refused = fake.refusal(self.path)
            if refused and not refused[0]:
                self.connection.close()
                return
            status, text, more = refused or (*fake.answer(self.command, self.path, body), {})
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_DELETE = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fake.host = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
