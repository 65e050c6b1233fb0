"""The compiled pipeline is valid by Kubeflow's own schemas, and asks a cluster for what the steps need."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from components.code import LIBRARIES, PACKAGES, code_of
from components.image import UNSET
from model.config import ConfigError, Profile, from_dict
from pipelines.compile import compile_pipeline, image_names, in_the_image, main
from pipelines.images import CACHED, step_tags, tag
from pipelines.parameters import SECTIONS, parameters
from pipelines.provenance import ROOT
from pipelines.request import load_profile, profile_names

IMAGE = "registry.example/prometheus-mini/pipeline:abc"
STEPS = {"preflight", "prepare-data", "train-tokenizer", "train-model", "variant", "variant-2", "variant-3", "gate"}
STEPS |= {"publish", "release", "refuse"}
NOT_AGAIN = {"preflight", "gate", "publish", "release", "refuse"}
NOT_CACHED = NOT_AGAIN - {"gate"}
COMPONENTS = sorted(step_tags("cpu"))
GIB = {"Mi": 1 / 1024, "Gi": 1}


def compiled(path, profile="demo", **asked):
    compile_pipeline(path, dict.fromkeys(COMPONENTS, IMAGE), parameters(load_profile(profile), "v1", **asked), "title")
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    path = tmp_path_factory.mktemp("build") / "new" / "pipeline.yaml"
    documents = compiled(path)
    assert [p.name for p in path.parent.iterdir()] == ["pipeline.yaml"]
    return documents


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


def constant(task, parameter):
    return task["inputs"]["parameters"][parameter]["runtimeValue"]["constant"]


def container(documents, name):
    return documents[0]["deploymentSpec"]["executors"][f"exec-{name}"]["container"]


def defaults(documents):
    declared = documents[0]["root"]["inputDefinitions"]["parameters"]
    return {name: parameter.get("defaultValue") for name, parameter in declared.items()}


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
    for name in STEPS:
        assert "pip install" not in " ".join(container(documents, name)["command"]), name
        assert container(documents, name)["image"] == IMAGE, name


def test_an_image_must_be_named(monkeypatch):
    for name in ("PROMETHEUS_IMAGE", "REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="make images"):
        image_names()
    monkeypatch.setenv("PROMETHEUS_IMAGE", UNSET)
    with pytest.raises(ConfigError, match="no image for the steps"):
        image_names()
    monkeypatch.setenv("PROMETHEUS_IMAGE", IMAGE)
    assert image_names(gpu=True) == dict.fromkeys(COMPONENTS, IMAGE)


def test_what_is_cached_has_an_image_by_its_own_code(monkeypatch):
    monkeypatch.setenv("REGISTRY", "registry.example/")
    monkeypatch.setenv("PROMETHEUS_IMAGE", "")
    place = "registry.example/prometheus-mini/pipeline"
    for step, image in image_names().items():
        assert image == f"{place}:{code_of(step) if step in CACHED else tag('cpu')}"
        assert image_names(gpu=True)[step] == f"{image}-gpu"
    assert set(COMPONENTS) - set(CACHED) == NOT_CACHED


@pytest.fixture
def compiled_copy(tmp_path, monkeypatch):
    """What Kubeflow knows of each step when a copy of this tree is compiled, after an edit of one of its files."""
    copy, out = tmp_path / "tree", tmp_path / "pipeline.yaml"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", *LIBRARIES):
        (copy / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    environment = {**os.environ, "REGISTRY": "registry.example", "PROMETHEUS_IMAGE": ""}

    def knows(edited=""):
        if edited:
            with (copy / edited).open("a", encoding="utf-8") as file:
                file.write("# a comment\n")
        command = [sys.executable, "-m", "pipelines.compile", str(out), "--publish_to", "s3://bucket/models"]
        subprocess.run(command, env=environment, check=True, capture_output=True, cwd=copy)
        spec, platform = yaml.safe_load_all(out.read_text("utf-8"))
        executors = spec["deploymentSpec"]["executors"]
        settings = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        groups = [spec["root"], *spec["components"].values()]
        tasks = {name: task for group in groups for name, task in group.get("dag", {}).get("tasks", {}).items()}
        parts = {step: spec["components"][f"comp-{step}"] for step in STEPS}
        return {s: (executors[f"exec-{s}"], settings[f"exec-{s}"], parts[s], tasks[s]) for s in STEPS}

    return knows


def test_a_step_that_an_edit_does_not_touch_is_not_run_anew(compiled_copy):
    """Kubeflow's key is of image, command, inputs and outputs; here nothing at all of such a step differs."""
    before = compiled_copy()
    variants = {"variant", "variant-2", "variant-3"}
    edits = {
        "serving/rest/generate.py": set(),
        "serving/engine/sampler.py": variants,
        "model/training/loop.py": {"train-model"},
        "requirements/pipeline.lock": STEPS - NOT_CACHED,
    }
    for edited, anew in edits.items():
        after = compiled_copy(edited)
        differ = {step for step in STEPS if after[step] != before[step]}
        assert differ - NOT_CACHED == anew, edited
        assert differ >= NOT_CACHED, f"{edited}: what is not cached has the image of the very code"
        before = after


