"""A run on Kubeflow, step by step: what its tasks say, and waiting for its end.

Kubeflow lists the nodes of Argo's workflow, not steps. For a task ``train-model`` these are ``train-model-driver``,
which looks into the cache, ``train-model``, and below it ``executor``, the pod; any of them may be followed by the
number of an attempt, ``executor(1)``, which hangs below a node of the same name without a number. A child is named by
its node, a node by its pod; both end in the same number. In a loop there are nodes of one name for each of its turns.
"""

import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from graphlib import TopologicalSorter
from typing import Any, NamedTuple, TextIO

from components.step import END, START
from components.summary_line import MARK
from evaluation.figures import duration, last_line
from evaluation.results import printable
from pipelines.kubeflow import Json, Kubeflow, KubeflowError, Unreachable

OVER = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
LAST_WORDS = 20  # lines of a pod that failed
_PATIENCE = 600.0  # seconds without any answer before waiting is given up
_POLL, _LOG_POLL = 5.0, 20.0  # seconds between two questions
_SILENCE = 120.0  # seconds after which a pod that has not begun deserves a look
_ATTEMPT = re.compile(r"\(\d+\)$")
_PROGRESS = re.compile(r"\bstep (\d+)/(\d+)")


class Step(NamedTuple):
    """A step as it stands; times in seconds since 1970, 0 where it has not come to that."""

    name: str
    state: str  # waiting, running, ok, cached, failed, skipped
    began: float = 0.0
    ended: float = 0.0
    pod: str = ""
    waits: str = ""  # why its pod has not begun, in Argo's words

    @property
    def seconds(self) -> float:
        """How long it took, from the question to the cache until its end."""
        return max(0.0, self.ended - self.began) if self.ended and self.began else 0.0


def step_names(spec: Mapping[str, Any]) -> dict[str, str]:
    """The tasks of a compiled pipeline that run a pod, in an order in which they can run, with their steps' names.

    One in a loop is there for each turn, as ``prepare-shard#0``.
    """
    spec = spec.get("pipeline_spec", spec)
    components, names = spec.get("components", {}), dict[str, str]()

    def walk(tasks: Mapping[str, Any], turns: Sequence[int] = ()) -> None:
        needs = {name: task.get("dependentTasks", []) for name, task in tasks.items()}
        for name in TopologicalSorter({name: needs[name] for name in sorted(needs)}).static_order():
            inner = components.get(tasks[name]["componentRef"]["name"], {}).get("dag", {}).get("tasks")
            label = tasks[name].get("taskInfo", {}).get("name", name).replace(" ", "-")
            if inner:
                loop = tasks[name].get("parameterIterator")
                walk(inner, range(len(json.loads(loop["items"]["raw"]))) if loop else ())
            elif turns:
                names.update({f"{name}#{turn}": f"{label}-{turn + 1}" for turn in turns})
            else:
                names[name] = label

    walk(spec.get("root", {}).get("dag", {}).get("tasks", {}))
    return names


def steps_of(run: Mapping[str, Any], names: Mapping[str, str]) -> list[Step]:
    """Every step of a run, in the order of ``names``."""
    tasks = (run.get("run_details") or {}).get("task_details") or []
    nodes = {_number(task.get("pod_name", "")): task for task in tasks}
    newest: dict[tuple[str, str], Json] = {}
    for task in sorted(tasks, key=lambda task: (not _is_attempt(task), moment(task.get("start_time")))):
        # What holds the attempts, or else the last one.
        newest[_ATTEMPT.sub("", task.get("display_name", "")), task.get("iteration", "")] = task
    over = run.get("state") in OVER
    places = [(name, *key.partition("#")) for key, name in names.items()]
    return [
        _step(name, newest.get((f"{own}-driver", turn)), newest.get((own, turn)), nodes, over)
        for name, own, _, turn in places
    ]


def _step(name: str, driver: Json | None, node: Json | None, nodes: Mapping[str, Json], over: bool) -> Step:
    first = next((task for task in (driver, node) if task), {})
    began = moment(first.get("start_time"))
    pod = _executor(node, nodes) if node else {}
    ended = max(moment(task.get("end_time")) for task in (driver, node, pod) if task) if first else 0.0
    state = (node or driver or {}).get("state", "")
    if node and state == "SUCCEEDED":
        ran = pod.get("state") == "SUCCEEDED"
        return Step(name, "ok" if ran else "cached", began, ended, pod.get("pod_name", "") if ran else "")
    if state == "FAILED" or (over and state in ("RUNNING", "PENDING", "CANCELED")):
        return Step(name, "failed", began, ended, (pod or driver or {}).get("pod_name", ""))
    if state in ("RUNNING", "PENDING", "SUCCEEDED"):  # a driver that succeeds is followed by its node
        waits = (pod.get("message") or "its pod is pending") if pod.get("state") == "PENDING" else ""
        return Step(name, "running", began, 0.0, pod.get("pod_name", ""), waits)
    return Step(name, "skipped" if over else "waiting")


def _executor(node: Json, nodes: Mapping[str, Json]) -> Json:
    """The newest attempt of the pod below a task's node; empty where none was made."""
    found, seen, queue = dict[str, Any](), set[str](), [node]
    own = _ATTEMPT.sub("", node.get("display_name", ""))
    while queue:
        task = queue.pop(0)
        for child in task.get("child_tasks") or []:
            below = nodes.get(_number(child.get("pod_name", "")), {})
            name, key = _ATTEMPT.sub("", below.get("display_name", "")), below.get("pod_name", "")
            if name in (own, "executor") and key not in seen:
                seen.add(key)
                queue.append(below)
                if name == "executor" and moment(below.get("start_time")) >= moment(found.get("start_time")):
                    found = below
    return found


