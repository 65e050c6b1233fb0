"""A pipeline with a teacher, and without: which steps there are, what each depends on, and what is refused before."""

import json
import os

import pytest
import yaml

from components.code import code_of
from model.config import ConfigError
from pipelines.compile import compile_pipeline, in_the_image
from pipelines.compile import main as compile_main
from pipelines.containers import located
from pipelines.folder import point_latest
from pipelines.images import step_tags
from pipelines.parameters import parameters
from pipelines.request import load_profile, read_request
from pipelines.resume import TEACHER, as_kept, read_again, without_keys
from tests.helpers.bundles import tiny_bundle

NAME = "20261129T010203Z-tiny-abcd"
TEXT = ["https://host/a.tsv"]
TRAINS = "distillation.teacher_steps=40"
GIVEN = "distillation.teacher=s3://models/run"


def compiled(path, *settings):
    """The tasks of a compiled pipeline by name, and what each is asked for."""
    arguments = parameters(load_profile("tiny", settings), "v1")
    compile_pipeline(path, dict.fromkeys(step_tags("cpu"), "image"), arguments)
    spec, platform = yaml.safe_load_all(path.read_text("utf-8"))
    cluster = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return spec["root"]["dag"]["tasks"], spec, cluster


def read_by(task):
    """Which step's output each artifact of a task is."""
    inputs = task["inputs"].get("artifacts", {})
    return {name: tuple(found["taskOutputArtifact"].values()) for name, found in inputs.items()}


def constant(task, name):
    return task["inputs"]["parameters"][name]["runtimeValue"]["constant"]


@pytest.mark.parametrize(
    ("settings", "more", "kind"),
    [((), set(), "none"), ((GIVEN,), {"distil"}, "given"), ((TRAINS,), {"distil", "train-teacher"}, "trained")],
)
def test_the_steps_are_there_where_they_are_asked_for(tmp_path, settings, more, kind):
    plain, _, _ = compiled(tmp_path / "plain.yaml")
    tasks, spec, _ = compiled(tmp_path / "p.yaml", *settings)
    assert set(tasks) - set(plain) == more and set(plain) <= set(tasks)
    assert {f"exec-{name}" for name in more} <= set(spec["deploymentSpec"]["executors"])
    assert constant(tasks["preflight"], "taught_by") == kind
    learned = ("distil", "taught") if more else ("prepare-data", "corpus")
    assert {"producerTask": learned[0], "outputArtifactKey": learned[1]} == tasks["train-model"]["inputs"]["artifacts"][
        "corpus"
    ]["taskOutputArtifact"]
    if not more:
        assert "distil" not in json.dumps(sorted(spec["components"])) and "teacher" not in str(
            sorted(spec["components"])
        )


def test_who_reads_what_and_what_is_cached_by_what(tmp_path):
    tasks, spec, cluster = compiled(tmp_path / "p.yaml", TRAINS)
    assert set(read_by(tasks["distil"])) == {"corpus", "bundle"}, "nothing that is held out goes to the teacher"
    assert tasks["distil"]["inputs"]["artifacts"]["corpus"]["taskOutputArtifact"]["producerTask"] == "prepare-data"
    assert tasks["distil"]["inputs"]["artifacts"]["bundle"]["taskOutputArtifact"]["producerTask"] == "train-teacher"
    assert set(read_by(tasks["train-teacher"])) == {"corpus", "holdout", "tokenizer"}
    for name in ("train-teacher", "distil"):
        assert tasks[name]["cachingOptions"]["enableCache"] and tasks[name]["retryPolicy"]["maxRetryCount"] == 2
        assert constant(tasks[name], "code") == code_of(name.replace("-", "_"))
        for word in ("run_id", "code_version", "publish_to"):
            assert word not in str(tasks[name]["inputs"]["parameters"])
        resources = spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]["resources"]
        assert "train_memory" in resources["resourceMemoryLimit"] and resources["accelerator"]
        assert cluster[f"exec-{name}"]["nodeSelector"] and cluster[f"exec-{name}"]["tolerations"]
    given, _, _ = compiled(tmp_path / "given.yaml", GIVEN)
    assert set(read_by(given["distil"])) == {"corpus"}
    stamp = given["distil"]["inputs"]["parameters"]["teacher"]["taskOutputParameter"]
    assert stamp == {"producerTask": "preflight", "outputParameterKey": "teacher"}


