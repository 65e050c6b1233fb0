"""Submitting to Kubeflow: the request, the waiting, the end of it; against a fake (tests/helpers/kubeflow.py)."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from components.handover import hand_over
from components.summary_line import find_summary
from evaluation.results import Summary
from pipelines import schedule, submit, watch
from pipelines.kubeflow import COOKIE_VARIABLE, TOKEN_VARIABLE, Kubeflow, KubeflowError, Unreachable
from pipelines.request import read_request
from pipelines.watch import Watcher, step_names, steps_of, time_left, words
from tests.helpers.kubeflow import fake_kubeflow, node, pod, step

ROOT = Path(__file__).resolve().parents[2]
NAME = "20261129T014500Z-tiny-a1b2"
TASKS = ["prepare-data", "train-model", "gate", "publish", "refuse"]
SUMMARY = {
    "run_id": NAME,
    "profile": "tiny",
    "variants": [{"variant": "int8", "bytes": 11.3e6, "scores": []}],
    "gates": [{"name": "max_loss", "variant": "int8", "threshold": 5.0, "value": 4.0, "passed": True}],
    "published": {"variant": "int8", "path": f"s3://models/mini/{NAME}/bundle"},
}
SPEC = {
    "root": {
        "dag": {
            "tasks": {
                name: {
                    "componentRef": {"name": f"comp-{name}"},
                    "taskInfo": {"name": name},
                    **({"dependentTasks": [before]} if before else {}),
                }
                for name, before in zip(TASKS, ["", *TASKS[:3], "gate"], strict=True)
            }
        }
    }
}


def a_run(state: str, *steps: list, **more) -> dict:
    """A run as Kubeflow answers it."""
    details = {"task_details": [task for nodes in steps for task in nodes]}
    times = {"created_at": "2026-11-29T01:45:00Z", "finished_at": "2026-11-29T01:47:05Z"}
    spec = {"pipeline_spec": SPEC, "platform_spec": {}}
    parameters = {"run_id": NAME, "code_version": "abc-123"}
    run = {"display_name": NAME, "state": state, "experiment_id": "e1", "pipeline_spec": spec, "run_details": details}
    return run | times | {"runtime_config": {"parameters": parameters}} | more


def line(capsys: pytest.CaptureFixture, summary: dict) -> str:
    """What the last step prints of a summary that the gate has written."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "summary.json").write_text(json.dumps(summary), "utf-8")
        hand_over(folder, summary["published"])
    return capsys.readouterr().out


