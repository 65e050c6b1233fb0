"""A run that is to begin with another's weights: which one is meant, and what is found wrong before anything starts."""

import json
import os

import pytest

from model.config import ConfigError
from pipelines.compile import main as compile_main
from pipelines.containers import located
from pipelines.folder import point_latest
from pipelines.parameters import parameters
from pipelines.request import load_profile, read_request
from pipelines.resume import as_kept, read_again, without_keys
from tests.helpers.bundles import tiny_checkpoint, tiny_tokenizer

NAME = "20261129T010203Z-tiny-abcd"
TEXT = ["https://host/a.tsv"]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder of runs, one of which has trained a network of profile tiny; the working directory is beside it."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / NAME
    network = load_profile("tiny").network
    tiny_checkpoint(run / "artifacts/mini/train-model/checkpoint", tiny_tokenizer(tmp_path / "tokenizer"), network)
    (run / "bundle").mkdir()
    (run / "bundle" / "bundle.json").write_text("{}")
    return tmp_path / "runs"


def asked(name, runs, *settings):
    return read_request("tiny", settings, TEXT, [], name, runs)


def test_a_run_is_meant_by_its_id_its_folder_its_bundle_and_the_links_to_it(runs):
    point_latest(runs / NAME)
    for name in (NAME, f"runs/{NAME}", str(runs / NAME), f"runs/{NAME}/bundle", "latest", "runs/latest/bundle"):
        assert asked(name, runs).init_from == f"runs/{NAME}", name
    point_latest(runs)  # which moves on when the next run begins
    training = f"runs/{NAME}/artifacts/mini/train-model/checkpoint"
    assert asked(training, runs).init_from == training
    assert asked("s3://models/trained", runs).init_from == "s3://models/trained"
    assert asked("", runs).init_from == ""


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("absent", [], "INIT_FROM: absent is neither a folder, nor a run in .*runs"),
        ("tokenizer", [], "INIT_FROM: .*tokenizer: no training has ended there"),
        (
            NAME,
            ["network.d_ff=256"],
            f"INIT_FROM: runs/{NAME}: .*another network: network.d_ff is 128 there and 256 here",
        ),
    ],
)
def test_what_cannot_be_begun_with_is_told_with_all_else(runs, name, settings, told):
    with pytest.raises(ConfigError, match=rf"(?s)Nothing was run:\nCORPUS: gone.tsv.*{told}"):
        read_request("tiny", settings, ["gone.tsv"], [], name, runs)
    with pytest.raises(ConfigError) as caught:  # of a profile that cannot be read, the network is not compared
        asked(name, runs, *settings, "training.stepz=1")
    assert len(str(caught.value).splitlines()) == (2 if settings else 3)


def test_a_run_goes_on_with_what_it_began_with(runs):
    run, request = runs / "20261129T020304Z-tiny-ef01", asked(NAME, runs)
    kept = {"profile": "tiny", "settings": without_keys(request.profile.model_dump())}
    (run / "artifacts/mini/train-model").mkdir(parents=True)
    (run / "request.json").write_text(json.dumps({**kept, "given": as_kept(request, "runs", None)}))
    again = read_again(run, "", [], [], [], runs=runs)
    assert again.init_from == f"runs/{NAME}" and again.notes == []
    training = f"runs/{NAME}/artifacts/mini/train-model/checkpoint"
    assert read_again(run, "", [], [], [], training, runs).notes == ["other than before: INIT_FROM"]
    (run / "artifacts/mini/train-model/model.safetensors").touch()
    with pytest.raises(ConfigError, match="INIT_FROM: with another one, training would begin anew"):
        read_again(run, "", [], [], [], training, runs)


def test_pods_see_addresses_alone(runs, monkeypatch, tmp_path):
    monkeypatch.setenv("PROMETHEUS_IMAGE", "registry.example/pipeline:abc")
    given = ["build/p.yaml", "--profile", "tiny", "--corpus", "s3://bucket/a.tsv", "--init_from"]
    with pytest.raises(ConfigError, match=f"runs/{NAME}: lies on this machine, where no pod sees it"):
        compile_main([*given, f"runs/{NAME}"])
    assert compile_main([*given, "pvc://models/trained"]) == 0
    text = (tmp_path / "build" / "p.yaml").read_text("utf-8")
    assert "defaultValue: pvc://models/trained" in text and "mountPath: /mnt/pvc/models" in text


def test_containers_see_what_a_run_begins_with(runs):
    arguments = parameters(load_profile("tiny"), "v1", sources=TEXT, publish_to="runs", init_from=f"runs/{NAME}")
    found, read, _ = located(arguments)
    assert found["init_from"] == f"runs/{NAME}" and os.path.abspath(f"runs/{NAME}") in read
    elsewhere = located({**arguments, "init_from": "s3://models/trained"})
    assert elsewhere[0]["init_from"] == "s3://models/trained" and elsewhere[1] == []
