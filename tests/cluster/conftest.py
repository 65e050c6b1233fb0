"""Tests on a real cluster. `make cluster-test` runs them; elsewhere they are skipped, and say so.

They need KUBECONFIG, and to run where the cluster's addresses can be reached. They make the namespace prometheus-mini,
and refuse a cluster where somebody else has it. What they find goes to results/cluster.json: ``record`` keeps facts.

    def test_something(cluster, record): record("rollout", {"calls": 7000, "failed": 0})
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from benchmarks.machine import RESULTS, heading
from model.files import write_json
from pipelines.provenance import code_version
from tests.helpers.cluster import NAMESPACE, ROOT, Cluster, reachable
from tests.helpers.served import Service

SWITCH = "PROMETHEUS_CLUSTER"  # `make cluster-test` sets it: no KUBECONFIG that happens to be there is worked upon
MARK = "prometheus-mini/cluster-test"  # label of a namespace that these tests may delete
OUT = RESULTS / "cluster.json"
CONTROLLERS = {  # where each part's version is read, as far as it runs in the cluster
    "kserve": "kserve/kserve-controller-manager",
    "keda": "keda/keda-operator",
    "argo": "kubeflow/workflow-controller",
    "kubeflow_pipelines": "kubeflow/ml-pipeline",
}
ORDER = (
    "install",
    "service",
    "releases",
    "canary",
    "autoscaling",
    "alerts",
    "dashboards",
    "kubeflow",
)  # one cluster, one state
KILLER = "prometheus-mini-killer"
# Every process of the pod whose command line is the server's; run as root among the node's processes.
KILL = """
import os, pathlib, sys
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        ours = sys.argv[1].replace("-", "_") in (folder / "cgroup").read_text().replace("-", "_")
        if ours and b"serving" in (folder / "cmdline").read_bytes():
            os.kill(int(folder.name), 9)
            print("killed", folder.name)
    except OSError:
        pass
"""
_facts: dict[str, Any] = {}
_outcomes: dict[str, dict[str, Any]] = {}
_started = time.monotonic()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if "tests/cluster/" in item.path.as_posix()]
    places = {f"test_{name}.py": place for place, name in enumerate(ORDER)}
    items.sort(key=lambda item: places.get(item.path.name, 0) if item in ours else -1)
    if not os.environ.get(SWITCH):
        for item in ours:
            item.add_marker(pytest.mark.skip(reason="no cluster was offered: `make cluster-test` runs it"))
    elif ours and (why := reachable()):
        pytest.exit(f"make cluster-test: {why}", returncode=2)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    name = report.nodeid.removeprefix("tests/cluster/")
    if name == report.nodeid or not os.environ.get(SWITCH):
        return
    if report.when == "call" or report.outcome != "passed":
        told = {"outcome": report.outcome, "seconds": round(report.duration, 1)}
        if report.skipped and isinstance(report.longrepr, tuple):
            told["reason"] = report.longrepr[2].removeprefix("Skipped: ")
        _outcomes[name] = told


def pytest_sessionfinish() -> None:
    """Write results/cluster.json; of the same code's earlier tests what was not run anew is kept."""
    if not _outcomes:
        return
    code = code_version()
    old = json.loads(OUT.read_text("utf-8")) if OUT.exists() else {}
    if old.get("code_version") != code:
        old = {}
    result = {
        **heading("cluster"),
        "code_version": code,
        "versions": {**old.get("versions", {}), **_versions()},
        "seconds": round(time.monotonic() - _started, 1),
        "tests": {**old.get("tests", {}), **_outcomes},
        "facts": {**old.get("facts", {}), **_facts},
    }
    write_json(OUT, result)
    print(f"\n{OUT.relative_to(ROOT)}")


def _versions() -> dict[str, str]:
    """Versions of the cluster and of what runs in it."""
    cluster = Cluster("default")
    found = {"kubernetes": json.loads(cluster.kubectl("get", "--raw", "/version"))["gitVersion"]}
    for name, deployment in CONTROLLERS.items():
        if image := cluster.image(deployment):
            found[name] = image.rpartition("/")[2]
    classes = (
        cluster.get("gatewayclasses").get("items", [])
        if cluster.has("gatewayclasses.gateway.networking.k8s.io")
        else []
    )
    if classes:
        found["gateway"] = classes[0]["spec"]["controllerName"]
    if address := os.environ.get("PROMETHEUS"):
        answer = httpx.get(f"{address}/api/v1/status/buildinfo", trust_env=False).json()
        found["prometheus"] = answer["data"]["version"]
    nodes = cluster.get("nodes")["items"]
    found["nodes"] = f"{len(nodes)}, {nodes[0]['status']['nodeInfo']['containerRuntimeVersion']}"
    return found


