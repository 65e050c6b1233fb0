"""A run that was killed or has failed goes on in its folder, with what it was asked and what it has made."""

import json
import re
import shutil
import subprocess
import sys
from threading import Timer

import pytest

from benchmarks.resume import measure
from components.code import code_of
from model.config import ConfigError
from model.errors import ProjectError
from pipelines.folder import held, point_latest, stale
from pipelines.request import read_request
from pipelines.resume import ResumeError, as_kept, find, read_again, without_keys
from pipelines.run import run_pipeline
from pipelines.runs import listed
from tests.helpers.bundles import tiny_bundle
from tests.pipelines.test_local import ended, record


def test_a_run_that_is_killed_in_training_and_after_it_ends_in_the_same_bundle(tmp_path):
    """Real runs: the runner is killed in training, then a later step alone. benchmarks.resume kills in each step."""
    found = measure(tmp_path, ["train-model", "variant-int8"])
    assert found["same"] and found["status"] == "published" and found["went_on"] == 2
    assert {name for name in found["bundle"] if name.endswith(".onnx")}
    assert 0 < found["training_went_on_after_step"] < found["training_steps"]
    finished = {step: times for step, times in found["finished"].items() if step not in ("preflight", "publish")}
    assert set(finished.values()) == {1} and found["used_again"]["prepare-data"] == 2
    assert not [path for path in (tmp_path / "disturbed").rglob("*") if re.search(r"partial|draft|\.tmp$", path.name)]


class Runner:
    """Stands where containers do: one step, which publishes or fails as it is told."""

    variant, versions, hardware, notes = "cpu", {}, {"gpus": []}, []

    def __init__(self, publishes=False):
        self.publishes, self.arguments = publishes, {}

    def run(self, arguments, run_dir, steps):
        self.arguments = arguments
        verdict = run_dir / "verdict"
        verdict.mkdir(exist_ok=True)
        (verdict / "verdict.json").write_text('{"variant": "int8", "gates": [], "metrics": {}}')
        shutil.rmtree(run_dir / "bundle", ignore_errors=True)
        if self.publishes:
            tiny_bundle(run_dir / "bundle")
        publish = ended("publish") if self.publishes else ended("publish", "failed", "no such bucket")
        record(steps, ended("gate", verdict=str(verdict)), publish)


def begin(tmp_path, runner, *settings, corpus=(), **more):
    corpus = corpus or ["https://host/a.tsv"]
    return run_pipeline(read_request("tiny", settings, corpus, []), "cpu", "", tmp_path, runner, **more)


@pytest.fixture
def failed(tmp_path):
    """The folder of a run that has failed at its last step."""
    assert begin(tmp_path, Runner(), "training.steps=7") == 1
    return find(tmp_path, "latest")


def test_the_same_run_goes_on_and_its_summary_tells(failed, tmp_path, capsys):
    before = json.loads((failed / "summary.json").read_text("utf-8"))
    runner = Runner(publishes=True)
    request = read_again(failed, "", [], [], [])
    assert run_pipeline(request, "cpu", "", tmp_path, runner, failed) == 0
    assert f"run {failed} goes on: profile tiny" in capsys.readouterr().out
    now = json.loads((failed / "summary.json").read_text("utf-8"))
    assert (now["run_id"], now["started"], now["settings"]) == (failed.name, before["started"], before["settings"])
    assert now["seconds"] >= before["seconds"] and len(now["resumed"]) == 1 and now["status"] == "published"
    assert runner.arguments["training"]["steps"] == 7 and runner.arguments["sources"] == ["https://host/a.tsv"]
    assert [path.name for path in tmp_path.glob("2*")] == [failed.name] == [(tmp_path / "live").resolve().name]
    with pytest.raises(ResumeError, match="has published, and nothing of it is left to be done"):
        find(tmp_path, "latest")


def test_a_run_that_was_killed_while_it_published_keeps_what_it_was(failed, tmp_path):
    """Publishing puts a summary of its own beside the bundle, which knows nothing of the run but its figures."""
    before = json.loads((failed / "summary.json").read_text("utf-8"))
    (failed / "report.html").unlink()
    (failed / "summary.json").write_text(json.dumps({"run_id": failed.name, "chosen": "int8"}))
    assert stale(tmp_path) == [failed] and listed(tmp_path)[0]["status"] == "killed"
    assert run_pipeline(read_again(failed, "", [], [], []), "cpu", "", tmp_path, Runner(publishes=True), failed) == 0
    now = json.loads((failed / "summary.json").read_text("utf-8"))
    assert now["started"] == before["started"] and len(now["resumed"]) == 1 and now["status"] == "published"


