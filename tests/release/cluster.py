"""A FAKE Kubernetes API with a fake KServe behind it, and real predictors as its pods.

It is no cluster: it plays what a real one was seen to do (KServe 0.20 on Kubernetes 1.34), as far as a release looks.
Behind a pod is a real ``python -m serving`` process that has loaded the bundle at its address, so what it answers, how
it refuses a damaged bundle and what it writes into its log are the server's own. What is played: the InferenceService
stays Ready and UpToDate whatever its new pods do; a pod is not ready at once, and one whose server has ended is
started again and again; a wrong address fails in the storage initializer; an old pod goes when as many new ones are
ready; patches that name a past resourceVersion are refused. Its time goes by calls of the API, not by the clock.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from model.options import run
from release.__main__ import main
from tests.release.predictors import Predictor, Predictors

NAMESPACE, NAME = "prometheus-mini", "prometheus-mini"
STORE = "s3://models/slm"
ISVC = f"/apis/serving.kserve.io/v1beta1/namespaces/{NAMESPACE}/inferenceservices/"
ROUTES = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes/"
SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class Pod:
    """A pod: a server process, or an init container that cannot find its bundle."""

    def __init__(self, number: int, service: str, template: dict[str, Any], server: Predictor | None) -> None:
        self.name, self.service, self.template = f"{service}-predictor-{number}", service, template
        self.made, self.server, self.age, self.crashes = now(), server, 0, 0  # age: calls that have found it
        self.leaving = False

    def grow(self) -> None:
        """The kubelet's work since the call before."""
        self.age += 1
        if self.server and self.server.status is not None:
            self.crashes += 1

    def ready(self) -> bool:
        return self.age > 2 and not self.leaving and self.server is not None and self.server.ready()

    def json(self) -> dict[str, Any]:
        ready = self.ready()
        crash = {"exitCode": self.server.status if self.server else 1, "reason": "Error"}
        back_off = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}}
        kserve: dict[str, Any] = {"name": "kserve-container", "restartCount": self.crashes, "state": {"running": {}}}
        if self.crashes:
            kserve |= {"state": back_off, "lastState": {"terminated": crash}}
        init: dict[str, Any] = {
            "name": "storage-initializer",
            "restartCount": 0,
            "state": {"terminated": {"exitCode": 0}},
        }
        if self.server is None:
            init |= {"restartCount": 3, "state": back_off, "lastState": {"terminated": crash}}
            kserve["state"] = {"waiting": {"reason": "PodInitializing"}}
        return {
            "metadata": {
                "name": self.name,
                "namespace": NAMESPACE,
                "creationTimestamp": self.made,
                "labels": {"app": f"isvc.{self.service}-predictor"},
                "annotations": self.template,
                **({"deletionTimestamp": now()} if self.leaving else {}),
            },
            "status": {
                "phase": "Running" if ready else "Pending",
                "podIP": "127.0.0.1",
                "startTime": self.made,
                "conditions": [{"type": "Ready", "status": str(ready)}],
                "initContainerStatuses": [init],
                "containerStatuses": [kserve],
            },
        }


