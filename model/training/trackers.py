"""ClearML and MLflow behind one small interface, for the process that :mod:`model.training.tracking` starts.

A tracker's constructor opens a run there, or goes on with a known one; what was reported of it before is not reported
again. Whatever it cannot do raises an error of the library's own. Nothing of a run leaves the machine unless a server
is named: without one ClearML writes its offline session, and MLflow its store, below the folder that they are given.
"""

import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

PROJECT = "prometheus-mini"
CLOCK = ("step", "tokens", "seconds")  # of a point of the curve: where it is; all else are values
WORD = 500  # characters of a parameter, which MLflow's servers hold to some limit
BATCH = 100  # parameters or values in a request; MLflow's servers take no more parameters
MLFLOW_STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED", "killed": "KILLED"}
Point = Mapping[str, float]


class Tracker(Protocol):
    """A run at a tracker: of some nested settings; the ``known`` one of an id, or a new one where that is empty.

    Attributes:
        id: of the run, by which a later process can go on with it.
    """

    id: str

    def __init__(self, home: Path, name: str, settings: Mapping[str, Any], known: str = "") -> None: ...

    def report(self, points: Sequence[Point]) -> None:
        """Points of the curve, in order. Those that were reported before are left out."""

    def end(self, ended: str, figures: Mapping[str, float], files: Sequence[Mapping[str, Any]]) -> None:
        """The run has ``ended``: "finished", "stopped", "failed" or "killed".

        ``figures`` are its last ones, ``files`` what it has made: name, bytes, sha256.
        """


class ClearML:
    """A task of ClearML's; offline, unless its configuration or its variables name a server."""

    def __init__(self, home: Path, name: str, settings: Mapping[str, Any], known: str = "") -> None:
        online = _clearml_has_server()
        if "CLEARML_CACHE_DIR" not in os.environ:
            # ClearML would take `$` and `~` in the folder's name for its own, so it is given none.
            home.mkdir(parents=True, exist_ok=True)
            os.chdir(home)
            os.environ["CLEARML_CACHE_DIR"] = "."
            for earlier in () if online else home.glob("*/offline-*"):
                # Of this run's first part; the curve is reported from its beginning, and the new session has it all.
                shutil.rmtree(earlier) if earlier.is_dir() else earlier.unlink()

        from clearml import Task
        from clearml.config.cache import SessionCache
        from clearml.utilities.check_updates import CheckPackageUpdates

        # Server or not, ClearML tells its maker which versions run here; this flag says that it has.
        CheckPackageUpdates._package_version_checked = True
        SessionCache.SESSION_CACHE_FOLDER = os.environ["CLEARML_CACHE_DIR"]  # else a list of tasks goes to ~/.clearml
        # This process is already the one on the side; ClearML's own fork of it takes 10 s to start and can hang.
        Task._report_subprocess_enabled = False  # type: ignore[assignment]
        if not online:
            Task.set_offline(True)
        if not online or known.startswith("offline-"):
            known = ""  # ClearML goes on with no session that is offline
        self._task: Task = Task.init(
            project_name=PROJECT,
            task_name=name,
            auto_connect_frameworks=False,
            auto_connect_arg_parser=False,
            auto_connect_streams=False,
            auto_resource_monitoring=False,
            reuse_last_task_id=known or False,
            continue_last_task=0 if known else False,  # 0 moves no step, as True would
        )
        self.id, self._online = str(self._task.id), online
        self._reported = self._task.get_last_iteration() if known and self.id == known else -1
        if self.id != known:
            self._task.connect(dict(settings), name="settings")

    def report(self, points: Sequence[Point]) -> None:
        for point in points:
            if point["step"] > self._reported:
                for series, value in _values(point):
                    self._task.get_logger().report_scalar(series, series, value, int(point["step"]))

    def end(self, ended: str, figures: Mapping[str, float], files: Sequence[Mapping[str, Any]]) -> None:
        for name, value in figures.items():
            self._task.get_logger().report_single_value(name, value)
        self._task.connect_configuration([dict(file) for file in files], name="files")
        if self._online and ended != "finished":
            self._task.flush(wait_for_uploads=True)
            if ended == "failed":
                self._task.mark_failed(status_reason="training failed", force=True)
            else:
                self._task.mark_stopped(force=True, status_message=ended)
        self._task.close()


def _clearml_has_server() -> bool:
    known = os.environ.get("CLEARML_API_ACCESS_KEY") or os.environ.get("CLEARML_API_HOST")
    return bool(known) or Path(os.environ.get("CLEARML_CONFIG_FILE", "~/clearml.conf")).expanduser().exists()


class MLflow:
    """A run of MLflow's, where MLFLOW_TRACKING_URI says, else in a store of files."""

    def __init__(self, home: Path, name: str, settings: Mapping[str, Any], known: str = "") -> None:
        # Its own are two minutes for an answer, and seven more attempts: what is lost is sent with the next points.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        # Files are what the light client can write without a server. MLflow wants to be told that it is meant so.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")

        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self._metric = Metric
        self._client = client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or home.as_uri())
        self._reported: dict[str, int] = {}
        self._untold: list[Any] = []  # parameters
        if known:
            try:
                run = client.get_run(known)
                # The last value is of the greatest step, but its step is in the history alone.
                histories = {series: client.get_metric_history(known, series) for series in run.data.metrics}
                self._reported = {series: max(entry.step for entry in found) for series, found in histories.items()}
                client.update_run(known, status="RUNNING")
                self.id = known
                return
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # of another store, or removed there
                    raise
        called = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        experiment = client.get_experiment_by_name(called)
        place = experiment.experiment_id if experiment else client.create_experiment(called)
        self.id = client.create_run(place, run_name=name).info.run_id
        self._untold = [Param(_name(key), str(value)[:WORD]) for key, value in _flat(settings)]

    def report(self, points: Sequence[Point]) -> None:
        while self._untold:  # not by the constructor: a run is opened once, however often it has to be asked for more
            self._client.log_batch(self.id, params=self._untold[:BATCH])
            del self._untold[:BATCH]
        now, metrics = int(time.time() * 1000), []
        for point in points:
            step = int(point["step"])
            new = [(series, value) for series, value in _values(point) if step > self._reported.get(series, -1)]
            metrics += [self._metric(_name(series), value, now, step) for series, value in new]
        for begin in range(0, len(metrics), BATCH):
            sent = metrics[begin : begin + BATCH]
            self._client.log_batch(self.id, metrics=sent)
            self._reported |= {metric.key: metric.step for metric in sent}

    def end(self, ended: str, figures: Mapping[str, float], files: Sequence[Mapping[str, Any]]) -> None:
        now, step = int(time.time() * 1000), int(figures.get("step", 0))
        final = [self._metric(_name(f"final/{key}"), value, now, step) for key, value in figures.items()]
        if final:
            self._client.log_batch(self.id, metrics=final)
        if ended == "finished":
            self._client.log_text(self.id, json.dumps([*files], indent=1), "files.json")
        self._client.set_terminated(self.id, MLFLOW_STATUS[ended])


def _values(point: Point) -> Iterator[tuple[str, float]]:
    """What a point of the curve says, without where it is on it."""
    return ((series, value) for series, value in sorted(point.items()) if series not in CLOCK and math.isfinite(value))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings by their dotted names."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _name(text: str) -> str:
    """A name that MLflow takes: of letters, digits and a few marks."""
    return re.sub(r"[^\w. /:-]", "_", text)


TRACKERS: dict[str, type[Tracker]] = {"clearml": ClearML, "mlflow": MLflow}