def test_what_is_given_anew_is_laid_over_it_and_named(failed):
    request = read_again(failed, "", ["gate.max_loss=3 training.seed=5"], [], [])
    assert request.profile.training.steps == 7 and request.profile.gate.max_loss == 3
    assert request.notes == ["other than before: training.seed, gate.max_loss"]
    request = read_again(failed, "", [], ["https://other/b.tsv"], [])
    assert request.corpus == ["https://other/b.tsv"] and request.notes == ["other than before: CORPUS"]


def test_what_was_trained_is_not_thrown_away_for_other_settings_or_code(failed):
    training = failed / "artifacts" / "mini" / "train-model"
    training.mkdir(parents=True)
    (training / "step.json").write_text('{"given": {"code": "train_model-0000000000"}}')
    changes = ["training.seed=5", "gate.max_loss=3"]
    assert read_again(failed, "", changes, [], []).profile.training.seed == 5, "nothing was trained yet"
    (training / "model.safetensors").touch()
    with pytest.raises(ConfigError, match=r"training\.seed, the code of train-model: with another one"):
        read_again(failed, "", changes, [], [])
    (training / "step.json").write_text(json.dumps({"given": {"code": code_of("train_model")}}))
    assert read_again(failed, "", ["gate.max_loss=3"], [], []).profile.gate.max_loss == 3


def test_every_problem_is_told_together(failed):
    with pytest.raises(ConfigError) as raised:
        read_again(failed, "demo", ["training.stepz=1"], ["absent.tsv"], [])
    told = str(raised.value)
    for part in ("Nothing was run:", "PROFILE: a run goes on with the settings that it has", "training.stepz"):
        assert part in told
    with pytest.raises(ConfigError, match=r"CORPUS: absent\.tsv: no such file"):
        read_again(failed, "", [], ["absent.tsv"], [])


@pytest.mark.parametrize(
    ("settings", "corpus", "name", "again"),
    [
        ([], ["https://me:s3cret@host/a.tsv"], "CORPUS", {"corpus": ["https://me:s3cret@host/a.tsv"]}),
        (
            ["corpus.sources=['https://me:s3cret@host/a.tsv']"],
            [],
            "SET=corpus.sources",
            {"overrides": ["corpus.sources=['https://me:s3cret@host/a.tsv']"]},
        ),
    ],
)
def test_a_key_is_not_kept_and_has_to_be_given_again(tmp_path, settings, corpus, name, again):
    request = read_request("tiny", settings, corpus, [])
    asked = {
        "profile": "tiny",
        "settings": without_keys(request.profile.model_dump()),
        "given": as_kept(request, "runs", None),
    }
    assert "s3cret" not in json.dumps(asked)
    (tmp_path / "request.json").write_text(json.dumps(asked))
    nothing = {"profile": "", "overrides": [], "corpus": [], "tests": []}
    with pytest.raises(ConfigError, match=f"{name}: the address has a key in it, which was not kept; give it again"):
        read_again(tmp_path, **nothing)
    found = read_again(tmp_path, **{**nothing, **again})
    assert "s3cret" in json.dumps([found.corpus, found.profile.corpus.sources]) and found.notes == []


def test_a_run_that_is_at_work_is_left_alone(failed, tmp_path):
    (failed / "report.html").unlink()
    with held(failed):
        for name in ("latest", failed.name, str(failed)):
            with pytest.raises(ProjectError, match="is still at work; it can go on when it has ended"):
                find(tmp_path, name)
        with pytest.raises(ProjectError, match="is still at work"):
            begin(tmp_path, Runner(), run_dir=failed)
    assert find(tmp_path, str(failed)) == failed


def test_what_cannot_go_on_says_why_and_what_can(failed, tmp_path):
    with pytest.raises(ResumeError, match=f"absent is no run; runs that can go on: {failed.name}"):
        find(tmp_path, "absent")
    elsewhere = tmp_path / "20991231T000000Z-tiny-0000"
    elsewhere.mkdir()
    point_latest(elsewhere)
    with pytest.raises(ResumeError, match=f"{elsewhere.name} has no request.json: it ran elsewhere"):
        find(tmp_path, "latest")
    with pytest.raises(ResumeError, match="runs that can go on: none"):
        find(tmp_path / "empty", "latest")


def test_a_step_that_outlives_its_killed_runner_is_waited_for(failed):
    """It shares the lock until it has ended (pipelines/local.py)."""
    (failed / "runner.lock").touch()
    code = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_SH); print(flush=True); input()"
    command = [sys.executable, "-c", code, str(failed / "runner.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as step:
        assert step.stdin and step.stdout
        step.stdout.readline()
        assert find(failed.parent, "latest") == failed
        Timer(0.3, step.communicate, [b"\n"]).start()
        with held(failed) as had:
            assert had
        assert step.wait() == 0