@pytest.mark.parametrize(
    ("asked", "said"),
    [(["--profile", "demo"], b"prepare-data"), (["--set", "corpus.shards=5"], b'raw: "[0, 1, 2, 3, 4]"')],
    ids=["whole", "shards"],
)
def test_the_same_request_is_the_same_file_in_every_process(tmp_path, asked, said):
    made = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PROMETHEUS_IMAGE": IMAGE, "PYTHONHASHSEED": seed}
        path = tmp_path / f"{seed}.yaml"
        command = [sys.executable, "-m", "pipelines.compile", str(path), *asked]
        subprocess.run(command, env=environment, check=True, capture_output=True, cwd=ROOT)
        made.append(path.read_bytes())
    assert made[0] == made[1] and said in made[0].replace(b"'", b'"')
    assert made[0].startswith(b"# prometheus-mini ") and IMAGE.encode() in made[0].splitlines()[0]


@pytest.mark.parametrize("profile", ["demo", "small", "full"])
def test_a_profile_is_baked_in(tmp_path, monkeypatch, profile):
    monkeypatch.setenv("PROMETHEUS_IMAGE", IMAGE)
    monkeypatch.chdir(ROOT)
    path = tmp_path / "pipeline.yaml"
    asked = ["--profile", profile, "--set", "training.steps=7", "training.warmup_steps=1"]
    asked += [
        "--corpus",
        "s3://bucket/pairs.tsv",
        "--test",
        "s3://bucket/docs.tsv",
        "--publish_to",
        "s3://bucket/models",
    ]
    assert main([str(path), *asked]) == 0
    given = defaults(list(yaml.safe_load_all(path.read_text("utf-8"))))
    training = from_dict(Profile, {"training": given["training"]}).training
    assert training == load_profile(profile, ["training.steps=7", "training.warmup_steps=1"]).training
    assert (given["sources"], given["tests"]) == (["s3://bucket/pairs.tsv"], ["s3://bucket/docs.tsv"])
    assert given["publish_to"] == "s3://bucket/models" and given["run_id"] == "" and given["code_version"]
    assert given["machine"] == ("gpu" if profile == "full" else "cpu")


def test_the_profiles_own_text_is_where_the_image_has_it(tmp_path):
    demo = in_the_image(load_profile("demo"), [], [])
    assert demo.corpus.sources == ["pipelines/profiles/demo.jsonl.zst"]
    with pytest.raises(ConfigError, match=r"pairs\.tsv: lies on this machine, where no pod sees it\nupload it"):
        in_the_image(load_profile("demo"), ["pairs.tsv"], [])
    mine = tmp_path / "mine.yaml"
    mine.write_text("corpus: {sources: [mine.tsv]}\n")
    with pytest.raises(ConfigError, match=r"mine\.tsv: lies outside of .* and is not in the image"):
        in_the_image(load_profile(str(mine)), [], [])