@pytest.fixture(scope="session")
def record() -> Callable[[str, dict[str, Any]], None]:
    """Keep facts under a name, for results/cluster.json: figures, states and words, no secrets."""

    def keep(name: str, facts: dict[str, Any]) -> None:
        assert json.dumps(facts), "facts are JSON"
        _facts[name] = {"date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **facts}

    return keep


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster, with a namespace prometheus-mini of our own, which is deleted at the end."""
    found = Cluster()
    if old := found.get("namespace", NAMESPACE):
        mine = MARK in old["metadata"].get("labels", {})
        assert mine, f"namespace {NAMESPACE} is somebody else's: `kubectl delete namespace {NAMESPACE}` if it may go"
        found.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
        found.until(lambda: not found.get("namespace", NAMESPACE), 150, "the old namespace is gone")
    found.kubectl("create", "namespace", NAMESPACE)
    found.kubectl("label", "namespace", NAMESPACE, f"{MARK}=true")  # not applied: applying k8s/ would take it off again
    yield found
    if not os.environ.get("KEEP"):
        found.kubectl("delete", "namespace", NAMESPACE, KILLER, "--ignore-not-found", "--wait=false")


@pytest.fixture(scope="session")
def load_image() -> Callable[[str], None]:
    """Bring an image to the cluster's nodes by LOAD, a command that takes its name; without LOAD nodes pull it."""

    def load(image: str) -> None:
        if command := os.environ.get("LOAD"):
            done = subprocess.run(f"{command} {image}", shell=True, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"LOAD could not bring {image}: {done.stdout}{done.stderr}"

    return load


@pytest.fixture(scope="session")
def prometheus() -> Callable[..., Any]:
    """Ask the cluster's Prometheus, PROMETHEUS=http://host:port: ``prometheus("query", query="up")``."""
    address = os.environ.get("PROMETHEUS", "").rstrip("/")
    if not address:
        pytest.skip("PROMETHEUS names no Prometheus of the cluster (http://host:port)")

    def ask(path: str, **parameters: str) -> Any:
        answer = httpx.get(f"{address}/api/v1/{path}", params=parameters, timeout=20, trust_env=False)
        assert answer.status_code == 200, f"{parameters}: {answer.text}"
        return answer.json()["data"]

    return ask


@pytest.fixture(scope="session")
def service(cluster, load_image, tmp_path_factory) -> Service:
    """The service of k8s/ as people get it, with two published runs, the first of them live on one pod."""
    made = Service(cluster, tmp_path_factory.mktemp("service"))
    made.begin(load_image)
    return made


@pytest.fixture
def kill(cluster) -> Iterator[Callable[[dict[str, Any]], None]]:
    """kill -9 for the server in a pod: from the node, since nobody inside can kill process 1."""
    there = Cluster(KILLER)
    there.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": KILLER, "labels": {MARK: "true"}}})

    def killed(pod: dict[str, Any]) -> None:
        name = f"kill-{time.monotonic_ns()}"
        container = {
            "name": "kill",
            "image": pod["spec"]["containers"][0]["image"],
            "imagePullPolicy": "IfNotPresent",
            "command": ["python3", "-c", KILL, pod["metadata"]["uid"]],
            "securityContext": {"runAsUser": 0, "privileged": True},
        }
        node = {"hostPID": True, "nodeName": pod["spec"]["nodeName"], "restartPolicy": "Never"}
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": KILLER}}
        there.create({**made, "spec": {**node, "containers": [container]}})
        there.until(lambda: there.get("pod", name)["status"]["phase"] in ("Succeeded", "Failed"), 60, "the kill")
        assert "killed" in there.kubectl("logs", name)

    yield killed
    there.kubectl("delete", "pods", "--all", "--wait=false")