def test_how_a_teacher_translates_does_not_train_it_anew():
    def made(*settings):
        return parameters(load_profile("tiny", [TRAINS, *settings]), "v1")

    plain, beams = made(), made("distillation.beams=4", "distillation.keep_original=0.5")
    assert plain["teacher"] == beams["teacher"] and beams["distillation"] == {"beams": 4, "keep_original": 0.5}
    assert made("training.steps=99")["teacher"] == plain["teacher"], "it has its own steps"
    assert plain["teacher"]["training"]["steps"] == 40 and plain["teacher"]["network"]["d_model"] == 384
    assert plain["teacher"]["network"]["max_positions"] == 128, "all else is as in the network that it teaches"
    for changed in ("training.muon_lr=0.01", "distillation.teacher_network={d_model: 96}", "network.max_positions=64"):
        assert made(changed)["teacher"] != plain["teacher"], changed
    assert parameters(load_profile("tiny", [GIVEN]), "v1")["teacher"] == {"bundle": "s3://models/run"}
    assert parameters(load_profile("tiny"), "v1")["teacher"] == {}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ([TRAINS, GIVEN], "teacher: s3://models/run is to teach, and teacher_steps=40 would train another"),
        (
            [TRAINS, "distillation.teacher_network={heds: 3, d_model: 0}"],
            r"(?s)teacher_network.d_model: must be at least 1.*teacher_network.heds: unknown",
        ),
        ([GIVEN, "corpus.kind=text", "network.family=decoder"], "running text .* has no translation"),
        ([TRAINS, "network.family=decoder", "distillation.beams=2"], "beams: several are for network.family seq2seq"),
        (["distillation.keep_original=1.5"], "keep_original: must be at most 1"),
        (["distillation.beams=9"], "beams: must be at most 8"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, told):
    with pytest.raises(ConfigError, match=told):
        load_profile("tiny", settings)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder of runs, one of which has published a bundle; the working directory is beside it."""
    monkeypatch.chdir(tmp_path)
    tiny_bundle(tmp_path / "runs" / NAME / "bundle")
    return tmp_path / "runs"


def asked(runs, *settings):
    return read_request("tiny", settings, TEXT, [], "", runs)


def test_a_run_is_meant_by_its_id_its_folder_its_bundle_and_the_links_to_it(runs):
    point_latest(runs / NAME)
    for name in (NAME, f"runs/{NAME}", str(runs / NAME), f"runs/{NAME}/bundle", "latest"):
        found = asked(runs, f"distillation.teacher={name}").profile.distillation
        assert found.teacher == f"runs/{NAME}/bundle", name
    assert asked(runs, GIVEN).profile.distillation.teacher == "s3://models/run"


def test_what_cannot_teach_is_told_with_all_else(runs):
    tiny_bundle(runs.parent / "decoder", family="decoder")
    for name, told in (
        ("absent", "distillation.teacher: absent is neither a folder, nor a run in"),
        ("runs", "distillation.teacher: .*bundle.json"),
        ("decoder", "distillation.teacher: decoder: goes on with running text"),
    ):
        with pytest.raises(ConfigError, match=rf"(?s)Nothing was run:\n{told}.*\nCORPUS: gone.tsv"):
            read_request("tiny", [f"distillation.teacher={name}"], ["gone.tsv"], [], "", runs)
    with pytest.raises(ConfigError, match=f"{NAME}: translates between ru and en, and the text is in de and en"):
        asked(runs, f"distillation.teacher={NAME}", "corpus.languages=[de, en]")


def test_a_run_goes_on_with_its_teacher_and_no_key_is_kept(runs):
    def kept(request):
        run = runs / "20261129T020304Z-tiny-ef01"
        run.mkdir(exist_ok=True)
        settings = without_keys(request.profile.model_dump())
        given = as_kept(request, "runs", None)
        text = json.dumps({"profile": "tiny", "settings": settings, "given": given})
        (run / "request.json").write_text(text)
        return run, text

    run, _ = kept(asked(runs, f"distillation.teacher={NAME}"))
    again = read_again(run, "", [], [], [], runs=runs)
    assert again.profile.distillation.teacher == f"runs/{NAME}/bundle" and again.notes == []
    secret = "distillation.teacher=https://me:s3cret@host/run"
    run, text = kept(asked(runs, secret))
    assert "s3cret" not in text
    with pytest.raises(ConfigError, match=f"{TEACHER}: the address has a key in it, which was not kept"):
        read_again(run, "", [], [], [], runs=runs)
    again = read_again(run, "", [secret], [], [], runs=runs)
    assert again.profile.distillation.teacher == "https://me:s3cret@host/run" and again.notes == []


def test_a_teacher_that_was_trained_is_not_lost_to_other_settings(runs):
    run = runs / "20261129T020304Z-tiny-ef01"
    trained = run / "artifacts/mini/train-teacher/checkpoint/model.safetensors"
    trained.parent.mkdir(parents=True)
    request = asked(runs, TRAINS)
    kept = {"profile": "tiny", "settings": without_keys(request.profile.model_dump())}
    (run / "request.json").write_text(json.dumps({**kept, "given": as_kept(request, "runs", None)}))
    assert read_again(run, "", ["distillation.beams=2"], [], [], runs=runs).profile.distillation.beams == 2
    trained.touch()
    with pytest.raises(ConfigError, match=r"distillation\.beams: with another one, training would begin anew"):
        read_again(run, "", ["distillation.beams=2"], [], [], runs=runs)


def test_pods_see_addresses_alone(runs, monkeypatch, tmp_path):
    monkeypatch.setenv("PROMETHEUS_IMAGE", "registry.example/pipeline:abc")
    profile = asked(runs, f"distillation.teacher={NAME}").profile
    with pytest.raises(ConfigError, match=f"runs/{NAME}/bundle: lies on this machine, where no pod sees it"):
        in_the_image(profile, TEXT, [])
    given = ["build/p.yaml", "--profile", "tiny", "--corpus", "s3://bucket/a.tsv", "--set"]
    assert compile_main([*given, "distillation.teacher=pvc://models/run"]) == 0
    text = (tmp_path / "build" / "p.yaml").read_text("utf-8")
    assert "bundle: pvc://models/run" in text and "mountPath: /mnt/pvc/models" in text


def test_containers_see_who_teaches(runs):
    profile = asked(runs, f"distillation.teacher={NAME}").profile
    found, read, _ = located(parameters(profile, "v1", sources=TEXT, publish_to="runs"))
    assert found["teacher"] == {"bundle": f"runs/{NAME}/bundle"} and os.path.abspath(f"runs/{NAME}/bundle") in read
    elsewhere = located(parameters(load_profile("tiny", [GIVEN]), "v1", sources=TEXT, publish_to="runs"))
    assert elsewhere[0]["teacher"] == {"bundle": "s3://models/run"} and elsewhere[1] == []
