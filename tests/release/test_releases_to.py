"""Releases on a fake cluster (tests/release/cluster.py) with real predictors, and versions in a real S3 API (moto).

What a real cluster does is the business of tests/cluster.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import fsspec
import pytest

from model import store
from model.options import run
from release.__main__ import main
from release.service import BEFORE, RUN
from tests.release.cluster import NAME, NAMESPACE, STORE, FakeCluster, live, now, release


def test_a_version_is_released_and_taken_back(cluster, capsys):
    (first,) = (pod for pod in cluster.services[NAME].pods if not pod.leaving)
    assert release("to", "two", "--json") == 0
    said = capsys.readouterr()
    outcome = json.loads(said.out)
    assert outcome["released"] and outcome["live"] == live(cluster) == f"{STORE}/two/bundle"
    assert "6 golden" not in said.err and "golden requests, each twice the same" in said.err
    assert cluster.services[NAME].annotations[RUN] == "two"
    assert json.loads(cluster.services[NAME].annotations[BEFORE]) == [f"{STORE}/one/bundle"]
    assert first.leaving
    assert release("status", "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert status["well"] and status["run_id"] == "two" and status["since"] and status["by_release"]
    assert [pod["run_id"] for pod in status["pods"] if pod["state"] == "ready"] == ["two"]
    assert release("versions") == 0
    table = capsys.readouterr().out
    assert [line.split()[:2] for line in table.splitlines() if "two" in line] == [["live", "two"]]
    assert release("prune", "--keep", "1", "--json") == 0
    removed = {each["run_id"] for each in json.loads(capsys.readouterr().out)}
    assert removed and not removed & {"one", "two"}, "what is live and what it can go back to stay"
    assert release("back") == 0
    assert live(cluster) == f"{STORE}/one/bundle" and cluster.services[NAME].annotations[RUN] == "one"
    assert json.loads(cluster.services[NAME].annotations.get(BEFORE, "[]")) == []
    capsys.readouterr()
    assert release("back") == 2
    assert "no release went before" in capsys.readouterr().err


def test_a_change_that_no_webhook_has_looked_at_is_sent_again(cluster, monkeypatch, capsys):
    cluster.unseen = 2
    assert release("to", "two") == 0
    assert cluster.unseen == 0 and live(cluster) == f"{STORE}/two/bundle"
    monkeypatch.setattr("release.cluster.PATIENCE", 0.0)
    cluster.unseen = 1
    assert release("back") != 0
    assert "failed calling webhook" in capsys.readouterr().err and live(cluster) == f"{STORE}/two/bundle"


def test_a_damaged_bundle_is_taken_back_with_the_pods_own_words(cluster, capsys):
    """The new pod crash-loops while the InferenceService says Ready and UpToDate, as it does on a real cluster."""
    (first,) = (pod for pod in cluster.services[NAME].pods if not pod.leaving)
    assert release("to", "bad") == 1
    said = capsys.readouterr().out
    assert "container kserve-container: ended" in said
    assert "decoder.onnx: hash mismatch" in said and "going back to s3://models/slm/one/bundle" in said
    assert said.splitlines()[-1] == "s3://models/slm/one/bundle is live, as before"
    assert live(cluster) == f"{STORE}/one/bundle" and set(cluster.services[NAME].annotations) <= {
        "serving.kserve.io/deploymentMode"
    }
    assert first.ready() and not first.leaving, "the old pod was never touched, and none had to be made again"
    assert release("status") == 0
    assert "all is well" in capsys.readouterr().out


def test_what_the_store_does_not_have_is_refused_before_anything_is_touched(cluster, capsys):
    version = cluster.services[NAME].version
    assert release("to", "three") == 2
    assert "three/bundle: nothing is published there" in capsys.readouterr().err
    assert cluster.services[NAME].version == version


def test_an_address_where_nothing_is_for_the_pods(cluster, made, capsys):
    """The store has it, the pods' storage initializer does not find it: other keys, another endpoint."""
    store.publish(made, STORE, "elsewhere", {}, {"run_id": "elsewhere"})
    assert release("to", "elsewhere") == 1
    said = capsys.readouterr().out
    assert "container storage-initializer: ended 4 times" in said and "No model found in" in said
    assert live(cluster) == f"{STORE}/one/bundle"


