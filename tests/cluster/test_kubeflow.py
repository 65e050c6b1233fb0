"""The compiled pipeline on a real Kubeflow: trained, cached, refused, killed and gone on with, every minute, released.

Where the cluster has no Kubeflow Pipelines they are skipped. KUBEFLOW_HOST is its API's address where that is not its
Service's; PROMETHEUS_IMAGE the steps' image, which otherwise is what `make images` made of this code.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.kubeflow import Kubeflow
from pipelines.provenance import code_version
from pipelines.watch import step_names, steps_of
from tests.helpers.cluster import ROOT, Cluster, ClusterError
from tests.helpers.served import STORE

NAMESPACE, STORAGE = "kubeflow", "prometheus-mini-storage"
ALWAYS = {"preflight", "publish", "refuse", "release"}  # never from the cache


class Pipelines:
    """A Kubeflow, and runs on it by the command that people use."""

    def __init__(self, host: str, image: str, folder: Path) -> None:
        self.client, self.cluster, self.folder = Kubeflow(host), Cluster(NAMESPACE), folder
        self.environment = {**os.environ, "PROMETHEUS_IMAGE": image, "PYTHONUNBUFFERED": "1"}
        self.store = f"s3://mlpipeline/prometheus-mini-test-{time.time_ns():x}"

    def command(self, *arguments: str) -> list[str]:
        command = [sys.executable, "-m", "pipelines.submit", "--host", self.client.host, "--runs", str(self.folder)]
        # Kubeflow, KServe and the service leave less than a whole processor of a node with two.
        command += ["--profile", "tiny", "--set", "resources.train_cpu=500m"]
        return [*command, "--publish_to", self.store, *arguments]

    def submit(self, *arguments: str, meanwhile: Callable[[str], None] = lambda run_id: None) -> dict[str, Any]:
        """Run the pipeline to its end: exit status, words, seconds, Kubeflow's run, the summary and the pods."""
        begin, said, run_id = time.monotonic(), list[str](), ""
        with subprocess.Popen(
            self.command(*arguments), cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            for line in process.stdout:
                said.append(line)
                if found := re.match(r"at \S+/runs/details/(\S+)", line):
                    run_id = found[1]
                    threading.Thread(target=meanwhile, args=(run_id,), daemon=True).start()
        words = "".join(said)
        assert run_id, words
        run = self.client.run(run_id)
        summary = re.search(r"^summary +(\S+)$", words, re.M)
        assert summary, words
        return {
            "status": process.returncode,
            "words": words,
            "seconds": round(time.monotonic() - begin, 1),
            "run": run,
            "summary": json.loads(Path(summary[1]).read_text("utf-8")),
            "pods": len(self.pods(run_id)),
        }

    def pods(self, run_id: str) -> list[dict[str, Any]]:
        return self.cluster.get("pods", "--selector", f"pipeline/runid={run_id}")["items"]

    def log_of(self, run: dict[str, Any], step: str) -> str:
        found = {each.name: each for each in steps_of(run, step_names(run["pipeline_spec"]))}[step]
        return self.client.log(run["run_id"], found.pod) if found.pod else ""

    def said(self, pod: str) -> str:
        """The log of a pod that may be running, which Kubeflow's API has only after its end where it has one user."""
        try:
            return self.cluster.kubectl("logs", pod, "--container=main")
        except ClusterError:  # it has not begun
            return ""

    def keys(self, **keys: str) -> None:
        """Set the secret that steps read."""
        self.cluster.patch(f"secret/{STORAGE}", {"stringData": keys})


def cached(done: dict[str, Any]) -> set[str]:
    names = [step["name"] for step in done["summary"]["steps"]]
    return {name.removesuffix(" (cached)") for name in names if name.endswith(" (cached)")}


def facts(done: dict[str, Any], **more: Any) -> dict[str, Any]:
    steps = {step["name"]: step["seconds"] for step in done["summary"]["steps"]}
    told = {"state": done["run"]["state"], "exit status": done["status"], "seconds": done["seconds"]}
    return {**told, "pods": done["pods"], "steps": steps, **more}


@pytest.fixture(scope="module")
def pipelines(cluster, load_image, tmp_path_factory) -> Pipelines:
    found = Cluster(NAMESPACE)
    if not found.has("workflows.argoproj.io") or not found.get("service", "ml-pipeline"):
        pytest.skip("no Kubeflow Pipelines on this cluster (KUBEFLOW=1): the compiled pipeline was NOT run")
    address, port = found.address("ml-pipeline")
    host = os.environ.get("KUBEFLOW_HOST") or f"http://{address}:{port}"
    image = os.environ.get("PROMETHEUS_IMAGE") or f"localhost/prometheus-mini/pipeline:{code_version()}"
    load_image(image)
    Cluster("").apply("k8s/pipeline")  # its objects are in two namespaces
    made = Pipelines(host, image, tmp_path_factory.mktemp("kubeflow"))
    own = found.get("secret", "mlpipeline-minio-artifact")["data"]
    access, secret = (base64.b64decode(own[name]).decode() for name in ("accesskey", "secretkey"))
    made.keys(AWS_ACCESS_KEY_ID=access, AWS_SECRET_ACCESS_KEY=secret, AWS_DEFAULT_REGION="us-east-1")
    made.keys(AWS_ENDPOINT_URL="http://seaweedfs.kubeflow:9000")
    return made


@pytest.fixture(scope="module")
def first(pipelines) -> dict[str, Any]:
    """A run that takes nothing from the cache: its seed is new."""
    return pipelines.submit("--set", f"training.seed={time.time_ns() % 10**6}")


def seed_of(done: dict[str, Any]) -> list[str]:
    return ["--set", f"training.seed={done['run']['runtime_config']['parameters']['training']['seed']:.0f}"]


def test_a_run_succeeds_and_publishes_to_kubeflows_own_store(pipelines, first, record):
    record("kubeflow run", facts(first))
    assert first["status"] == 0, first["words"]
    assert first["run"]["state"] == "SUCCEEDED"
    published = first["summary"]["published"]
    assert published["path"] == f"{pipelines.store}/{first['summary']['run_id']}/bundle"
    assert len(first["summary"]["variants"]) == 3 and first["summary"]["training"]["steps"] == 120
    assert f"published {published['variant']}" in first["words"]


def test_a_second_run_takes_all_from_the_cache_but_what_acts_on_the_world(pipelines, first, record):
    again = pipelines.submit(*seed_of(first))
    record("kubeflow second run", facts(again, cached=sorted(cached(again))))
    assert again["status"] == 0, again["words"]
    names = {step["name"].removesuffix(" (cached)") for step in again["summary"]["steps"]}
    assert cached(again) == names - ALWAYS
    assert again["summary"]["published"]["path"] != first["summary"]["published"]["path"]


def test_text_in_two_shards_is_prepared_by_three_steps(pipelines, record):
    shards = ["corpus.shards=2", "corpus.max_rows=0", f"corpus.seed={time.time_ns() % 10**6}"]
    done = pipelines.submit(*(word for setting in shards for word in ("--set", setting)))
    record("kubeflow two shards", facts(done))
    assert done["status"] == 0, done["words"]
    steps = {step["name"]: step["status"] for step in done["summary"]["steps"]}
    assert {steps[name] for name in ("prepare-shard-1", "prepare-shard-2", "prepare-data")} == {"ok"}
    assert done["summary"]["corpus"]["counts"]["train"] > 20_000, "the rows of both"


def test_a_failing_gate_fails_the_run(pipelines, first, record):
    failing = pipelines.submit(*seed_of(first), "--set", "gate.min_chrf={heldout/ru-en: 99}")
    record("kubeflow failing gate", facts(failing, error=failing["summary"]["error"]))
    assert failing["status"] == 1 and failing["run"]["state"] == "FAILED", failing["words"]
    assert "gate min_chrf heldout/ru-en of int8" in failing["words"]
    assert failing["summary"]["published"] is None


def test_a_killed_training_goes_on_from_its_checkpoint(pipelines, record):
    killed: dict[str, Any] = {}

    def kill(run_id: str) -> None:
        """Delete the training's pod by force once a checkpoint has been kept."""
        names = step_names(pipelines.client.run(run_id)["pipeline_spec"])
        while not killed:
            time.sleep(2)
            run = pipelines.client.run(run_id)
            step = next((each for each in steps_of(run, names) if each.name == "train-model"), None)
            said = pipelines.said(step.pod) if step and step.pod else ""
            if done := re.findall(r"training: step (\d+)/", said):
                pipelines.cluster.kubectl("delete", "pod", step.pod, "--force", "--grace-period=0")
                killed.update(pod=step.pod, step=int(done[-1]))

    settings = {"steps": 600, "eval_every": 40, "save_every": 40, "seed": time.time_ns() % 10**6}
    long = [word for name, value in settings.items() for word in ("--set", f"training.{name}={value}")]
    done = pipelines.submit(*long, meanwhile=kill)
    said = pipelines.log_of(done["run"], "train-model")
    resumed = re.search(r"resuming after step (\d+)", said)
    record("kubeflow killed training", facts(done, killed=killed, resumed=resumed and int(resumed[1])))
    assert done["status"] == 0, done["words"]
    assert killed and resumed and int(resumed[1]) >= 40, said
    assert done["summary"]["training"]["steps"] == 600


def test_a_recurring_run_fires(pipelines, first, record):
    begin = time.monotonic()
    name = f"every-minute-{time.time_ns():x}"
    arguments = pipelines.command(*seed_of(first), "--every", "1m", "--experiment", name)
    made = subprocess.run(arguments, cwd=ROOT, env=pipelines.environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    recurring = re.search(r"recurring run (\S+):", made.stdout)
    assert recurring
    experiment = pipelines.client.experiment(name)
    try:
        runs = pipelines.cluster.until(lambda: pipelines.client.runs(experiment), 150, "a run begins")
        seconds = round(time.monotonic() - begin, 1)
    finally:
        pipelines.client.change_recurring(recurring[1], "disable")
    assert runs[0]["recurring_run_id"] == recurring[1]
    attach = [*pipelines.command(), "--attach", runs[0]["run_id"]]
    done = subprocess.run(attach, cwd=ROOT, env=pipelines.environment, capture_output=True, text=True, check=False)
    pipelines.client.change_recurring(recurring[1], "delete")
    count = len(pipelines.client.runs(experiment))
    record(
        "kubeflow recurring run", {"first run after seconds": seconds, "exit status": done.returncode, "runs": count}
    )
    assert done.returncode == 0, done.stdout
    assert recurring[1] not in {each["recurring_run_id"] for each in pipelines.client.recurring()}


def test_a_run_releases_what_it_published(pipelines, service, first, record):
    """The service's own store, to which KServe has the keys; everything but publishing comes from the cache."""
    keys = {name: value for name, value in service.environment().items() if name.startswith("AWS_")}
    keys.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    pipelines.keys(**keys)
    kept = first["run"]["runtime_config"]["parameters"]["checkpoint_uri"]  # one of training's inputs
    pipelines.store = STORE
    service_name = "prometheus-mini/prometheus-mini"
    done = pipelines.submit(*seed_of(first), "--checkpoint_uri", kept, "--release_to", service_name)
    record("kubeflow release", facts(done))
    assert done["status"] == 0, done["words"]
    live = service.cluster.get("inferenceservice", "prometheus-mini")["spec"]["predictor"]["model"]["storageUri"]
    assert live == done["summary"]["published"]["path"]
    service.release("back")  # the tests after this one find the service as it was