class Isvc:
    """An InferenceService, and what its controller made of it."""

    def __init__(self, cluster: FakeCluster, name: str, address: str, replicas: int) -> None:
        self.cluster, self.name, self.replicas = cluster, name, replicas
        self.version, self.generation, self.seen = 1, 1, 0
        self.annotations: dict[str, str] = {"serving.kserve.io/deploymentMode": "Standard"}
        model = {"runtime": "prometheus-mini-onnx"} | ({"storageUri": address} if address else {})
        self.spec: dict[str, Any] = {"predictor": {"model": model}}
        self.managed: list[dict[str, str]] = []
        self.pods: list[Pod] = []
        self.reconcile()

    @property
    def template(self) -> dict[str, str]:
        address = self.spec["predictor"]["model"].get("storageUri")
        return self.annotations | ({SOURCE: address} if address else {})

    def reconcile(self) -> None:
        """What the controllers do: pods for the present template, and an end to old ones that are not needed."""
        self.seen = self.generation
        self.pods = [pod for pod in self.pods if not pod.leaving]  # seen as leaving by one call
        for pod in self.pods:
            pod.grow()
        new = [pod for pod in self.pods if pod.template == self.template]
        old = [pod for pod in self.pods if pod.template != self.template]
        while len(new) < self.replicas and self.cluster.pods_allowed:
            new.append(self.cluster.make(self))
            self.pods.append(new[-1])
        up = sum(pod.ready() for pod in new)
        hopeless = [pod for pod in old if pod.server is None or pod.crashes]
        surplus = max(len(old) - (self.replicas - up), 0) if up else 0
        for pod in {*hopeless, *old[:surplus]}:
            pod.leaving = True

    def json(self) -> dict[str, Any]:
        return {
            "metadata": {
                "name": self.name,
                "namespace": NAMESPACE,
                "resourceVersion": str(self.version),
                "annotations": self.annotations,
                "managedFields": self.managed,
            },
            "spec": self.spec,
            "status": {  # whatever happens: this is what a release must not believe
                "conditions": [{"type": "Ready", "status": "True"}],
                "modelStatus": {"transitionStatus": "UpToDate"},
            },
        }

    def deployment(self) -> dict[str, Any]:
        there = [pod for pod in self.pods if not pod.leaving]
        new = [pod for pod in there if pod.template == self.template]
        conditions = []
        if not self.cluster.pods_allowed:
            conditions = [
                {"type": "ReplicaFailure", "status": "True", "message": 'pods "x" is forbidden: exceeded quota'}
            ]
        return {
            "metadata": {"generation": self.generation},
            "spec": {"replicas": self.replicas, "template": {"metadata": {"annotations": self.template}}},
            "status": {
                "observedGeneration": self.seen,
                "replicas": len(there),
                "updatedReplicas": len(new),
                "availableReplicas": sum(pod.ready() for pod in there),
                "conditions": conditions,
            },
        }


