"""Trackers that can neither hang nor fail a run, nor make it slower.

Each one is a process of its own that reads the curve which training writes to its folder, as it grows, and reports it;
training waits for them at the end alone, for a bounded time. A server that does not answer is tried again with all that
it has not heard of. What a tracker needs lies in the folder, too:

    tracking/settings.json      what the run was asked; with others, it is another run
             clearml.id.json    of the run that is not finished, by which a resumed training goes on with it
             clearml.log        what the library said
             clearml/, mlflow/  what it writes where no server is named

    python -m model.training.tracking mlflow CHECKPOINT --name demo    # until its standard input ends
"""

import contextlib
import importlib.util
import json
import math
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import PIPE
from typing import Any

from model.errors import ProjectError, Terminated, reason
from model.files import sha256_file, write_json
from model.options import FAILED, OK, Parser, run
from model.training.checkpoint import WEIGHTS
from model.training.trackers import TRACKERS, Tracker

CURVE = "curves.jsonl"
FOLDER = "tracking"
SETTINGS = f"{FOLDER}/settings.json"
CHOICE, PLACE = "PROMETHEUS_TRACKING", "MLFLOW_TRACKING_URI"
LOOK_SECONDS = 1.0
AGAIN_SECONDS = 30.0  # after which a server that did not take something is tried again
WAIT_SECONDS = 20.0  # that training waits for all its trackers together
_SCHEMES = ("file", "http", "https", "databricks")  # of places that MLflow's light client can write to
_SECRET = re.compile(r"(?<=://)[^/@\s'\"]*@")


class TrackingError(ProjectError, ValueError):
    """A tracker was asked for that there is not, or at a place where it cannot write."""


def chosen() -> tuple[str, ...]:
    """The trackers that ``PROMETHEUS_TRACKING`` names, separated by commas; ``off`` is none.

    Where it says nothing, or ``on``, it is ClearML, and MLflow where ``MLFLOW_TRACKING_URI`` says where.

    Raises:
        TrackingError: where one is unknown, or MLflow cannot write to its place.
    """
    said = os.environ.get(CHOICE, "").lower()
    place = os.environ.get(PLACE, "")
    if said in ("off", "0", "false"):
        return ()
    automatic = said in ("", "on", "1", "true")
    names = ("clearml", *(["mlflow"] if place else [])) if automatic else tuple(re.split(r"[\s,]+", said.strip(", ")))
    if unknown := [name for name in names if name not in TRACKERS]:
        known = ", ".join(TRACKERS)
        raise TrackingError(f"{CHOICE}: no tracker is called {unknown[0]!r}; known: {known}, or off for none")
    scheme = place.partition(":")[0] if "://" in place else "file"
    if "mlflow" in names and scheme not in _SCHEMES and not importlib.util.find_spec("sqlalchemy"):
        raise TrackingError(
            f"{PLACE}: MLflow's light client writes to a folder or to a server, http://host:port, not to {scheme}://: "
            f"`mlflow server --backend-store-uri {scheme}://...` is a server for that"
        )
    return tuple(dict.fromkeys(names))


@contextlib.contextmanager
def tracked(
    name: str, settings: Mapping[str, Any], folder: Path, ids: Mapping[str, str] | None = None
) -> Iterator[dict[str, float]]:
    """Have the chosen trackers follow the curve in ``folder`` until the block ends; it fills in its last figures.

    What was begun at a tracker goes on there: in this folder with the same settings, and not finished; or, where the
    folder knows nothing of it, by one of ``ids``, which :func:`known` told on another machine.

    Raises:
        TrackingError: as :func:`chosen`.
    """
    names, figures = chosen(), dict[str, float]()
    if not names:
        yield figures
        return
    if _read(folder / SETTINGS) not in ({}, settings):
        shutil.rmtree(folder / FOLDER)
    write_json(folder / SETTINGS, settings)
    for tracker, begun in ({**(ids or {}), **known(folder)}).items():
        write_json(_place(folder, tracker), {"id": begun})
    processes = {tracker: process for tracker in names if (process := _start(tracker, name, folder))}
    ended = "failed"
    try:
        yield figures
        ended = "finished"
    except (KeyboardInterrupt, Terminated):
        ended = "stopped"
        raise
    finally:
        finish(processes, folder, {"ended": ended, "figures": figures}, WAIT_SECONDS)


