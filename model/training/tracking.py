"""ClearML tracking that can neither hang nor fail a run.

A process of its own reads the curve that training writes to its folder, as it grows, and reports it; training waits for
it at the end alone, for a bounded time. With a server or credentials ClearML reports there, otherwise it writes its
offline session to the folder, to be sent later with ``Task.import_offline_session``.

    python -m model.training.tracking CHECKPOINT --name demo    # until its standard input ends
"""

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

from model.files import write_json
from model.options import OK, Parser, run

CURVE = "curves.jsonl"
SETTINGS = "clearml/settings.json"
LOOK_SECONDS = 1.0


@contextlib.contextmanager
def tracked(name: str, settings: dict[str, Any], folder: Path) -> Iterator[None]:
    """Have ClearML follow the curve in ``folder`` until the block ends; ``PROMETHEUS_TRACKING=off`` turns it off."""
    if os.environ.get("PROMETHEUS_TRACKING", "on").lower() in ("off", "0", "false"):
        yield
        return
    write_json(folder / SETTINGS, settings)
    command = [sys.executable, "-m", "model.training.tracking", str(folder.resolve()), f"--name={name}"]
    root = Path(__file__).parents[2]
    try:
        process = subprocess.Popen(command, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, cwd=root)
    except OSError as error:
        print(f"tracking is off: {error}", file=sys.stderr)
        yield
        return
    try:
        yield
    finally:
        finish(process)


def finish(process: subprocess.Popen[bytes], seconds: float = 20.0) -> None:
    """Let the tracker report what is left for a bounded time, then leave it behind."""
    try:
        process.communicate(timeout=seconds)  # its standard input ends
        trouble = "failed" if process.returncode else ""
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        trouble = "did not finish in time and was stopped"
    if trouble:
        print(f"the ClearML tracker {trouble}; the run is complete without it", file=sys.stderr)


def has_server() -> bool:
    """Whether ClearML credentials or a configuration file are at hand."""
    known = os.environ.get("CLEARML_API_ACCESS_KEY") or os.environ.get("CLEARML_API_HOST")
    return bool(known) or Path(os.environ.get("CLEARML_CONFIG_FILE", "~/clearml.conf")).expanduser().exists()


def parser() -> Parser:
    """What to report, and under which name."""
    made = Parser("model.training.tracking", __doc__)
    made.add_argument("checkpoint", type=Path, help="folder that training writes; ClearML's files go into it too")
    made.add_argument("--name", required=True, help="name of the ClearML task")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Report the curve as it grows, until standard input ends."""
    options = parser().parse_args(argv)
    folder = options.checkpoint.resolve()
    if "CLEARML_CACHE_DIR" not in os.environ:
        # ClearML would take `$` and `~` in the folder's name for its own, so it is given none.
        (folder / SETTINGS).parent.mkdir(parents=True, exist_ok=True)
        os.chdir((folder / SETTINGS).parent)
        os.environ["CLEARML_CACHE_DIR"] = "."

    from clearml import Task
    from clearml.config.cache import SessionCache
    from clearml.utilities.check_updates import CheckPackageUpdates

    # Whether or not there is a server, ClearML tells its maker which versions run here; this flag says that it has.
    CheckPackageUpdates._package_version_checked = True
    SessionCache.SESSION_CACHE_FOLDER = os.environ["CLEARML_CACHE_DIR"]  # else a list of tasks goes to ~/.clearml
    # This process is already the one on the side; ClearML's own fork of it takes 10 s to start and can hang.
    Task._report_subprocess_enabled = False  # type: ignore[assignment]
    if not has_server():
        Task.set_offline(True)
    task: Task = Task.init(
        project_name="prometheus-mini",
        task_name=options.name,
        auto_connect_frameworks=False,
        auto_connect_arg_parser=False,
        auto_connect_streams=False,
        auto_resource_monitoring=False,
        reuse_last_task_id=False,
    )
    if (folder / SETTINGS).exists():
        task.connect(json.loads((folder / SETTINGS).read_text("utf-8")), name="settings")
    for point in _points(folder / CURVE):
        for series in point.keys() - {"step", "tokens", "seconds"}:
            task.get_logger().report_scalar(series, series, point[series], point["step"])
    task.close()
    return OK


def _points(curve: Path) -> Iterator[dict[str, Any]]:
    """The points of a curve that grows, until standard input ends."""
    known, ended = 0, False
    while not ended:
        ended = bool(select.select([sys.stdin], [], [], LOOK_SECONDS)[0])
        lines = curve.read_text("utf-8").splitlines() if curve.exists() else []
        yield from map(json.loads, lines[known:])
        known = max(known, len(lines))


if __name__ == "__main__":
    sys.exit(run(main))
