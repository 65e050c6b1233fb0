"""ClearML tracking that can neither hang nor fail a run.

The tracker is a child process fed with JSON lines through a pipe that never blocks: when ClearML stalls, points are
dropped and training goes on; when it dies, the run says so once. With a server or credentials it reports there,
otherwise it writes ClearML's offline session, to be sent later with
``Task.import_offline_session``.

    echo '{"series": "loss", "step": 1, "value": 2.0}' | python -m model.training.tracking --name demo
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.options import OK, Parser, run


class Tracker:
    """The training side of the pipe to a tracker's process; without a process nothing is recorded.

    Attributes:
        dropped: messages that the tracker did not keep up with.
    """

    def __init__(self, process: subprocess.Popen[bytes] | None) -> None:
        self.dropped = 0
        self._process = process
        if process is not None and process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)

    def log(self, step: int, **values: float) -> None:
        """Record one point of each named series."""
        for series, value in values.items():
            self.send({"series": series, "step": step, "value": value})

    def send(self, message: dict[str, Any]) -> None:
        """Write one message, or drop it when the tracker does not keep up."""
        if self._process is None or self._process.stdin is None:
            return
        try:
            # Lines are far shorter than PIPE_BUF, so a write is whole or not at all.
            os.write(self._process.stdin.fileno(), json.dumps(message).encode() + b"\n")
        except BlockingIOError:
            self.dropped += 1
        except OSError:
            _warn("the ClearML tracker has ended; the run goes on without it")
            self._process = None

    def close(self, seconds: float = 20.0) -> None:
        """Let the tracker flush for a bounded time, then leave it behind."""
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            _warn("the ClearML tracker did not finish in time and was stopped; the run is complete")
        if self.dropped:
            _warn(f"{self.dropped} tracking points were dropped because ClearML did not keep up")


def start_tracker(name: str, settings: dict[str, Any], folder: Path) -> Tracker:
    """A tracker that keeps an offline session in ``folder/clearml``; ``PROMETHEUS_TRACKING=off`` turns it off."""
    if os.environ.get("PROMETHEUS_TRACKING", "on").lower() in ("off", "0", "false"):
        return Tracker(None)
    options = [f"--name={name}", f"--folder={(folder / 'clearml').resolve()}"]
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "model.training.tracking", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
        )
    except OSError as error:
        _warn(f"tracking is off: {error}")
        return Tracker(None)
    tracker = Tracker(process)
    tracker.send({"settings": settings})
    return tracker


def _warn(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def has_server() -> bool:
    """Whether ClearML credentials or a configuration file are at hand."""
    if os.environ.get("CLEARML_API_ACCESS_KEY") or os.environ.get("CLEARML_API_HOST"):
        return True
    return Path(os.environ.get("CLEARML_CONFIG_FILE", "~/clearml.conf")).expanduser().exists()


def parser() -> Parser:
    """What to call the task."""
    made = Parser("model.training.tracking", __doc__)
    made.add_argument("--name", required=True, help="name of the ClearML task")
    made.add_argument("--folder", type=Path, help="for ClearML's files, where CLEARML_CACHE_DIR is not set")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Report every line of standard input until it ends."""
    arguments = parser().parse_args(argv)
    if arguments.folder and "CLEARML_CACHE_DIR" not in os.environ:
        # ClearML would take `$` and `~` in the folder's name for its own, so it is given none.
        arguments.folder.mkdir(parents=True, exist_ok=True)
        os.chdir(arguments.folder)
        os.environ["CLEARML_CACHE_DIR"] = "."

    from clearml import Task
    from clearml.config.cache import SessionCache
    from clearml.utilities.check_updates import CheckPackageUpdates

    # Whether or not there is a server, ClearML tells its maker which versions run here; this flag says that it has.
    CheckPackageUpdates._package_version_checked = True
    if folder := os.environ.get("CLEARML_CACHE_DIR"):
        SessionCache.SESSION_CACHE_FOLDER = folder  # else a list of tasks goes to ~/.clearml
    # This process is already the one on the side; ClearML's own fork of it takes 10 s to start and can hang.
    Task._report_subprocess_enabled = False  # type: ignore[assignment]
    if not has_server():
        Task.set_offline(True)
    task: Task = Task.init(
        project_name="prometheus-mini",
        task_name=arguments.name,
        auto_connect_frameworks=False,
        auto_connect_arg_parser=False,
        auto_connect_streams=False,
        auto_resource_monitoring=False,
        reuse_last_task_id=False,
    )
    logger = task.get_logger()
    for line in sys.stdin:
        message = json.loads(line)
        if "settings" in message:
            task.connect(message["settings"], name="settings")
        else:
            series = message["series"]
            logger.report_scalar(series.split(".")[0], series, message["value"], message["step"])
    task.close()
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