@pytest.fixture
def kubeflow(monkeypatch):
    """A fake, whom nobody's settings get in the way of, and who is asked without pauses."""
    for name in (TOKEN_VARIABLE, COOKIE_VARIABLE, "KF_PIPELINES_ENDPOINT", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PROMETHEUS_IMAGE", "registry.example/pipeline:abc")
    monkeypatch.setattr(watch, "_POLL", 0.01)
    monkeypatch.setattr(watch, "_LOG_POLL", 0.0)
    with fake_kubeflow() as fake:
        yield fake


def ask(kubeflow, tmp_path: Path, *more: str) -> int:
    options = ["--profile", "tiny", "--host", kubeflow.host, "--publish_to", "s3://models/mini"]
    return submit.main([*options, "--runs", str(tmp_path / "runs"), *more])


def test_a_run_that_goes_well(kubeflow, tmp_path, capsys):
    kubeflow.logs[pod(13)] = "==> train-model\ntraining: step 30/120, validation loss 5.1\n"
    kubeflow.logs[pod(33)] = f"==> publish\n<== publish: ok, 1.0 s\n{line(capsys, SUMMARY)}"
    first, trained = step("prepare-data", 1, "ok", 100, 110), step("train-model", 11, "ok", 110, 150)
    last = [step("gate", 21, "cached", 150, 152), step("publish", 31, "ok", 152, 160)]
    kubeflow.runs["r1"] = [
        a_run("PENDING"),
        a_run("RUNNING", step("prepare-data", 1, "running", 100)),
        a_run("RUNNING", first, step("train-model", 11, "running", 110)),
        a_run("SUCCEEDED", first, trained, *last),
    ]
    assert ask(kubeflow, tmp_path, "--set", "training.steps=7") == 0
    said = capsys.readouterr().out
    assert f"{kubeflow.host}/#/runs/details/r1" in said
    order = ["==> prepare-data", "<== prepare-data: ok, 10.0 s", "==> train-model", "training: step 30/120"]
    order += ["<== train-model: ok, 40.0 s", "<== gate: cached, 2.0 s", "<== publish: ok", "published int8", "OK"]
    places = [said.index(words) for words in order]
    assert places == sorted(places)
    posted = kubeflow.bodies("/apis/v2beta1/runs")[0]
    parameters = posted["runtime_config"]["parameters"]
    assert parameters["training"]["steps"] == 7 and parameters["run_id"] == posted["display_name"]
    assert parameters["corpus"]["sources"] == ["pipelines/profiles/demo.jsonl.zst"]
    assert set(parameters) <= set(posted["pipeline_spec"]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"])
    assert posted["pipeline_spec"]["platform_spec"]["platforms"]["kubernetes"]
    assert kubeflow.bodies("/apis/v2beta1/experiments") == [{"display_name": "prometheus-mini"}]
    summary = json.loads((tmp_path / "runs" / NAME / "summary.json").read_text("utf-8"))
    assert summary["status"] == "published" and summary["published"] == SUMMARY["published"]
    assert summary["seconds"] == 125.0 and summary["code_version"] == "abc-123"
    names = [each["name"] for each in summary["steps"]]
    assert names == ["prepare-data", "train-model", "gate (cached)", "publish"]
    assert "int8" in (tmp_path / "runs" / NAME / "report.html").read_text("utf-8")


def test_a_gate_that_fails(kubeflow, tmp_path, capsys):
    failing = {"name": "min_chrf heldout/ru-en", "variant": "int8", "threshold": 99, "value": 20.5, "passed": False}
    said = "==> refuse\n<== refuse: failed, 0.1 s\n<== no variant may be published\n"
    kubeflow.logs[pod(43)] = said + line(capsys, SUMMARY | {"gates": [failing], "published": None})
    kubeflow.runs["r1"] = [a_run("FAILED", step("gate", 21, "ok", 150, 152), step("refuse", 41, "failed", 152, 153))]
    assert ask(kubeflow, tmp_path) == 1
    said = capsys.readouterr().out
    assert "last words of refuse:" in said and "  <== no variant may be published" in said
    assert "gate min_chrf heldout/ru-en of int8: 20.50, must be ≥ 99" in said
    assert said.rstrip().splitlines()[-2].strip() == "REFUSED, nothing is published:"
    assert "base64" not in said
    assert json.loads((tmp_path / "runs" / NAME / "summary.json").read_text("utf-8"))["status"] == "refused"


def test_a_variant_that_is_held_back_is_a_warning(kubeflow, tmp_path, capsys):
    failing = {"name": "max_chrf_loss", "variant": "fp16", "threshold": 0.01, "value": 0.2, "passed": False}
    kubeflow.logs[pod(33)] = line(capsys, SUMMARY | {"gates": [failing], "chosen": "int8"})
    kubeflow.runs["r1"] = [a_run("SUCCEEDED", step("gate", 21, "ok", 150, 152), step("publish", 31, "ok", 152, 153))]
    assert ask(kubeflow, tmp_path) == 0
    *_, warning, why, last = capsys.readouterr().out.rstrip().splitlines()
    assert warning == "WARNING: fp16 is held back:" and last == "OK, with fp16 held back"
    assert why == "  gate max_chrf_loss of fp16: 20.00 %, must be ≤ 1 %"
    assert json.loads((tmp_path / "runs" / NAME / "summary.json").read_text("utf-8"))["status"] == "held back"


def test_a_step_that_fails_has_the_last_word_even_when_its_pod_is_gone(kubeflow, tmp_path, capsys):
    noise = [f"I1129 launcher {i}" for i in range(50)]
    said = ["==> train-model", "training 100 parameters", "<== train-model: failed, 3.0 s", "<== out of \x1b[1mmemory"]
    kubeflow.archived[pod(13)] = "\n".join([*noise, *said, "F1129 exit status 1"])
    kubeflow.runs["r1"] = [a_run("FAILED", step("train-model", 11, "failed", 110, 113))]
    assert ask(kubeflow, tmp_path) == 1
    out = capsys.readouterr().out
    assert "last words of train-model:\n" in out and "  F1129 exit status 1" in out and "\x1b" not in out
    assert "launcher 10" not in out
    assert "step train-model failed after 3.0 s: out of [1mmemory" in out


def test_a_step_that_left_nothing_says_how_to_look(kubeflow, tmp_path, capsys):
    kubeflow.runs["r1"] = [a_run("FAILED", step("train-model", 11, "failed", 110, 113))]
    assert ask(kubeflow, tmp_path) == 1
    assert f"`kubectl describe pod {pod(13)}`" in capsys.readouterr().out


def test_a_run_that_ends_without_a_reason_is_no_success(kubeflow, tmp_path, capsys):
    kubeflow.runs["r1"] = [a_run("FAILED", error={"message": "the workflow was deleted"})]
    assert ask(kubeflow, tmp_path) == 1
    assert "Kubeflow calls the run FAILED: the workflow was deleted" in capsys.readouterr().out
    kubeflow.runs["r1"] = [a_run("SUCCEEDED", step("publish", 31, "ok", 152, 160))]
    assert ask(kubeflow, tmp_path) == 1
    assert "has left no figures" in capsys.readouterr().out


def test_a_lost_connection_is_waited_out(kubeflow, tmp_path, capsys):
    answers = iter([None, None, (0, "", {}), (503, "", {}), (502, "<html>", {})])
    kubeflow.runs["r1"] = [a_run("RUNNING"), a_run("RUNNING"), a_run("FAILED")]
    kubeflow.refusal = lambda path: next(answers, None) if path.endswith("v2beta1/runs/r1") else None
    assert ask(kubeflow, tmp_path) == 1
    said = capsys.readouterr().out
    assert said.count("the run goes on without us, asking again") == said.count("the connection is back") == 1


def test_a_run_that_is_ended_before_its_pod_begins_is_told(kubeflow, tmp_path, capsys):
    waits = node("train-model", 2, "RUNNING", 11, 0)
    kubeflow.runs["r1"] = [a_run("CANCELED", [waits])]
    assert ask(kubeflow, tmp_path) == 1
    said = capsys.readouterr().out
    assert "last words of train-model:\n  it had no pod" in said and "train-model: failed" in said


def test_waiting_has_an_end_where_kubeflow_is_gone(kubeflow, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(watch, "_PATIENCE", 0.0)
    times = itertools.count()
    kubeflow.refusal = lambda path: (503, "", {}) if path.endswith("v2beta1/runs/r1") and next(times) else None
    kubeflow.runs["r1"] = [a_run("RUNNING")]
    assert ask(kubeflow, tmp_path) == 1
    assert "--attach r1" in capsys.readouterr().out


def test_ctrl_c_ends_the_waiting_and_tells_how_to_go_on(kubeflow, tmp_path):
    kubeflow.runs["r1"] = [a_run("RUNNING", step("prepare-data", 1, "running", time.time()))]
    command = [sys.executable, "-m", "pipelines.submit", "--host", kubeflow.host, "--attach", "r1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for said in process.stdout:
            if said.startswith("==> prepare-data"):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130
    told = re.search(r"To wait again: python -m (\S+) (.*)", rest)
    assert told and submit.parser().parse_args(told[2].split()).attach == "r1"
    assert not [path for _, path, _, _ in kubeflow.asked if "terminate" in path]


def test_attach_waits_for_a_run_that_another_submitted(kubeflow, tmp_path, capsys):
    kubeflow.logs[pod(33)] = line(capsys, SUMMARY)
    kubeflow.runs["r7"] = [a_run("SUCCEEDED", step("publish", 31, "ok", 152, 160))]
    arguments = ["--host", kubeflow.host, "--runs", str(tmp_path), "--attach", "r7"]
    assert submit.main(arguments) == 0
    assert "published int8" in capsys.readouterr().out
    with pytest.raises(KubeflowError, match="r9 not found"):
        submit.main([*arguments[:-1], "r9"])


def test_cancel_asks_kubeflow(kubeflow, capsys):
    kubeflow.runs["r7"] = [a_run("RUNNING")]
    assert submit.main(["--host", kubeflow.host, "--cancel", "r7"]) == 0
    assert kubeflow.asked[-1][:2] == ("POST", "/apis/v2beta1/runs/r7:terminate")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--corpus", "setup.tsv"], "setup.tsv: lies on this machine, where no pod sees it"),
        (["--publish_to", ""], "nowhere to publish to"),
        (["--publish_to", "runs"], "runs: a folder of a pod is gone with it"),
        (["--release_to", "mini"], "expected RELEASE=namespace/name"),
        (["--every", "noon"], "'noon' is no schedule"),
        (["--set", "training.step=3"], "training.step"),
    ],
)
def test_what_cannot_be_run_is_told_before_anything_is_sent(arguments, told, kubeflow, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "setup.tsv").write_text("Это дом.\tThis is a house.\n", "utf-8")
    with pytest.raises(submit.ConfigError, match=re.escape(told)):
        ask(kubeflow, tmp_path, *arguments)
    assert not kubeflow.asked


def test_a_recurring_run_takes_one_at_a_time_and_catches_nothing_up(kubeflow, tmp_path, capsys):
    assert ask(kubeflow, tmp_path, "--every", "0 2 * * *", "--experiment", "nightly") == 0
    posted = kubeflow.bodies("/apis/v2beta1/recurringruns")[0]
    assert posted["trigger"] == {"cron_schedule": {"cron": "0 0 2 * * *"}}
    assert (posted["max_concurrency"], posted["no_catchup"], posted["mode"]) == ("1", True, "ENABLE")
    assert posted["runtime_config"]["parameters"]["run_id"] == ""  # each run gets a name of its own
    assert kubeflow.bodies("/apis/v2beta1/experiments") == [{"display_name": "nightly"}]
    capsys.readouterr()
    at = ["--host", kubeflow.host]
    assert schedule.main(at) == 0
    assert "q1  tiny  0 0 2 * * *  enabled" in capsys.readouterr().out
    assert schedule.main([*at, "--disable", "q1"]) == 0
    assert "disabled" in capsys.readouterr().out
    assert schedule.main([*at, "--delete", "q1"]) == 0
    assert capsys.readouterr().out == "no recurring runs\n"


@pytest.mark.parametrize("every", ["90m", "1 d", "0 */5 * * * *", "30 4 * * MON-FRI"])
def test_schedules(every):
    starts = schedule.trigger(every)
    cron = starts.get("cron_schedule", {}).get("cron", "0 0 0 0 0 0")
    assert len(cron.split()) == 6
    assert starts in (
        {"periodic_schedule": {"interval_second": "5400"}},
        {"periodic_schedule": {"interval_second": "86400"}},
        {"cron_schedule": {"cron": "0 */5 * * * *"}},
        {"cron_schedule": {"cron": "0 30 4 * * MON-FRI"}},
    )


def test_who_asks(kubeflow, tmp_path, monkeypatch):
    kubeflow.runs["r1"] = [a_run("RUNNING")]
    token = tmp_path / "token"
    token.write_text("first\n")
    client = Kubeflow(kubeflow.host, token_file=str(token))
    client.run("r1")
    token.write_text("second")  # as Kubernetes renews a ServiceAccount's
    client.run("r1")
    monkeypatch.setenv(TOKEN_VARIABLE, "third")
    monkeypatch.setenv(COOKIE_VARIABLE, "authservice_session=abc")
    Kubeflow(kubeflow.host).run("r1")
    seen = [
        (headers.get("Authorization"), headers.get("Cookie"))
        for _, path, _, headers in kubeflow.asked
        if "v2beta1" in path
    ]
    assert seen == [("Bearer first", None), ("Bearer second", None), ("Bearer third", "authservice_session=abc")]


def test_a_pod_is_known_by_its_service_account(kubeflow, tmp_path, monkeypatch):
    (tmp_path / "token").write_text("of the pod")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    kubeflow.runs["r1"] = [a_run("RUNNING")]
    assert Kubeflow().host == "http://ml-pipeline.kubeflow:8888"
    Kubeflow(kubeflow.host).run("r1")
    assert kubeflow.asked[-1][3]["Authorization"] == "Bearer of the pod"


def test_the_token_is_not_handed_to_whoever_we_are_sent_to(kubeflow, tmp_path, monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    with fake_kubeflow() as elsewhere:
        kubeflow.refusal = lambda path: (302, "", {"Location": f"{elsewhere.host}/dex/auth"})
        with pytest.raises(KubeflowError, match="HTTP 302; to be let in, give a token"):
            Kubeflow(kubeflow.host).run("r1")
        assert not elsewhere.asked


def test_a_sign_in_page_is_no_answer(kubeflow):
    kubeflow.refusal = lambda path: (200, "<html><title>Log in to Your Account</title></html>", {})
    with pytest.raises(KubeflowError, match="this is not Kubeflow's API, it answers 'Log in to Your Account'"):
        Kubeflow(kubeflow.host).run("r1")
    kubeflow.refusal = lambda path: (401, json.dumps({"error": "no user in header"}), {})
    with pytest.raises(KubeflowError, match="HTTP 401: no user in header; to be let in") as caught:
        Kubeflow(kubeflow.host).run("r1")
    assert not isinstance(caught.value, Unreachable)  # waiting does not help


def test_addresses(kubeflow):
    with pytest.raises(KubeflowError, match="where is Kubeflow"):
        Kubeflow()
    with pytest.raises(KubeflowError, match="begins with http"):
        Kubeflow("kubeflow.example")
    with pytest.raises(Unreachable, match="does not answer"):
        Kubeflow("http://127.0.0.1:9").run("r1")
    assert Kubeflow("https://kubeflow.example/pipeline/#/runs").host == "https://kubeflow.example/pipeline"


def test_where_kubeflow_has_many_users_the_namespace_is_asked_for(kubeflow, tmp_path):
    kubeflow.multi_user = True
    with pytest.raises(KubeflowError, match="--namespace NAME"):
        ask(kubeflow, tmp_path)
    kubeflow.runs["r1"] = [a_run("FAILED")]
    ask(kubeflow, tmp_path, "--namespace", "team-a")
    assert kubeflow.bodies("/apis/v2beta1/experiments")[-1]["namespace"] == "team-a"


def test_a_second_attempt_takes_the_place_of_the_first():
    nodes = [
        node("train-model-driver", 1, "SUCCEEDED", 10, 11, (2,)),
        node("train-model", 2, "RUNNING", 11, 0, (3,)),
        node("executor", 3, "RUNNING", 11, 0, (4, 5)),
        node("executor(0)", 4, "FAILED", 11, 20),
        node("executor(1)", 5, "RUNNING", 50),
    ]
    (found,) = steps_of(a_run("RUNNING", nodes), {"train-model": "train-model"})
    assert (found.state, found.pod) == ("running", pod(5))
    nodes[1]["state"] = nodes[2]["state"] = nodes[4]["state"] = "SUCCEEDED"
    (found,) = steps_of(a_run("SUCCEEDED", nodes), {"train-model": "train-model"})
    assert (found.state, found.pod) == ("ok", pod(5))


def turn_of_a_loop(number: int, turn: int, state: str, began: float, ended: float) -> list[dict]:
    """What Argo makes of a turn: a group, in it another one with a driver, and in that the step, whose pod is the last.

    In Argo the step that waits for the loop hangs below the last nodes of each of its turns.
    """
    return [
        node(f"iteration-iterations({turn}:{turn})", number, "RUNNING", began, 0, (number + 1,)),
        node("iteration-item-driver", number + 1, "SUCCEEDED", began, began + 1, (number + 2,), within=number),
        node("iteration-item", number + 2, "RUNNING", began + 1, 0, (number + 3,), within=number),
        node("shard-driver", number + 3, "SUCCEEDED", began + 1, began + 2, (number + 4,), within=number + 2),
        node("shard", number + 4, state, began + 2, ended, (number + 5,), within=number + 2),
        node("executor", number + 5, state, began + 2, ended, (91,), within=number + 4),
    ]


def test_each_turn_of_a_loop_is_a_step_of_its_own(kubeflow):
    loop = {"parameterIterator": {"items": {"raw": "[0, 1, 2]"}, "itemInput": "number"}, "taskInfo": {"name": "shards"}}
    inner = {"shard": {"componentRef": {"name": "comp-shard"}, "taskInfo": {"name": "prepare shard"}}}
    tasks = {
        "for-loop-1": {**loop, "componentRef": {"name": "comp-loop"}},
        "merge": {"componentRef": {"name": "comp-merge"}, "dependentTasks": ["for-loop-1"]},
    }
    spec = {"root": {"dag": {"tasks": tasks}}, "components": {"comp-loop": {"dag": {"tasks": inner}}}}
    names = step_names(spec)
    assert [*names.values()] == ["prepare-shard-1", "prepare-shard-2", "prepare-shard-3", "merge"]
    nodes = [
        *turn_of_a_loop(10, 0, "SUCCEEDED", 100, 130),
        *turn_of_a_loop(20, 1, "RUNNING", 105, 0),
        node("merge-driver", 91, "RUNNING", 131),
    ]
    kubeflow.runs["r1"] = [a_run("RUNNING", nodes)]
    first, second, third, merge = steps_of(Kubeflow(kubeflow.host).run("r1"), names)
    assert (first.state, first.pod, first.seconds) == ("ok", pod(15), 29)
    assert (second.state, second.pod) == ("running", pod(25))
    assert (third.state, merge.state) == ("waiting", "running")


def test_a_driver_that_fails_fails_its_step():
    nodes = [node("gate-driver", 1, "FAILED", 10, 12)]
    (found,) = steps_of(a_run("FAILED", nodes), {"gate": "gate"})
    assert (found.state, found.pod, found.seconds) == ("failed", pod(1), 2.0)


def test_the_compiled_pipeline_gives_its_steps_in_order(monkeypatch):
    monkeypatch.setenv("PROMETHEUS_IMAGE", "registry.example/pipeline:abc")
    options = submit.parser().parse_args(["--publish_to", "s3://models/mini", "--set", "training.steps=7"])
    request = read_request("tiny", options.set, [], [])
    spec, arguments = submit.compiled(request, options, NAME)
    assert spec["pipeline_spec"]["root"]["inputDefinitions"]["parameters"].keys() == arguments.keys()
    assert arguments["checkpoint_uri"] == "s3://models/mini/.checkpoints"
    names = list(step_names(spec).values())
    order = ["prepare-data", "train-tokenizer", "train-model", "gate", "publish"]
    assert [name for name in names if name in order] == order
    assert all(re.fullmatch(r"[\w-]+", name) for name in names)


def test_a_run_makes_as_many_pods_as_the_page_says(monkeypatch):
    """One pod decides for the run and for each branch, one looks into the cache for each step, one does its work."""
    monkeypatch.setenv("PROMETHEUS_IMAGE", "registry.example/pipeline:abc")
    options = submit.parser().parse_args(["--publish_to", "s3://models/mini"])
    spec, _ = submit.compiled(read_request("tiny", [], [], []), options, NAME)
    branches = sum("dag" in component for component in spec["pipeline_spec"]["components"].values())
    steps = set(step_names(spec).values()) - {"refuse", "release"}
    assert (len(steps), branches) == (9, 4)
    text = " ".join((ROOT / "docs" / "kubeflow.md").read_text("utf-8").split())
    assert f"makes {2 * len(steps) + 1 + branches} pods: two for each of nine steps" in text


def test_time_left_is_reckoned_from_an_earlier_run():
    before = [watch.Step("a", "ok", 0, 10), watch.Step("b", "ok", 10, 70), watch.Step("c", "ok", 70, 100)]
    now = [watch.Step("a", "ok", 1000, 1020), watch.Step("b", "running", 1020)]
    assert time_left(now, before, now=1050) == 60
    assert time_left(now, before, now=9999) == 0
    assert time_left(now[1:], before, now=1050) is None
    assert watch.share_left("training: step 30/120, validation loss 5.1", 60) == 180
    assert watch.share_left("step by step", 60) is None


def test_time_left_takes_no_run_that_was_cached(kubeflow, tmp_path):
    steps = [step("prepare-data", 1, "ok", 100, 110), step("train-model", 11, "ok", 110, 150)]
    cached = [step("prepare-data", 1, "cached", 100, 101), step("train-model", 11, "ok", 101, 141)]
    other = "20261129T014500Z-small-a1b2"
    kubeflow.runs = {
        "r3": [a_run("SUCCEEDED", *steps, display_name=other)],
        "r2": [a_run("SUCCEEDED", *cached)],
        "r1": [a_run("SUCCEEDED", *steps)],
    }
    names = {"prepare-data": "prepare-data", "train-model": "train-model"}
    from pipelines.outcome import earlier_steps

    client = Kubeflow(kubeflow.host)
    assert [found.ended for found in earlier_steps(client, a_run("RUNNING"), names)] == [110, 150]
    assert earlier_steps(client, a_run("RUNNING", display_name="by hand"), names) == []


def test_a_pod_without_a_word_is_told_once(kubeflow, capsys):
    quiet = a_run("RUNNING", step("train-model", 11, "running", time.time() - 200))
    assert not steps_of(quiet, {"train-model": "train-model"})[0].waits  # its log may come only at its end
    quiet["run_details"]["task_details"][-1].update(state="PENDING", message="Unschedulable: Insufficient cpu")
    kubeflow.runs["r1"] = [quiet, quiet, quiet, a_run("FAILED")]
    Watcher(Kubeflow(kubeflow.host), "r1", {"train-model": "train-model"}).wait()
    said = capsys.readouterr().out
    assert "train-model has waited 3 min" in said and said.count(": Unschedulable: Insufficient cpu; its pod may") == 1


def test_the_summary_line(capsys):
    said = line(capsys, SUMMARY)
    found = find_summary(f"I1129 launcher\n{said}more\n")
    assert found["published"] == SUMMARY["published"] and found["run_id"] == NAME
    assert Summary.model_validate(found).gates == Summary.model_validate(SUMMARY).gates
    assert find_summary(said[: len(said) // 2]) == find_summary("nothing") == {}
    assert words("") == ""


def test_make_hands_everything_on():
    values = {"HOST": "http://h", "PUBLISH": "s3://b/p", "RELEASE": "a/b", "EXPERIMENT": "e", "EVERY": "0 2 * * *"}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "-n", "-o", ".venv/.stamp", "pipeline-submit"]
    for given in ([], [f"{name}={value}" for name, value in values.items()]):
        done = subprocess.run([*command, *given], cwd=ROOT, env=clean, capture_output=True, text=True, check=True)
        shown = done.stdout.replace("\\\n", " ")
        words = subprocess.run(["bash", "-c", f"printf '%s\\0' {shown}"], capture_output=True, check=True).stdout
        options = submit.parser().parse_args(words.decode().split("\0")[3:-1])
        got = [options.host, options.publish_to, options.release_to, options.experiment, options.every]
        assert got == (list(values.values()) if given else ["", "", "", submit.EXPERIMENT, ""])
