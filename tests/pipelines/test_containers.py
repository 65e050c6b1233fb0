"""What a container of a step is given and what is kept from it, as far as it can be told without an engine."""

import os

import pytest
from google.protobuf import json_format

from model.options import run
from pipelines.containers import ANY, CLEARML, HUB, MLFLOW, STORAGE, lines, located, needs, open_to_steps
from pipelines.engine import binds
from pipelines.parameters import parameters
from pipelines.pipeline import define
from pipelines.request import load_profile
from pipelines.run import main


def test_lines_come_whole_whatever_the_pieces():
    text = "==> шаг\nдом\n\nбез конца"
    data = text.encode() + b"\xff"
    for size in (1, 2, 3, 7, 1000):
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        assert list(lines(pieces)) == ["==> шаг\n", "дом\n", "\n", "без конца\ufffd\n"]
    assert list(lines([])) == [] and list(lines([b"a\n"])) == ["a\n"]


def arguments(**changed):
    return {
        "sources": [],
        "tests": [],
        "init_from": "",
        "teacher": {},
        "corpus": {"sources": ["own.tsv"], "max_rows": 1},
        "publish_to": "runs",
    } | changed


def test_what_is_read_is_found_by_its_whole_path_and_named_as_before(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    given, read, store = located(arguments(sources=["a b.tsv", "s3://x/y.tsv", "../c.tsv"], tests=["/t/d.tsv"]))
    assert read == [str(tmp_path / "here" / "a b.tsv"), str(tmp_path / "c.tsv"), "/t/d.tsv"]
    assert given["sources"] == ["a b.tsv", "s3://x/y.tsv", str(tmp_path / "c.tsv")] and given["tests"] == ["/t/d.tsv"]
    assert given["corpus"] == {"sources": ["own.tsv"], "max_rows": 1}  # not read where sources are given
    assert given["publish_to"] == "runs" and store == str(tmp_path / "here" / "runs")
    assert located(arguments())[1] == [str(tmp_path / "here" / "own.tsv")]
    assert located(arguments(publish_to="s3://models/mini"))[2] == "s3://models/mini"


def test_only_addresses_need_the_outside(monkeypatch):
    for name in ("CLEARML_API_HOST", "CLEARML_API_ACCESS_KEY", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PROMETHEUS_TRACKING", raising=False)
    assert needs(["a.tsv", "/b:c.tsv"], "/store") == set()
    assert needs(["s3://x/y"], "/store") == needs([], "s3://x/y") == {STORAGE}
    assert needs(["hf://a/b", "https://h/x.tsv"], "/store") == {HUB, ANY}
    monkeypatch.setenv("CLEARML_API_HOST", "https://tracker")
    assert needs([], "/store") == {CLEARML}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert needs([], "/store") == {CLEARML, MLFLOW}
    monkeypatch.setenv("PROMETHEUS_TRACKING", "mlflow")
    assert needs([], "/store") == {MLFLOW}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "/mlruns")  # a folder of this machine is none of a container's
    assert needs([], "/store") == set()
    monkeypatch.setenv("PROMETHEUS_TRACKING", "off")
    assert needs([], "/store") == set()


@pytest.mark.parametrize(
    ("needed", "expected"),
    [
        (set(), {}),
        ({STORAGE}, {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}),
        ({HUB}, {"HF_TOKEN"}),
        ({ANY}, set()),
        ({CLEARML}, {"CLEARML_API_SECRET_KEY"}),
        ({MLFLOW}, {"MLFLOW_TRACKING_PASSWORD"}),
    ],
)
def test_a_step_gets_what_it_declares_and_the_run_needs(monkeypatch, needed, expected):
    """Keys and the network: no step that the pipeline declares nothing for has either."""
    secrets = {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "CLEARML_API_SECRET_KEY"}
    secrets |= {"MLFLOW_TRACKING_PASSWORD"}
    for name in (*secrets, "https_proxy"):
        monkeypatch.setenv(name, "s3cret")
    asked = ["corpus.shards=2", "distillation.teacher=s3://models/run"]
    pipeline = define(parameters(load_profile("demo", asked), "v1"))
    open_to_steps(pipeline, needed)
    executors = json_format.MessageToDict(pipeline.pipeline_spec)["deploymentSpec"]["executors"]
    declared = json_format.MessageToDict(pipeline.platform_spec)["platforms"]["kubernetes"]["deploymentSpec"][
        "executors"
    ]
    opened = 0
    for label, executor in executors.items():
        names = {pair["name"] for pair in executor["container"]["env"]}
        if ANY in names:
            opened += 1
            assert names & secrets == set(expected) and "https_proxy" in names and declared[label]["secretAsEnv"]
            assert label != "exec-merge-shards", "it reads no source"
        else:
            assert not names & {*secrets, "https_proxy"}
    assert (opened > 0) == bool(needed) and opened < len(executors)


def test_every_path_can_be_told_to_an_engine():
    found = binds({"/a b": True, "/c:d": True, "/e,f": False, '/g"h/i:j/k': True})
    assert found["volumes"] == {
        "/a b": {"bind": "/a b", "mode": "ro"},
        "/e,f": {"bind": "/e,f", "mode": "rw"},
        '/g"h': {"bind": '/g"h', "mode": "ro"},
    }
    (mount,) = found["mounts"]
    assert (mount["Source"], mount["Target"], mount["Type"], mount["ReadOnly"]) == ("/c:d", "/c:d", "bind", True)


def test_an_unknown_tracker_is_told_of_before_anything_is_begun(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PROMETHEUS_TRACKING", "mlflwo")
    assert run(lambda: main(["--profile", "tiny", "--runs", str(tmp_path / "runs")])) == 2
    assert "PROMETHEUS_TRACKING: no tracker is called 'mlflwo'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_without_an_engine_nothing_is_begun(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
    runs = tmp_path / "runs"
    assert run(lambda: main(["--runner", "docker", "--runs", str(runs)])) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: RUNNER=docker needs a container engine, and none answers at unix://{tmp_path}")
    assert len(said.splitlines()) == 1 and not os.path.exists(runs)
