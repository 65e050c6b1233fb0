"""Text in several shards: what is compiled for it, and the steps themselves, run and gone on with on this machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from components.code import code_of
from model.corpus import prepare_corpus, read_card
from model.corpus.files import BLOCK_BYTES
from model.files import sha256_file
from pipelines.compile import compile_pipeline
from pipelines.images import step_tags
from pipelines.parameters import parameters
from pipelines.pipeline import define
from pipelines.provenance import ROOT
from pipelines.request import PROFILES, load_profile
from pipelines.reuse import hashed

IMAGE = "registry.example/prometheus-mini/pipeline:abc"
SHARDS = ["corpus.shards=3", "corpus.max_rows=0"]
Json = dict[str, Any]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    path = tmp_path_factory.mktemp("build") / "pipeline.yaml"
    arguments = parameters(load_profile("small", SHARDS), "v1")
    compile_pipeline(path, {component: f"{IMAGE}-{component}" for component in step_tags("cpu")}, arguments)
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def container(documents: list[Json], name: str) -> Json:
    found: Json = documents[0]["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
    return found


def test_a_loop_prepares_the_shards_and_a_step_merges_them(documents: list[Json]) -> None:
    spec, platform = documents
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    tasks = spec["root"]["dag"]["tasks"]
    (loop,) = [task for task in tasks.values() if "parameterIterator" in task]
    assert json.loads(loop["parameterIterator"]["items"]["raw"]) == [0, 1, 2] and "iteratorPolicy" not in loop
    inner = spec["components"][loop["componentRef"]["name"]]["dag"]["tasks"]
    assert set(inner) == {"prepare-shard"} and "prepare-data" not in tasks
    given = inner["prepare-shard"]["inputs"]["parameters"]
    assert given["number"] == {"componentInputParameter": loop["parameterIterator"]["itemInput"]}
    constants = {name: given[name]["runtimeValue"]["constant"] for name in ("of", "code")}
    assert constants == {"of": 3, "code": code_of("prepare_shard")}
    assert "preflight-stamp" in given["stamp"]["componentInputParameter"], "changed text is read anew"
    merge = tasks["merge-shards"]
    assert merge["taskInfo"]["name"] == "prepare-data", "a run's figures are where they were"
    assert merge["dependentTasks"] == [name for name, task in tasks.items() if task is loop]
    assert merge["inputs"]["parameters"]["code"]["runtimeValue"]["constant"] == code_of("merge_shards")
    (read,) = merge["inputs"]["artifacts"].values()
    assert read["taskOutputArtifact"]["producerTask"] == merge["dependentTasks"][0]
    for task in (inner["prepare-shard"], merge):
        assert task["cachingOptions"] == {"enableCache": True} and task["retryPolicy"]["maxRetryCount"] == 2
    for name in ("train-tokenizer", "train-model"):
        assert tasks[name]["inputs"]["artifacts"]["corpus"]["taskOutputArtifact"]["producerTask"] == "merge-shards"


def test_what_a_shard_asks_of_a_cluster_is_written_down(documents: list[Json]) -> None:
    """Kubeflow 2.17 does not hand parameters such as the memory on into a loop."""
    shard, merge = (container(documents, name) for name in ("prepare-shard", "merge-shards"))
    asked = {"resourceCpuRequest": "250m", "resourceMemoryLimit": "4Gi", "resourceMemoryRequest": "4Gi"}
    assert asked.items() <= shard["resources"].items() and shard["image"] == f"{IMAGE}-prepare_shard"
    assert "pipelinechannel--memory" in merge["resources"]["resourceMemoryLimit"]
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    secrets = {secret["secretName"] for secret in executors["exec-prepare-shard"]["secretAsEnv"]}
    assert secrets == {"prometheus-mini-storage", "prometheus-mini-hub"}
    assert "secretAsEnv" not in executors["exec-merge-shards"], "it reads no source"


def test_one_shard_is_one_step() -> None:
    for profile in ("demo", "tiny"):
        made = define(parameters(load_profile(profile), "v1"))
        assert "prepare-data" in made.pipeline_spec.root.dag.tasks
        assert not any(task.HasField("parameter_iterator") for task in made.pipeline_spec.root.dag.tasks.values())


def hashes(*folders: Path) -> Json:
    """Every file of a corpus, and its card but for how long it took."""
    return {path.name: sha256_file(path) for folder in folders for path in folder.rglob("*.zst")} | {
        "cards": [{**read_card(folder), "seconds": 0} for folder in folders]
    }


def run_until(step: str, command: list[str]) -> str:
    """Run the pipeline until a step begins, and end the runner then, by force; what it has said."""
    said = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            said.append(line)
            if line == f"==> {step}\n":
                process.kill()
    return "".join(said)


def test_the_steps_make_the_corpus_of_one_process_and_are_used_again(tmp_path: Path) -> None:
    """Killed in the second shard, gone on with, killed in the merge, gone on with once more."""
    own = PROFILES / "demo.jsonl.zst"
    assert own.stat().st_size > BLOCK_BYTES, "else one shard would read all of it"
    test = tmp_path / "docs.tsv"
    test.write_text("Это дом.\tThis is a house.\nЭто проверка.\tThis is a test.\n", "utf-8")
    runner = [sys.executable, "-m", "pipelines.run", "--runs", str(tmp_path / "runs")]
    settings = ["corpus.shards=2", "corpus.max_rows=0", "corpus.leaks=near", "corpus.duplicates=near"]
    begin = [*runner, "--profile", "tiny", "--test", str(test), *(word for one in settings for word in ("--set", one))]
    said = run_until("prepare-shard-2", begin)
    assert "<== prepare-shard-1: ok" in said
    (run_dir,) = (tmp_path / "runs").glob("2*")
    said = run_until("prepare-data", [*runner, "--resume", "latest"])
    assert "<== prepare-shard-1: used again" in said and "<== prepare-shard-2: ok" in said
    said = run_until("train-tokenizer", [*runner, "--resume", "latest"])
    assert re.findall("<== (prepare.*): used again", said) == ["prepare-shard-1", "prepare-shard-2"]
    assert "<== prepare-data: ok" in said

    made = run_dir / "artifacts" / "prometheus-mini" / "merge-shards"
    config = load_profile("tiny", settings).corpus.model_copy(update={"shards": 1})
    prepare_corpus([], [str(test)], tmp_path / "corpus", config, tmp_path / "holdout")
    assert hashes(made / "corpus", made / "holdout") == hashes(tmp_path / "corpus", tmp_path / "holdout")
    counts = [
        json.loads(path.read_text("utf-8"))["counts"]["read"]
        for path in sorted(run_dir.glob("artifacts/*/*/prepare-shard/shard/shard.json"))
    ]
    assert len(counts) == 2 and min(counts) > 1000
    recorded = json.loads((made / "step.json").read_text("utf-8"))
    shards = sorted(run_dir.glob("artifacts/*/*/prepare-shard/shard"))
    assert recorded["given"]["shards"] == " ".join(map(hashed, shards)), "the merge has left them as they were"

    said = run_until("train-tokenizer", [*runner, "--resume", "latest", "--set", "corpus.seed=5"])
    assert said.count("prepare-shard is made anew: config.seed differs") == 2
    assert "merge-shards is made anew: config.seed differs, shards differs" in said
