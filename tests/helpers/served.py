"""The service of k8s/ on a cluster: its store, its two runs, its ways in, and `python -m release` for it.

service = Service(cluster, folder); service.begin(load_image); service.serve(service.runs[0])
assert service.release("to", service.runs[1]).status == 0
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.cluster import NAMESPACE, ROOT, SERVICE, Cluster
from tests.helpers.steady import Target

STORE = "s3://models/prometheus-mini"
STORAGE = "prometheus-mini-storage"  # the Secret that both sides share
TOKEN = "prometheus-mini-token"
GATEWAY = ("kserve", "kserve-ingress-gateway")
SEEDS = (0, 1)  # of the two runs: the same text, two models


@dataclass(frozen=True)
class Done:
    """What a command did: exit status, what it printed, and how long it took."""

    status: int
    words: str
    seconds: float


class Service:
    """The InferenceService prometheus-mini; ``runs`` are two published runs of the tests' own small profile."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.runs: list[str] = []
        self.token = ""
        self.ready_seconds = 0.0

    def begin(self, load_image: Callable[[str], None]) -> None:
        """Apply k8s/, publish two runs, and release the first."""
        made = self.cluster.rendered("k8s")
        for image in sorted({each for each in _images(made) if each.startswith("localhost/")}):
            load_image(image)
        self.cluster.apply("k8s/")
        self.cluster.kubectl("rollout", "status", "deployment/prometheus-mini-store", "--timeout=120s", seconds=130)
        runs = [self._pipeline(seed) for seed in SEEDS]
        self.runs = [_run_id(process, self.folder, seed) for process, seed in zip(runs, SEEDS, strict=True)]
        started = time.monotonic()
        first = self.release("to", self.runs[0])
        assert first.status == 0, first.words
        self.ready_seconds = round(time.monotonic() - started, 1)

    @property
    def _token_file(self) -> Path:
        return self.folder / "token"

    def environment(self) -> dict[str, str]:
        """Ours, and the store's keys; its address is one that is right here and in the cluster."""
        data = self.cluster.get("secret", STORAGE)["data"]
        keys = {name: base64.b64decode(value).decode() for name, value in data.items()}
        host, port = self.cluster.address("prometheus-mini-store")
        return {**os.environ, **keys, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}

    def _pipeline(self, seed: int) -> subprocess.Popen[str]:
        """A run that publishes into the cluster's store."""
        command = [sys.executable, "-m", "pipelines.run", "--profile", "tiny", f"--set=training.seed={seed}"]
        command += [f"--publish_to={STORE}", f"--runs={self.folder / str(seed)}"]
        with (self.folder / f"{seed}.log").open("w") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env=self.environment(), stdout=log, stderr=subprocess.STDOUT, text=True
            )

    # -- what is live ----------------------------------------------------------------------------------------------

    def release(self, *words: str, name: str = SERVICE, seconds: float = 300) -> Done:
        """``python -m release`` for this service, or for another of its namespace, watched where a Prometheus is."""
        command = [sys.executable, "-m", "release", *words, f"--service={NAMESPACE}/{name}", f"--store={STORE}"]
        command += ["--reach=direct", "--timeout=150"]
        if self.token:
            command.append(f"--token_file={self._token_file}")
        if words[0] == "to" and (prometheus := os.environ.get("PROMETHEUS")):
            command += [f"--prometheus={prometheus}", "--watch=10"]
        started = time.monotonic()
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment(), capture_output=True, text=True, timeout=seconds, check=False
        )
        return Done(done.returncode, done.stdout + done.stderr, round(time.monotonic() - started, 1))

    def address(self, run: str) -> str:
        """Where a run's bundle lies."""
        return f"{STORE}/{run}/bundle"

    def point(self, run: str) -> None:
        """Set ``storageUri`` by hand, as nobody should."""
        self.cluster.patch(
            f"inferenceservice/{SERVICE}", {"spec": {"predictor": {"model": {"storageUri": self.address(run)}}}}
        )

    def serve(self, run: str, replicas: int = 1) -> None:
        """Make a run live on so many pods, and wait until they are all there is."""
        self.point(run)
        self.cluster.until(
            lambda: self.cluster.settled(replicas) and set(self.answers()) == {run}, 150, f"{replicas} pods serve {run}"
        )

    def answers(self) -> list[str]:
        """The run that each ready pod says it serves."""
        addresses = [pod["status"]["podIP"] for pod in self.cluster.ready_pods()]
        return [self._info(f"http://{address}:8080") for address in addresses]

    def live(self) -> str:
        """The run that answers through the Service."""
        target = self.target()
        return self._info(f"http://{target.host}:{target.port}")

    def _info(self, url: str) -> str:
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        answer = httpx.get(f"{url}/info", headers=headers, timeout=10, trust_env=False)
        return answer.raise_for_status().json()["bundle"]["run_id"]

    # -- ways in ---------------------------------------------------------------------------------------------------

    def target(self) -> Target:
        """The Service inside the cluster."""
        spec = self.cluster.get("service", f"{SERVICE}-predictor")["spec"]
        ports = {port["name"]: port["port"] for port in spec["ports"]}
        rest, rpc = (next(number for name, number in ports.items() if word in name) for word in ("http", "grpc"))
        return Target(spec["clusterIP"], rest, rpc, token=self.token)

    def gateway(self) -> Target:
        """The Gateway, REST and gRPC on one port, by the route of k8s/gateway for hosts that no other route has."""
        namespace, name = GATEWAY
        found = Cluster(namespace).get("gateways.gateway.networking.k8s.io", name)
        if not found:
            pytest.skip(f"no Gateway {namespace}/{name}: `make cluster-install` makes one")
        self.cluster.apply("k8s/gateway")
        host, port = found["status"]["addresses"][0]["value"], found["spec"]["listeners"][0]["port"]
        url, headers = f"http://{host}:{port}/health/ready", {"host": "translate.example"}
        self.cluster.until(
            lambda: httpx.get(url, headers=headers, trust_env=False).status_code == 200, 60, "the route leads there"
        )
        return Target(host, port, port, authority="translate.example", token=self.token)

    # -- other states ----------------------------------------------------------------------------------------------

    def apply(self, folder: str, change: Callable[[dict[str, Any]], None] = lambda made: None) -> None:
        """Apply an overlay with a token, and with requests that a node of two cores has room for."""
        made = self.cluster.rendered(folder)
        for each in made:
            if each["kind"] == "ServingRuntime":
                each["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "100m"
            change(each)
        if any(TOKEN in json.dumps(each) for each in made):
            self.token = self.token or secrets.token_hex(16)
            self._token_file.write_text(self.token, "utf-8")
            metadata = {"name": TOKEN, "namespace": NAMESPACE}
            self.cluster.create(
                {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": self.token}}
            )
        else:
            self.token = ""
        self.cluster.create(*made)

    def corrupt(self, run: str) -> str:
        """A copy of a published run with one byte of its largest file changed; its name."""
        import s3fs

        keys = self.environment()
        files = s3fs.S3FileSystem(
            key=keys["AWS_ACCESS_KEY_ID"],
            secret=keys["AWS_SECRET_ACCESS_KEY"],
            client_kwargs={"endpoint_url": keys["AWS_ENDPOINT_URL"], "region_name": keys["AWS_DEFAULT_REGION"]},
        )
        name = f"{run}-corrupted"
        root = STORE.removeprefix("s3://")
        found = {path: files.cat_file(path) for path in files.find(f"{root}/{run}")}
        largest = max(found, key=lambda path: len(found[path]))
        for path, content in found.items():
            if path == largest:
                middle = len(content) // 2
                content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]  # noqa: PLW2901
            files.pipe_file(path.replace(f"/{run}/", f"/{name}/"), content)
        return name


def _images(made: list[dict[str, Any]]) -> list[str]:
    """Every image that objects name."""
    if isinstance(made, list):
        return [image for each in made for image in _images(each)]
    if isinstance(made, dict):
        own = [made["image"]] if isinstance(made.get("image"), str) else []
        return own + [image for each in made.values() for image in _images(each)]
    return []


def _run_id(process: subprocess.Popen[str], folder: Path, seed: int) -> str:
    log = folder / f"{seed}.log"
    assert process.wait(300) == 0, log.read_text("utf-8")[-3000:]
    (summary,) = (folder / str(seed) / "latest").glob("summary.json")
    return json.loads(summary.read_text("utf-8"))["run_id"]