def test_a_bundle_that_says_another_run(cluster, capsys):
    assert release("to", "liar") == 1
    assert "says that it serves run two, not liar" in capsys.readouterr().out
    assert live(cluster) == f"{STORE}/one/bundle"


@pytest.fixture
def summary() -> Iterator[str]:
    """Where the summary of version two's evaluation lies."""
    files, path = fsspec.filesystem("s3"), f"{STORE}/two/summary.json"
    yield path
    files.rm(path)


def test_golden_answers_are_those_of_the_evaluation(cluster, predictors, mirror, summary, capsys):
    """Version two is asked for what its summary holds; half may be about other things, more may not."""
    server, right = predictors.of(mirror / "two" / "bundle"), []
    most = json.loads(server.ask("GET", "/info")[1])["limits"]["max_new_tokens"]
    for source in ("abc cab", "abc bed", "abc fig", "abc hid"):
        status, answer = server.ask("POST", "/generate", golden_body(source, most))
        assert status == 200
        right.append({"source": source, "direction": "en-ru", "output": json.loads(answer)["text"]})
    wrong = [{**each, "output": "вовсе не то"} for each in right]
    for samples, status, words in (
        (wrong[:3] + right[3:], 1, "like those of its evaluation, 50% is too little; 'abc cab'"),
        (wrong[:2] + right[2:], 0, "4 golden requests, each twice the same, 2 of 4 word for word as evaluated"),
    ):
        text = json.dumps({"variants": [{"variant": "fp32", "samples": samples}]})
        fsspec.filesystem("s3").pipe(summary, text.encode())
        assert release("to", "two") == status
        assert words in capsys.readouterr().out
        assert live(cluster) == f"{STORE}/{'one' if status else 'two'}/bundle"


def golden_body(text: str, limit: int) -> bytes:
    return json.dumps({"prompt": text, "max_tokens": limit, "temperature": 0, "beams": 1, "target": "ru"}).encode()


def test_pods_that_never_come(cluster, capsys):
    cluster.pods_allowed = False
    assert release("to", "two", "--timeout", "0.2") == 1
    said = capsys.readouterr().out
    assert "no pod has been made for it yet" in said and "exceeded quota" in said
    assert live(cluster) == f"{STORE}/one/bundle"


def test_of_two_at_once_one_is_told(cluster, capsys):
    def interfere(method: str, isvc) -> None:
        if method == "PATCH" and live(cluster) == f"{STORE}/one/bundle":
            isvc.spec["predictor"]["model"]["storageUri"] = f"{STORE}/bad/bundle"
            isvc.version += 1

    cluster.on_call = interfere
    assert release("to", "two") == 2
    assert "somebody else is changing prometheus-mini/prometheus-mini" in capsys.readouterr().err
    assert live(cluster) == f"{STORE}/bad/bundle"


def test_a_controller_that_writes_the_status_is_nobody_else(cluster):
    """KServe does, at every turn of a pod that crashes; it changes the version, and neither address nor marks."""
    written = []

    def write_status(method: str, isvc) -> None:
        if method == "PATCH" and len(written) < 3:
            written.append(isvc.version)
            isvc.version += 1

    cluster.on_call = write_status
    assert release("to", "two") == 0
    assert len(written) == 3 and live(cluster) == f"{STORE}/two/bundle"


