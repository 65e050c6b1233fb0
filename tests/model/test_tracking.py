"""Trackers record a run, go on with it, and can neither stop nor slow it: ClearML, MLflow, and MLflow's server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.errors import Terminated
from model.training import tracking
from model.training.loop import Trainer, train
from model.training.tracking import TrackingError, chosen, finish, known, tracked
from tests.helpers.servers import free_ports, wait_until
from tests.helpers.traces import LOOK_UP, may_trace, tracer
from tests.helpers.training import CONFIG, NETWORK, break_off, curve

OWN = Path(__file__).resolve().parents[2] / ".venv-mlflow" / "bin" / "mlflow"
SETTINGS = {"network": {"d_model": 32}, "training": {"steps": 24, "domain_weights": {"a, b": 0.5}}}


@pytest.fixture(autouse=True)
def by_mlflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """MLflow alone, in the run's folder, and no ClearML server."""
    for name in [*os.environ]:
        if name.startswith(("MLFLOW_TRACKING", "MLFLOW_EXPERIMENT", "CLEARML_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PROMETHEUS_TRACKING", "mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setattr(tracking, "WAIT_SECONDS", 600.0)  # on a busy machine a tracker takes its time
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(tmp_path / "none.conf"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's own server, in a process and an environment of its own, with a database."""
    if not OWN.exists():
        pytest.skip("no .venv-mlflow (`make .venv-mlflow/.stamp`): MLflow's server was NOT tested")
    folder, port = tmp_path_factory.mktemp("server"), free_ports(1)[0]
    command = [str(OWN), "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    command += [f"--backend-store-uri=sqlite:///{folder}/store.db", f"--artifacts-destination={folder}/artifacts"]
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }  # six more processes that do nothing here
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True)
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text("utf-8")
        try:
            return httpx.get(f"{address}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(answers, "MLflow's server", 600)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def runs(place: str, called: str = "prometheus-mini") -> list[Any]:
    """The runs at a place, the newest first, as MLflow's client finds them."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=place)
    experiment = client.get_experiment_by_name(called)
    return client.search_runs([experiment.experiment_id]) if experiment else []


def history(place: str, run: Any, series: str) -> list[tuple[int, float]]:
    """What a run has of a series: steps and values."""
    from mlflow.tracking import MlflowClient

    found = MlflowClient(tracking_uri=place).get_metric_history(run.info.run_id, series)
    return [(entry.step, round(entry.value, 6)) for entry in found]


def own(out: Path) -> str:
    """Where a run without a server writes."""
    return (out / "tracking" / "mlflow").as_uri()


def assert_whole(place: str, run: Any, out: Path) -> None:
    """The tracker has every point of the run's curve, once, and its figures and files."""
    for series in ("loss", "lr", "valid_loss"):
        points = [(int(p["step"]), round(p[series], 6)) for p in curve(out) if series in p]
        assert sorted(history(place, run, series)) == points, series
    report = json.loads((out / "training.json").read_text("utf-8"))
    assert run.info.status == "FINISHED"
    assert run.data.params["network.d_model"] == "32" and run.data.params["training.steps"] == "24"
    assert run.data.metrics["final/step"] == 24
    assert run.data.metrics["final/best_loss"] == pytest.approx(report["valid_loss"])


def files(place: str, run: Any, folder: Path) -> list[dict[str, Any]]:
    from mlflow.artifacts import download_artifacts

    folder.mkdir()
    path = download_artifacts(
        run_id=run.info.run_id, artifact_path="files.json", dst_path=str(folder), tracking_uri=place
    )
    return json.loads(Path(path).read_text("utf-8"))


def test_a_run_is_recorded_in_its_folder_without_a_server(parallel: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "a run's (python3) $HOME::x [v2] %20"
    info = train(parallel[0], *parallel, out, NETWORK, CONFIG)
    (run,) = runs(own(out))
    assert_whole(own(out), run, out)
    made = {file["name"]: file for file in files(own(out), run, tmp_path / "got")}
    assert made["model.safetensors"]["sha256"] == info["sha256"]["weights"] and "curves.jsonl" in made
    assert known(out) == {}  # it is finished: the next one here is another


def test_a_server_is_told_the_same_and_a_resumed_run_goes_on_there(
    parallel: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    """Broken off after a checkpoint, which is all that another machine gets: one run there, and each point once."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "gone on")
    update = Trainer.update

    def patient(self: Trainer, *given: Any) -> float:
        wait_until(lambda: bool(known(self.out)), "a run at the server", 600)
        return update(self, *given)

    monkeypatch.setattr(Trainer, "update", patient)
    break_off(parallel, tmp_path / "first", monkeypatch, 13)
    (begun,) = runs(server, "gone on")
    assert begun.info.status == "FAILED" and len(history(server, begun, "loss")) == 12
    shutil.copytree(tmp_path / "first" / "last", tmp_path / "second" / "last")
    train(parallel[0], *parallel, tmp_path / "second", NETWORK, CONFIG)
    (run,) = runs(server, "gone on")
    assert run.info.run_id == begun.info.run_id
    assert_whole(server, run, tmp_path / "second")
    assert {file["name"] for file in files(server, run, tmp_path / "got")} == {"model.safetensors", "curves.jsonl"}


def test_a_resumed_run_goes_on_in_its_folder(
    parallel: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    break_off(parallel, out, monkeypatch, 20)
    (begun,) = runs(own(out))
    assert known(out) == {"mlflow": begun.info.run_id}
    train(parallel[0], *parallel, out, NETWORK, CONFIG)
    (run,) = runs(own(out))
    assert_whole(own(out), run, out)
    train(parallel[0], *parallel, out, NETWORK, CONFIG)
    assert len(runs(own(out))) == 2  # once finished, it is another


def test_a_server_that_takes_connections_and_never_answers_changes_nothing(
    parallel: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "WAIT_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked = threading.Event()

        def take() -> None:
            held = []
            while True:
                try:
                    held.append(silent.accept())
                except OSError:
                    return
                asked.set()

        threading.Thread(target=take, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:s3cret@127.0.0.1:{silent.getsockname()[1]}")
        with tracked("silent", SETTINGS, tmp_path):
            assert asked.wait(600)
            begun = time.monotonic()
            info = train(parallel[0], *parallel, tmp_path / "out", NETWORK, CONFIG)
            training = time.monotonic() - begun
    assert info["steps"] == 24 and training < 3 * info["seconds"] + 60
    said = capfd.readouterr().err
    assert said.count("the tracker mlflow did not finish within 3 s and was stopped; the run is complete without") == 2
    assert "s3cret" not in said


def test_a_server_that_is_not_there_is_told_of_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:s3cret@127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with tracked("absent", SETTINGS, tmp_path):
        pass
    said = capfd.readouterr().err
    assert "the tracker mlflow failed (MlflowException: API request to http://127.0.0.1" in said
    assert "the run is complete without it" in said
    for left in (said, (tmp_path / "tracking" / "mlflow.log").read_text("utf-8")):
        assert "s3cret" not in left


def test_a_run_that_was_asked_to_end_is_told_so_and_stays_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(Terminated), tracked("ends", SETTINGS, tmp_path):
        raise Terminated("asked")
    (run,) = runs(own(tmp_path))
    assert run.info.status == "KILLED" and known(tmp_path) == {"mlflow": run.info.run_id}
    assert run.data.params["training.domain_weights.a_ b"] == "0.5"


def test_another_run_in_the_folder_is_another_run(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), tracked("one", SETTINGS, tmp_path):
        raise RuntimeError
    with tracked("two", {**SETTINGS, "seed": 1}, tmp_path):
        pass
    assert [run.info.run_name for run in runs(own(tmp_path))] == ["two"]


def test_clearml_offline_records_a_curve_that_grows_and_a_resumed_run_is_one_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_TRACKING", "clearml")
    points = [{"step": step, "tokens": 8 * step, "seconds": 0.1, "loss": 2.0 + step} for step in (1, 2)]
    lines = [json.dumps(point) + "\n" for point in points]
    with pytest.raises(RuntimeError), tracked("test", SETTINGS, tmp_path):
        (tmp_path / tracking.CURVE).write_text(lines[0])
        raise RuntimeError("broken off")
    with tracked("test", SETTINGS, tmp_path) as figures:
        (tmp_path / tracking.CURVE).write_text("".join(lines))
        figures["best_loss"] = 3.25
    (session,) = (tmp_path / "tracking" / "clearml").rglob("*.zip")
    with zipfile.ZipFile(session) as archive:
        metrics = archive.read("metrics.jsonl")
    assert b"3.0" in metrics and b"4.0" in metrics and b"3.25" in metrics


def test_a_tracker_that_dies_or_hangs_fails_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes = {"dead": "raise SystemExit('no reason')", "stuck": "import time; time.sleep(600)"}
    (tmp_path / "tracking").mkdir()
    processes = {}
    for name, code in codes.items():
        with (tmp_path / "tracking" / f"{name}.log").open("wb") as log:
            processes[name] = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=log)
    processes["dead"].wait()
    begun = time.monotonic()
    finish(processes, tmp_path, {"ended": "finished", "figures": {}}, seconds=0.2)
    assert time.monotonic() - begun < 60 and processes["stuck"].returncode
    said = capsys.readouterr().err
    assert "the tracker dead failed (no reason); the run is complete without it" in said
    assert "the tracker stuck did not finish within 0.2 s and was stopped" in said


@pytest.mark.parametrize(
    ("said", "place", "names"),
    [
        (None, None, ("clearml",)),
        ("on", "http://h:1", ("clearml", "mlflow")),
        ("off", "http://h:1", ()),
        ("MLflow, clearml", None, ("mlflow", "clearml")),
        ("clearml", "sqlite:///x.db", ("clearml",)),
    ],
)
def test_trackers_are_chosen_by_name(
    monkeypatch: pytest.MonkeyPatch, said: str | None, place: str | None, names: tuple[str, ...]
) -> None:
    for name, value in (("PROMETHEUS_TRACKING", said), ("MLFLOW_TRACKING_URI", place)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert chosen() == names


@pytest.mark.parametrize(
    ("said", "place", "told"),
    [
        ("clearml,mlflwo", "", "no tracker is called 'mlflwo'; known: clearml, mlflow, or off for none"),
        ("mlflow", "sqlite:///x.db", r"not to sqlite://: `mlflow server --backend-store-uri sqlite://\.\.\.`"),
    ],
)
def test_what_cannot_be_tracked_is_refused_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, place: str, told: str
) -> None:
    monkeypatch.setenv("PROMETHEUS_TRACKING", said)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    with pytest.raises(TrackingError, match=told):
        train(tmp_path, tmp_path, tmp_path, tmp_path / "out", NETWORK, CONFIG)
    assert not (tmp_path / "out").exists()


def test_mlflow_tells_its_maker_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside one that is told to, which gives the installation an id in the home; its look-up may come too late."""
    if not may_trace(tmp_path):
        pytest.skip("no strace, or it may not trace: MLflow's look-ups were NOT checked")
    for name in ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "PYTEST_CURRENT_TEST", "PYTEST_VERSION"):
        monkeypatch.delenv(name, raising=False)
    traces = {}
    for kind, said in (("silent", "1"), ("telling", "0")):
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", said)
        home = tmp_path / f"{kind}-home"
        home.mkdir()
        monkeypatch.setenv("HOME", str(home))
        with monkeypatch.context() as traced:
            traced.setattr(sys, "executable", str(tracer(tmp_path / f"{kind}.trace")))
            with tracked(kind, SETTINGS, tmp_path / kind):
                pass
        assert len(runs(own(tmp_path / kind))) == 1
        traces[kind] = (tmp_path / f"{kind}.trace").read_text("utf-8", "replace")
    assert not LOOK_UP.search(traces["silent"]) and list((tmp_path / "silent-home").rglob("*")) == []
    assert "socket(AF_INET" in traces["silent"], "the trace shows nothing"
    assert [path.name for path in (tmp_path / "telling-home").rglob("*.json")] == ["telemetry.json"]
