"""A Kubernetes cluster as the tests of tests/cluster/ see it: kubectl, waiting for things, addresses of Services.

cluster = Cluster()
cluster.apply("k8s/"); cluster.until(lambda: cluster.ready_pods(SELECTOR), 120, "a ready pod")
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "prometheus-mini"
SERVICE = "prometheus-mini"  # the InferenceService, and the model's name
SELECTOR = f"serving.kserve.io/inferenceservice={SERVICE}"
UNBOUND = ("Namespace", "ClusterRole", "ClusterRoleBinding")  # of what we make, these have no namespace
T = TypeVar("T")


class ClusterError(AssertionError):
    """What a command said when it failed, or what did not happen in time."""


class Cluster:
    """The cluster of KUBECONFIG, namespace ``prometheus-mini`` unless another is named, or none by an empty one."""

    def __init__(self, namespace: str = NAMESPACE) -> None:
        self.namespace = namespace

    def kubectl(self, *arguments: str, text: str | None = None, seconds: float = 120) -> str:
        """What kubectl prints; ``text`` is its standard input.

        Raises:
            ClusterError: with its words, when it fails or takes longer than ``seconds``.
        """
        namespace = ("--namespace", self.namespace) if self.namespace else ()
        command = ["kubectl", *namespace, *arguments]
        try:
            done = subprocess.run(
                command, cwd=ROOT, input=text, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"{' '.join(command)}: no answer in {seconds} s") from error
        if done.returncode:
            raise ClusterError(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def get(self, *what: str) -> dict[str, Any]:
        """An object, or a list of objects, as JSON; empty where there is none of that name."""
        return json.loads(self.kubectl("get", *what, "--ignore-not-found", "-o", "json") or "{}")

    def apply(self, path: str | Path, *flags: str) -> str:
        """Apply a file or a folder: a kustomize folder by ``-k``, as people do."""
        kind = "-k" if (ROOT / path / "kustomization.yaml").exists() else "-f"
        return self.kubectl("apply", *flags, kind, str(path))

    def rendered(self, path: str | Path) -> list[dict[str, Any]]:
        """The objects of a folder: what kustomize makes of it, or what its files hold."""
        if (ROOT / path / "kustomization.yaml").exists():
            texts = [self.kubectl("kustomize", str(path))]
        else:
            texts = [file.read_text("utf-8") for file in sorted((ROOT / path).glob("*.yaml"))]
        return [each for text in texts for each in yaml.safe_load_all(text) if each]

    def create(self, *objects: dict[str, Any], dry_run: bool = False) -> None:
        """Apply objects as they stand here; ``dry_run`` only asks the API server whether it would take them."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        flags = ("--dry-run=server", "--server-side", "--force-conflicts") if dry_run else ()
        for each in objects:
            if each["kind"] not in UNBOUND:
                each["metadata"].setdefault("namespace", self.namespace)
        Cluster("").kubectl("apply", *flags, "-f", "-", text=json.dumps(items))

    def knows(self, made: dict[str, Any]) -> bool:
        """Whether the API server has the object's kind."""
        version = made["apiVersion"]
        try:
            found = self.kubectl("get", "--raw", f"/apis/{version}" if "/" in version else f"/api/{version}")
        except ClusterError:
            return False
        return made["kind"] in {each["kind"] for each in json.loads(found)["resources"]}

    def patch(self, what: str, change: dict[str, Any]) -> None:
        """A merge patch of an object, ``inferenceservice/prometheus-mini`` for example."""
        self.kubectl("patch", what, "--type=merge", "-p", json.dumps(change))

    def until(self, met: Callable[[], T], seconds: float, what: str) -> T:
        """The first answer of ``met`` that counts as true, asked twice a second.

        Raises:
            ClusterError: when there is none in ``seconds``; with the last error, and what the namespace's pods do.
        """
        end, last = time.monotonic() + seconds, ""
        while time.monotonic() < end:
            try:
                if found := met():
                    return found
            except (ClusterError, httpx.HTTPError, KeyError, IndexError, ValueError) as error:
                last = f"; last: {error}"
            time.sleep(0.5)
        pods = self.kubectl("get", "pods", "-o", "wide")
        raise ClusterError(f"{what}: not in {seconds} s{last}\n{pods}")

    def pods(self, selector: str = SELECTOR) -> list[dict[str, Any]]:
        """Pods that are not about to go."""
        pods = self.get("pods", "--selector", selector)["items"]
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def ready_pods(self, selector: str = SELECTOR) -> list[dict[str, Any]]:
        """Pods that get traffic."""
        return [pod for pod in self.pods(selector) if _is_ready(pod)]

    def settled(self, replicas: int, selector: str = SELECTOR) -> bool:
        """Whether exactly so many pods are there, all ready, those about to go counted too."""
        pods = self.get("pods", "--selector", selector)["items"]
        return len(pods) == replicas and all(_is_ready(pod) for pod in pods)

    def address(self, service: str) -> tuple[str, int]:
        """Cluster address and first port of a Service."""
        spec = self.get("service", service)["spec"]
        return spec["clusterIP"], spec["ports"][0]["port"]

    def image(self, deployment: str) -> str:
        """The image of a Deployment's first container, ``namespace/name``; empty where there is none."""
        namespace, _, name = deployment.partition("/")
        found = Cluster(namespace).get("deployment", name)
        return found["spec"]["template"]["spec"]["containers"][0]["image"] if found else ""

    def has(self, resource: str) -> bool:
        """Whether the API server knows a kind, ``scaledobjects.keda.sh`` for example."""
        return bool(self.get("customresourcedefinition", resource))


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def restarts(pod: dict[str, Any]) -> int:
    """How often the pod's containers have been started again."""
    return sum(each["restartCount"] for each in pod["status"]["containerStatuses"])


def reachable() -> str:
    """Why no cluster can be reached from here; empty when one can."""
    if not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG names no cluster"
    try:
        Cluster("default").kubectl("get", "--raw", "/readyz", "--request-timeout=5s", seconds=15)
    except (ClusterError, OSError) as error:
        return f"the cluster of KUBECONFIG does not answer: {error}"
    return ""