def _start(tracker: str, name: str, folder: Path) -> subprocess.Popen[bytes] | None:
    command = [sys.executable, "-m", "model.training.tracking", tracker, str(folder.resolve()), f"--name={name}"]
    environment = dict(os.environ)
    if (place := environment.get(PLACE)) and "://" not in place and not place.startswith("databricks"):
        environment[PLACE] = Path(place).absolute().as_uri()
    root = Path(__file__).parents[2]
    try:
        with (folder / FOLDER / f"{tracker}.log").open("wb") as log:
            return subprocess.Popen(command, stdin=PIPE, stdout=log, stderr=log, cwd=root, env=environment)
    except OSError as error:
        print(f"tracking by {tracker} is off: {error}", file=sys.stderr)
        return None


def finish(
    processes: Mapping[str, subprocess.Popen[bytes]], folder: Path, told: Mapping[str, Any], seconds: float
) -> None:
    """Tell the trackers how the run has ended, and let them report what is left, for a bounded time."""
    for process in processes.values():
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended already
            process.stdin.write(json.dumps(told).encode())
        with contextlib.suppress(OSError):
            process.stdin.close()
    until = time.monotonic() + seconds
    for tracker, process in processes.items():
        try:
            process.wait(max(0.0, until - time.monotonic()))
            trouble = f"failed ({_last_line(folder / FOLDER / f'{tracker}.log')})" if process.returncode else ""
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            trouble = f"did not finish within {seconds:g} s and was stopped"
        if trouble:
            print(f"the tracker {tracker} {trouble}; the run is complete without it", file=sys.stderr, flush=True)
        if told.get("ended") == "finished":
            _place(folder, tracker).unlink(missing_ok=True)


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it gave no reason")


def known(folder: Path) -> dict[str, str]:
    """The ids of a run that goes on, by tracker: what a checkpoint keeps for another machine."""
    found = {tracker: _read(_place(folder, tracker)).get("id", "") for tracker in TRACKERS}
    return {tracker: run_id for tracker, run_id in found.items() if run_id}


def _place(folder: Path, tracker: str) -> Path:
    return folder / FOLDER / f"{tracker}.id.json"


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def follow(tracker: str, folder: Path, name: str) -> str:
    """Report the curve in ``folder`` as it grows, until standard input ends; what was wrong at last, or nothing."""
    settings, place = _read(folder / SETTINGS), _place(folder, tracker)
    opened: Tracker | None = None
    told, sent, trouble, later = None, 0, "", 0.0
    while told is None:
        told = _ended(LOOK_SECONDS)
        if told is None and time.monotonic() < later:
            continue
        points = [json.loads(line) for line in _lines(folder / CURVE)]
        try:
            if opened is None:
                opened = TRACKERS[tracker](folder / FOLDER / tracker, name, settings, _read(place).get("id", ""))
                write_json(place, {"id": opened.id})
            opened.report(points[sent:])
            sent, trouble = max(sent, len(points)), ""
            if told is not None:
                figures = {key: value for key, value in told["figures"].items() if math.isfinite(value)}
                opened.end(told["ended"], figures, _made(folder))
        except Exception as error:  # whatever a library or a server has thought of
            trouble, later = _SECRET.sub("", reason(error)), time.monotonic() + AGAIN_SECONDS
            print(trouble, file=sys.stderr, flush=True)
    return trouble


def _ended(seconds: float) -> dict[str, Any] | None:
    """What standard input says at its end, if it comes within a time; without a word, training was killed."""
    if not select.select([sys.stdin], [], [], seconds)[0]:
        return None
    word = sys.stdin.read()
    return json.loads(word) if word else {"ended": "killed", "figures": {}}


def _lines(curve: Path) -> list[str]:
    return curve.read_text("utf-8").splitlines() if curve.exists() else []


def _made(folder: Path) -> list[dict[str, Any]]:
    """What training leaves for others, as far as it is there."""
    files = [path for path in (folder / WEIGHTS, folder / CURVE) if path.exists()]
    return [{"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in files]


def parser() -> Parser:
    """What to report, where to, and under which name."""
    made = Parser("model.training.tracking", __doc__)
    made.add_argument("tracker", choices=sorted(TRACKERS), help="whom to tell")
    made.add_argument("checkpoint", type=Path, help="folder that training writes; the tracker's files go into it too")
    made.add_argument("--name", required=True, help="name of the run at the tracker")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Follow a training until it ends."""
    options = parser().parse_args(argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C asks training, which tells of its end when it has saved
    return FAILED if follow(options.tracker, options.checkpoint.resolve(), options.name) else OK


if __name__ == "__main__":
    sys.exit(run(main))