class FakeCluster:
    """The API server; ``stores`` says which folder stands for which prefix of an address."""

    def __init__(self, folder: Path, stores: dict[str, Path], predictors: Predictors, *options: str) -> None:
        self.stores, self.predictors, self.options, self.pods_allowed = stores, predictors, options, True
        self.services: dict[str, Isvc] = {}
        self.lock, self.count = threading.RLock(), 0
        self.forbidden: list[str] = []  # parts of addresses that RBAC closes
        self.unseen = 0  # patches of an InferenceService that KServe's webhook has no time for
        self.routes: dict[str, list[dict[str, Any]]] = {}  # name of an HTTPRoute -> its rules
        self.weights: list[tuple[str, list[int]]] = []  # of each patch of one, by its name, its first rule's
        self.split: list[list[tuple[str, int, int]]] = []  # the latest with two backends: name, port, weight of each
        self.on_call: Callable[[str, Isvc], None] = lambda method, isvc: None  # before an InferenceService is served
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                status, body = cluster.answer(self.command, self.path, self.rfile.read(length))
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PATCH = do_POST = answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.kubeconfig = folder / "kubeconfig"
        named = {"name": "fake"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{**named, "cluster": {"server": f"http://127.0.0.1:{self.server.server_port}"}}],
            "contexts": [{**named, "context": {"cluster": "fake", "user": "fake"}}],
            "users": [{**named, "user": {}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))

    def create(self, address: str, name: str = NAME, replicas: int = 1) -> Isvc:
        self.services[name] = Isvc(self, name, address, replicas)
        return self.services[name]

    def reset(self, address: str) -> None:
        """As at first, with the service at this address; pods that serve it stay."""
        with self.lock:
            self.pods_allowed, self.forbidden, self.on_call = True, [], lambda method, isvc: None
            self.unseen = 0
            self.routes, self.weights, self.split = {}, [], []
            service = self.services[NAME]
            service.spec["predictor"]["model"]["storageUri"] = address
            service.annotations, service.managed = {"serving.kserve.io/deploymentMode": "Standard"}, []

    def make(self, isvc: Isvc) -> Pod:
        self.count += 1
        address, server = isvc.template.get(SOURCE, ""), None
        for prefix, folder in self.stores.items():
            if address.startswith(f"{prefix}/") and (folder / address.removeprefix(f"{prefix}/")).is_dir():
                server = self.predictors.of(folder / address.removeprefix(f"{prefix}/"), *self.options)
        return Pod(self.count, isvc.name, isvc.template, server)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        path, _, query = path.partition("?")
        if any(part in path for part in self.forbidden):
            return self.status(403, f'{path} is forbidden: User "system:serviceaccount:x" cannot {method.lower()} it')
        if proxied := re.fullmatch(rf"/api/v1/namespaces/{NAMESPACE}/pods/(\S+):8080/proxy(/.*)", path):
            return self.proxy(method, proxied[1], proxied[2], body)
        with self.lock:
            for isvc in self.services.values():
                isvc.reconcile()
            if path.startswith(ISVC):
                return self.isvc(method, path.removeprefix(ISVC), body)
            if path.startswith(ROUTES):
                return self.route(method, path.removeprefix(ROUTES), body)
            if found := re.fullmatch(rf"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/(.*)-predictor", path):
                isvc = self.services.get(found[1])
                return self.json(isvc.deployment()) if isvc else self.status(404, "not found")
            if path == f"/api/v1/namespaces/{NAMESPACE}/pods":
                found = re.search(r"app%3Disvc\.(.*)-predictor", query)
                pods = self.services[found[1]].pods if found and found[1] in self.services else []
                return self.json({"items": [pod.json() for pod in pods]})
            if found := re.fullmatch(rf"/api/v1/namespaces/{NAMESPACE}/pods/(.*)/log", path):
                return self.log(found[1], query)
        return self.status(404, f"{path} is not played")

    def isvc(self, method: str, name: str, body: bytes) -> tuple[int, bytes]:
        isvc = self.services.get(name)
        if isvc is None:
            return self.status(404, f'inferenceservices.serving.kserve.io "{name}" not found')
        self.on_call(method, isvc)
        if method == "PATCH":
            if self.unseen:
                self.unseen -= 1
                return self.status(500, 'failed calling webhook "x.defaulter": context deadline exceeded')
            patch = json.loads(body)
            if patch["metadata"].get("resourceVersion") not in (None, str(isvc.version)):
                return self.status(409, "Operation cannot be fulfilled: the object has been modified")
            for key, value in patch["metadata"].get("annotations", {}).items():
                if value is None:
                    isvc.annotations = {k: v for k, v in isvc.annotations.items() if k != key}
                else:
                    isvc.annotations = {**isvc.annotations, key: value}
            model = isvc.spec["predictor"]["model"] | patch["spec"]["predictor"]["model"]
            isvc.spec["predictor"]["model"] = {key: value for key, value in model.items() if value is not None}
            isvc.version, isvc.generation = isvc.version + 1, isvc.generation + 1
            isvc.managed = [{"manager": "prometheus-mini-release", "time": now()}]
        return self.json(isvc.json())

    def route(self, method: str, name: str, body: bytes) -> tuple[int, bytes]:
        if name not in self.routes:
            return self.status(404, f'httproutes.gateway.networking.k8s.io "{name}" not found')
        if method == "PATCH":
            self.routes[name] = json.loads(body)["spec"]["rules"]
            backends = [
                [(each["name"], each["port"], each.get("weight", 1)) for each in rule["backendRefs"]]
                for rule in self.routes[name]
            ]
            self.weights.append((name, [weight for *_, weight in backends[0]]))
            self.split = backends if len(backends[0]) > 1 else self.split
        return self.json({"metadata": {"name": name}, "spec": {"rules": self.routes[name]}})

    def proxy(self, method: str, name: str, path: str, body: bytes) -> tuple[int, bytes]:
        pod = self.pod(name)
        if pod is None or pod.server is None:
            return self.status(404, f'pods "{name}" not found')
        return pod.server.ask(method, path, body)  # as the real one, it keeps the Authorization header for itself

    def log(self, name: str, query: str) -> tuple[int, bytes]:
        pod = self.pod(name)
        if pod is None:
            return self.status(404, f'pods "{name}" not found')
        if pod.server is None:
            return 200, b"INFO: downloading\nRuntimeError: Failed to fetch model. No model found in s3://models/x.\n"
        return 200, pod.server.log.encode()

    def pod(self, name: str) -> Pod | None:
        return next((pod for isvc in self.services.values() for pod in isvc.pods if pod.name == name), None)

    @staticmethod
    def json(body: Any) -> tuple[int, bytes]:
        return 200, json.dumps(body).encode()

    @staticmethod
    def status(code: int, message: str) -> tuple[int, bytes]:
        return code, json.dumps({"kind": "Status", "status": "Failure", "message": message, "code": code}).encode()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def release(*words: str) -> int:
    """``python -m release`` for the service; its exit status."""
    return run(lambda: main([*words, f"--service={NAMESPACE}/{NAME}"]))


def live(cluster: FakeCluster, name: str = NAME) -> str:
    """Where a service points; empty where it never did."""
    return cluster.services[name].spec["predictor"]["model"].get("storageUri", "")