def test_only_the_store_has_no_default(documents, tmp_path):
    assert [name for name, value in defaults(documents).items() if value is None] == ["publish_to"]
    assert all(
        parameter.get("description") for parameter in documents[0]["root"]["inputDefinitions"]["parameters"].values()
    )
    sections = {name: defaults(documents)[name] for name in SECTIONS}
    assert from_dict(Profile, {"name": "demo", **sections}) == load_profile("demo").model_copy(
        update={"resources": Profile().resources}
    )


def test_every_step_has_its_own_code_and_cached_ones_nothing_of_a_run(tasks):
    assert set(tasks) == STEPS
    for name, task in tasks.items():
        component = re.sub(r"-\d$", "", name).replace("-", "_")
        assert constant(task, "code") == code_of(component), name
        cached = task["cachingOptions"].get("enableCache", False)
        assert cached == (name not in NOT_CACHED), name
        given = str(task["inputs"]["parameters"])
        if cached:
            assert not any(word in given for word in ("run_id", "code_version", "publish_to", "pipeline_job")), name
    for name, parameter in (("prepare-data", "stamp"), ("train-tokenizer", "origin"), ("train-model", "origin")):
        found = tasks[name]["inputs"]["parameters"][parameter]
        assert "preflight" in str(found) and found.get("taskOutputParameter", {}).get("producerTask") == "preflight", (
            name
        )


def test_a_run_without_a_name_has_its_jobs(tasks):
    assert constant(tasks["preflight"], "job") == "{{$.pipeline_job_resource_name}}"
    for name in ("publish", "release"):
        assert tasks[name]["inputs"]["parameters"]["run_id"]["componentInputParameter"].endswith("preflight-run_id")


def test_steps_are_tried_again_for_as_long_as_they_may_take(tasks, cluster):
    for name, task in tasks.items():
        again = task.get("retryPolicy", {})
        assert again.get("maxRetryCount", 0) == (0 if name in NOT_AGAIN else 2), name
        if again:
            seconds = int(again["backoffMaxDuration"].removesuffix("s"))
            assert seconds > 3 * int(cluster[f"exec-{name}"]["activeDeadlineSeconds"]), name
    assert tasks["train-model"]["retryPolicy"]["backoffMaxDuration"] == f"{(3 * 72 + 24) * 3600}s"
    assert all(int(executor["activeDeadlineSeconds"]) >= 3600 for executor in cluster.values())


def test_what_a_cluster_is_asked_for_are_parameters(documents, tasks, cluster):
    asked = {"train-model": ("train_cpu", "train_memory", "train_gpus"), "variant-2": ("cpu", "memory", "fp16_gpus")}
    for name in STEPS - NOT_AGAIN:
        resources = container(documents, name)["resources"]
        cpu, memory, gpus = asked.get(name, ("cpu", "memory", None))
        assert resources["resourceCpuRequest"] == f"{{{{$.inputs.parameters['pipelinechannel--{cpu}']}}}}", name
        for key in ("resourceMemoryRequest", "resourceMemoryLimit"):
            assert resources[key] == f"{{{{$.inputs.parameters['pipelinechannel--{memory}']}}}}", name
        assert ("accelerator" in resources) == bool(gpus), name
        if gpus:
            count = f"{{{{$.inputs.parameters['pipelinechannel--{gpus}']}}}}"
            assert resources["accelerator"]["resourceType"] == "nvidia.com/gpu", name
            assert resources["accelerator"]["resourceCount"] == count, name
        for key in ("nodeSelector", "tolerations"):
            assert (key in cluster[f"exec-{name}"]) == bool(gpus), name
        for value in filter(None, (cpu, memory, gpus)):
            given = tasks[name]["inputs"]["parameters"][f"pipelinechannel--{value}"]
            assert given == {"componentInputParameter": value}, name
    # Kubeflow 2.17 does not hand such parameters on into a group: what is in one asks for a constant share.
    for name in NOT_AGAIN:
        assert container(documents, name)["resources"]["resourceMemoryLimit"] == "1Gi", name