def test_who_is_overtaken_leaves_the_other_alone(cluster, capsys):
    def overtake(method: str, isvc) -> None:
        if method == "GET" and live(cluster) == f"{STORE}/two/bundle":
            isvc.spec["predictor"]["model"]["storageUri"] = f"{STORE}/bad/bundle"

    cluster.on_call = overtake
    assert release("to", "two") == 1
    assert "somebody else has pointed prometheus-mini/prometheus-mini at s3://models/slm/bad/bundle" in (
        capsys.readouterr().out
    )
    assert live(cluster) == f"{STORE}/bad/bundle"
    assert release("status") == 1
    assert "WARNING  the address was changed by something else than a release" in capsys.readouterr().out
    # What really serves is still the first; from there the next release starts, and there it would go back to.
    assert release("to", "one") == 0
    assert "from s3://models/slm/one/bundle to s3://models/slm/one/bundle" in capsys.readouterr().out
    assert json.loads(cluster.services[NAME].annotations.get(BEFORE, "[]")) == []


def test_what_is_live_already(cluster, capsys):
    version = cluster.services[NAME].version
    assert release("to", "one") == 0
    assert "it was live already" in capsys.readouterr().out and cluster.services[NAME].version == version


def test_a_second_release_waits_for_the_first(cluster, capsys):
    """One that is under way, or whose process was killed: told, and done all the same where somebody insists."""
    service = cluster.services[NAME]
    with cluster.lock:
        service.spec["predictor"]["model"]["storageUri"] = f"{STORE}/nowhere/bundle"
        service.annotations |= {RUN: "nowhere"}
        service.managed = [{"manager": "prometheus-mini-release", "time": now()}]
    assert release("to", "two") == 2
    assert "a release to s3://models/slm/nowhere/bundle began at" in capsys.readouterr().err
    assert release("to", "one", "--force") == 0
    assert "from s3://models/slm/one/bundle to s3://models/slm/one/bundle" in capsys.readouterr().out


def test_a_predictor_that_demands_a_token(cluster, mirror, predictors, tmp_path, monkeypatch, capsys):
    """The API server hands no token on: the run is read from the open metrics, and golden requests are left out."""
    (tmp_path / "token").write_text("secret")
    closed = FakeCluster(tmp_path, {STORE: mirror}, predictors, "--token_file", str(tmp_path / "token"))
    monkeypatch.setenv("KUBECONFIG", str(closed.kubeconfig))
    try:
        closed.create("")  # it has never been given anything
        assert release("to", "two", "--store", STORE) == 0
        said = capsys.readouterr().out
        assert "from nothing that serves to" in said and "no golden requests: the predictor demands a token" in said
        assert release("status", "--json") == 0
        (pod,) = [each for each in json.loads(capsys.readouterr().out)["pods"] if each["state"] == "ready"]
        assert pod["run_id"] == "two" and len(pod["sha256"]) == 64
    finally:
        closed.close()


@pytest.mark.parametrize(
    ("part", "words"),
    [("inferenceservices", "cannot get it"), ("/proxy/", "is forbidden"), ("deployments", "forbidden")],
)
def test_what_the_role_does_not_allow(cluster, part, words, capsys):
    cluster.forbidden = [part]
    assert release("to", "two") in (1, 2)
    said = capsys.readouterr()
    assert words in said.out + said.err
    cluster.forbidden = []
    assert live(cluster) == f"{STORE}/one/bundle"


def test_no_service_and_no_cluster(cluster, predictors, monkeypatch, tmp_path, capsys):
    assert run(lambda: main(["status", f"--service={NAMESPACE}/other"])) == 2
    assert "there is no InferenceService other in namespace prometheus-mini" in capsys.readouterr().err
    gone = FakeCluster(tmp_path, {}, predictors)
    gone.close()
    monkeypatch.setenv("KUBECONFIG", str(gone.kubeconfig))
    assert release("status") == 2
    assert "does not answer" in capsys.readouterr().err
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    assert release("status") == 2
    assert "no cluster is known here" in capsys.readouterr().err
