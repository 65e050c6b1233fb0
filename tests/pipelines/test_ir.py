"""The compiled pipeline is valid by Kubeflow's own schemas, and asks a cluster for what the steps need."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from model.config import Profile, from_dict
from pipelines.compile import compile_pipeline
from pipelines.request import PROFILES

STEPS = {"prepare-data", "train-tokenizer", "train-model", "export-onnx", "gate", "publish"}
STEPS |= {"quantize", "quantize-2", "evaluate", "evaluate-2", "evaluate-3"}


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    path = tmp_path_factory.mktemp("build") / "new" / "pipeline.yaml"
    compile_pipeline(path)
    assert [p.name for p in path.parent.iterdir()] == ["pipeline.yaml"]
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def tasks(documents):
    """Every task that runs a container, by name."""
    spec = documents[0]
    groups = [spec["root"], *spec["components"].values()]
    found = {name: task for group in groups for name, task in group.get("dag", {}).get("tasks", {}).items()}
    return {name: task for name, task in found.items() if not task["componentRef"]["name"].startswith("comp-condition")}


@pytest.fixture(scope="module")
def cluster(documents):
    return documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def test_both_documents_are_what_kubeflow_reads(documents):
    spec, platform = documents
    assert spec["pipelineInfo"]["name"] == "prometheus-mini"
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert set(parsed.deployment_spec["executors"]) == {f"exec-{name}" for name in STEPS}
    assert json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec()).platforms["kubernetes"].deployment_spec


def test_the_schema_check_can_fail(documents):
    with pytest.raises(json_format.ParseError, match="no field named"):
        json_format.ParseDict({**documents[0], "nonsense": 1}, pipeline_spec_pb2.PipelineSpec())


def test_nothing_is_installed_and_every_step_has_the_image(documents):
    for name, executor in documents[0]["deploymentSpec"]["executors"].items():
        container = executor["container"]
        assert "pip install" not in " ".join(container["command"]), name
        assert container["image"] == "ghcr.io/prometheus-mini/pipeline:0.1.0", name


def test_the_image_is_chosen_by_the_environment(tmp_path):
    environment = {**os.environ, "PROMETHEUS_IMAGE": "registry.example/pipeline:abc"}
    command = [sys.executable, "-m", "pipelines.compile", str(tmp_path / "p.yaml")]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    images = {
        executor["container"]["image"]
        for executor in next(yaml.safe_load_all((tmp_path / "p.yaml").read_text()))["deploymentSpec"][
            "executors"
        ].values()
    }
    assert images == {"registry.example/pipeline:abc"}


def test_every_step_carries_the_code_version(documents, tasks):
    assert set(tasks) == STEPS
    for name, task in tasks.items():
        assert task["inputs"]["parameters"]["code_version"]["componentInputParameter"], name
    default = documents[0]["root"]["inputDefinitions"]["parameters"]["code_version"]["defaultValue"]
    assert re.fullmatch(r"\S+-[0-9a-f]{10}", default)


def test_training_asks_for_a_gpu_shared_memory_and_a_place(documents, cluster):
    resources = documents[0]["deploymentSpec"]["executors"]["exec-train-model"]["container"]["resources"]
    assert resources["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert resources["accelerator"]["resourceCount"] == "1"
    train = cluster["exec-train-model"]
    (shared,) = train["emptyDirMounts"]
    assert (shared["mountPath"], shared["medium"]) == ("/dev/shm", "Memory")
    assert train["tolerations"] and train["nodeSelector"]
    others = [e for n, e in documents[0]["deploymentSpec"]["executors"].items() if n != "exec-train-model"]
    assert not any("accelerator" in e["container"]["resources"] for e in others)


def test_every_step_has_limits_and_a_second_attempt(documents, tasks, cluster):
    for name, task in tasks.items():
        assert task["retryPolicy"]["maxRetryCount"] == 2, name
        resources = documents[0]["deploymentSpec"]["executors"][f"exec-{name}"]["container"]["resources"]
        assert resources["resourceMemoryLimit"] and resources["resourceCpuRequest"], name
        assert int(cluster[f"exec-{name}"]["activeDeadlineSeconds"]) >= 3600, name


def test_secrets_are_optional_and_none_is_written_down(documents, cluster):
    secrets = [secret for executor in cluster.values() for secret in executor.get("secretAsEnv", [])]
    assert {"prometheus-storage", "prometheus-hub", "prometheus-tracking"} == {s["secretName"] for s in secrets}
    assert all(secret["optional"] for secret in secrets)
    assert "AKIA" not in json.dumps(documents)


def test_only_what_passed_is_published(documents):
    (condition,) = [t for t in documents[0]["root"]["dag"]["tasks"].values() if "triggerPolicy" in t]
    assert condition["taskInfo"]["name"] == "gate-passed"
    assert condition["triggerPolicy"]["condition"].endswith("!= 'none'")
    inner = documents[0]["components"][condition["componentRef"]["name"]]["dag"]["tasks"]
    assert set(inner) == {"publish"}
    assert not inner["publish"]["cachingOptions"].get("enableCache", False)


def test_variants_are_made_and_measured_once_each(tasks):
    def constant(task, parameter):
        return task["inputs"]["parameters"][parameter]["runtimeValue"]["constant"]

    assert [constant(tasks[n], "precision") for n in ("quantize", "quantize-2")] == ["fp16", "int8"]
    measured = [constant(tasks[n], "variant") for n in ("evaluate", "evaluate-2", "evaluate-3")]
    assert measured == ["fp32", "fp16", "int8"]


def test_defaults_are_the_profile_sections(documents):
    parameters = documents[0]["root"]["inputDefinitions"]["parameters"]
    sections = {name: parameters[name]["defaultValue"] for name in Profile.model_fields if name != "name"}
    own = sections["corpus"].pop("sources")
    assert own and all((PROFILES.parents[1] / source).is_file() for source in own), (
        "the demo's text, by its place in the checkout"
    )
    assert from_dict(Profile, sections) == Profile()
    assert all(parameters[name].get("description") for name in parameters)