def words(log: str) -> str:
    """Why a step failed, by its own words (components/step.py), or else its last line; empty for an empty log."""
    lines = [printable(line).strip() for line in log.splitlines()]
    ends = [line.removeprefix(END) for line in lines if line.startswith(END)]
    return ends[-1] if len(ends) > 1 else last_line("\n".join(lines))


def silence(pod: str) -> str:
    """What a pod without a log may be waiting for, and how to find out."""
    return f"its pod may lack a node, an image or a secret; `kubectl describe pod {pod}` in the run's namespace tells"


def tail(log: str, count: int = LAST_WORDS) -> list[str]:
    """The last lines of a log that say something to people."""
    return [line for line in map(printable, log.splitlines()) if line.strip() and MARK not in line][-count:]


def time_left(steps: Sequence[Step], earlier: Sequence[Step], now: float) -> float | None:
    """Seconds until the end, if it goes on as an earlier run did from the step that ended last; None if unknown."""
    before = {step.name: step for step in earlier if step.state == "ok"}
    done = [step for step in steps if step.state == "ok" and step.name in before]
    if not before or not done:
        return None
    last = max(done, key=lambda step: step.ended)
    end = max(step.ended for step in before.values())
    return max(0.0, (end - before[last.name].ended) - (now - last.ended))


def share_left(line: str, seconds: float) -> float | None:
    """Seconds that a step which says ``step 40/120`` after so many seconds still needs; None where it says no such."""
    match = _PROGRESS.search(line)
    done, whole = map(int, match.groups()) if match else (0, 0)
    return seconds * (whole - done) / done if done else None


class Watcher:
    """Waits for a run and tells what happens, in the words of a local run."""

    def __init__(self, kubeflow: Kubeflow, run_id: str, names: Mapping[str, str], out: TextIO | None = None) -> None:
        self._kubeflow, self._run_id, self._names, self._out = kubeflow, run_id, names, out or sys.stdout
        self._told: dict[str, str] = {}
        self._line, self._next_log = "", 0.0
        self._silent = set[str]()

    def wait(self, earlier: Sequence[Step] = ()) -> Json:
        """The run after its end.

        Args:
            earlier: Steps of an earlier run of the same kind, from which the time left is reckoned.

        Raises:
            Unreachable: where Kubeflow has not answered for ten minutes.
            KubeflowError: where we are no longer let in, or the run is gone.
        """
        answered, lost = time.monotonic(), False
        while True:
            try:
                run = self._kubeflow.run(self._run_id)
            except Unreachable as error:
                if time.monotonic() - answered > _PATIENCE:
                    raise
                if not lost:
                    self._say(f"{error}; the run goes on without us, asking again")
                lost = True
                time.sleep(_POLL)
                continue
            if lost:
                self._say("the connection is back")
            answered, lost = time.monotonic(), False
            steps = steps_of(run, self._names)
            self._tell(steps, earlier)
            if run.get("state") in OVER:
                return run
            self._progress(steps)
            time.sleep(_POLL)

    def _tell(self, steps: Sequence[Step], earlier: Sequence[Step]) -> None:
        for step in steps:
            if step.state == self._told.get(step.name, "waiting") or step.state == "skipped":
                continue
            if step.state == "running" or step.name not in self._told:
                self._say(f"{START}{step.name}")
            if step.state != "running":
                left = time_left(steps, earlier, time.time())
                more = f"; about {duration(left)} left" if left else ""
                self._say(f"{END}{step.name}: {step.state}, {duration(step.seconds)}{more}")
            self._told[step.name] = step.state

    def _progress(self, steps: Sequence[Step]) -> None:
        """Say the last line of the step that runs, where it is a new one; a long log is read less often."""
        running = next((step for step in steps if step.state == "running" and step.pod), None)
        begin = time.monotonic()
        if not running or begin < self._next_log:
            return
        try:
            said = tail(self._kubeflow.log(self._run_id, running.pod), 1)
        except KubeflowError:
            said = []
        self._next_log = time.monotonic() + max(_LOG_POLL, 10 * (time.monotonic() - begin))
        quiet = time.time() - running.began
        if running.waits and quiet > _SILENCE and running.pod not in self._silent:
            self._silent.add(running.pod)
            self._say(f"{running.name} has waited {duration(quiet)}: {running.waits}; {silence(running.pod)}")
        if said and said[0] != self._line and not said[0].startswith((START, END)):
            self._line = said[0]
            left = share_left(self._line, time.time() - running.began)
            self._say(self._line + (f"; about {duration(left)} left" if left else ""))

    def _say(self, text: str) -> None:
        print(text, file=self._out, flush=True)


def _is_attempt(task: Mapping[str, Any]) -> bool:
    return bool(_ATTEMPT.search(task.get("display_name", "")))


def _number(name: str) -> str:
    return name.rsplit("-", 1)[-1]


def moment(stamp: Any) -> float:
    """Seconds since 1970; 0 for no time, and for the year 1 and 1970, with which Kubeflow says the same."""
    try:
        return max(0.0, datetime.fromisoformat(str(stamp)).timestamp())
    except ValueError:
        return 0.0