@pytest.mark.parametrize("profile", profile_names())
def test_small_nodes_will_do_but_for_what_is_full(profile):
    given = parameters(load_profile(profile), "v1")
    memory = max(float(given[n][:-2]) * GIB[given[n][-2:]] for n in ("memory", "train_memory"))
    if profile == "full":
        assert (given["machine"], given["train_gpus"], given["fp16_gpus"]) == ("gpu", "1", "1")
        assert given["tolerations"] and given["node_selector"] == {}
        return
    assert (given["machine"], given["train_gpus"], given["fp16_gpus"], given["node_selector"]) == ("cpu", "0", "0", {})
    assert float(given["train_cpu"]) <= 1 and memory <= (6 if profile == "small" else 2)


def test_a_bundle_for_a_gpu_is_measured_on_one():
    given = parameters(load_profile("demo"), "v1", machine="gpu")
    assert (given["machine"], given["fp16_gpus"], given["train_gpus"]) == ("gpu", "1", "0")


def test_secrets_are_optional_and_none_is_written_down(documents, cluster):
    secrets = [secret for executor in cluster.values() for secret in executor.get("secretAsEnv", [])]
    assert {f"prometheus-mini-{name}" for name in ("storage", "hub", "tracking")} == {s["secretName"] for s in secrets}
    assert all(secret["optional"] for secret in secrets)
    for name in ("preflight", "prepare-data", "train-model", "publish", "release"):
        assert "prometheus-mini-storage" in {s["secretName"] for s in cluster[f"exec-{name}"]["secretAsEnv"]}, name
    assert "AKIA" not in json.dumps(documents)


def test_a_store_in_a_volume_is_mounted_where_it_is_used(tmp_path, cluster):
    assert not any("pvcMount" in executor for executor in cluster.values())
    asked = {"publish_to": "pvc://models/mini", "checkpoint_uri": "pvc://work"}
    _, platform = compiled(tmp_path / "p.yaml", **asked)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for name in ("preflight", "train-model", "publish", "release"):
        mounts = {mount["constant"]: mount["mountPath"] for mount in executors[f"exec-{name}"]["pvcMount"]}
        assert mounts == {"models": "/mnt/pvc/models", "work": "/mnt/pvc/work"}, name
    assert "pvcMount" not in executors["exec-variant"]


def test_what_passed_is_published_and_what_did_not_fails_the_run(documents):
    components, root = documents[0]["components"], documents[0]["root"]["dag"]["tasks"]
    (branches,) = [task for name, task in root.items() if name.startswith("condition-branches")]
    groups = components[branches["componentRef"]["name"]]["dag"]["tasks"].values()
    found = {task["taskInfo"]["name"]: task for task in groups}
    conditions = {name: task["triggerPolicy"]["condition"] for name, task in found.items()}
    assert conditions["gate-passed"].endswith("!= 'none'") and conditions["gate-failed"].startswith("!(")
    inner = {name: components[task["componentRef"]["name"]]["dag"]["tasks"] for name, task in found.items()}
    assert set(inner["gate-failed"]) == {"refuse"}
    (group,) = set(inner["gate-passed"]) - {"publish"}
    released = inner["gate-passed"][group]
    assert released["triggerPolicy"]["condition"].endswith("['pipelinechannel--release_to'] != ''")
    assert set(components[released["componentRef"]["name"]]["dag"]["tasks"]) == {"release"}


def test_variants_are_made_side_by_side_from_the_checkpoint(tasks):
    names = ("variant", "variant-2", "variant-3")
    assert [constant(tasks[name], "precision") for name in names] == ["fp32", "fp16", "int8"]
    for name in names:
        assert not set(tasks[name]["dependentTasks"]) & set(names), name
        artifacts = tasks[name]["inputs"]["artifacts"]
        assert set(artifacts) == {"checkpoint", "tokenizer", "holdout"}, "the train split stays where it is"
