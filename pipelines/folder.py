"""A run's folder: its name, the lock that says whether its runner lives, and the link to the newest run.

The runner holds the lock from the first moment to the last, and the kernel lets it go when the runner dies, however it
does. What the run was asked lies in request.json, what came of it in summary.json, which publishing writes too, and in
report.html, which is written last: a folder that has the first and not the last, and whose lock is free, belongs to a
runner that was killed, or that had no room to write.
"""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO

from model.errors import ProjectError
from pipelines.request import new_run_id

LOCK = "runner.lock"
REQUEST, SUMMARY, REPORT = "request.json", "summary.json", "report.html"
PATIENCE = 30.0  # seconds for a step of a killed runner to end, which holds the lock until it has


class RunningError(ProjectError):
    """A run that somebody else is at work on."""


def new_run(runs: Path, started: datetime, name: str) -> Path:
    """Make the run's folder."""
    run_dir = runs / new_run_id(started, name)
    run_dir.mkdir(parents=True)
    return run_dir


@contextlib.contextmanager
def held(run_dir: Path) -> Iterator[bool]:
    """Hold the run's lock for as long as the body runs; whether it could be had, for some file systems know none.

    Raises:
        RunningError: where another runner, or a step that has outlived its runner, has it.
    """
    path = run_dir / LOCK
    with open(path, "w") as lock:
        try:
            _lock(lock, run_dir)
            had = True
        except OSError:
            path.unlink()
            had = False
        try:
            yield had
        finally:
            path.unlink(missing_ok=True)


def _lock(lock: IO[str], run_dir: Path) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if runner_lives(run_dir) or time.monotonic() > until:
                raise RunningError(f"run {run_dir} is still at work; it can go on when it has ended") from None
        time.sleep(0.1)


def runner_lives(run_dir: Path) -> bool:
    """Whether a runner holds the run's lock; a step of a killed one, which shares it, is no runner."""
    with contextlib.suppress(FileNotFoundError), open(run_dir / LOCK) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def runner_was_killed(run_dir: Path) -> bool:
    """Whether the run's lock is still there, and no runner holds it."""
    return (run_dir / LOCK).exists() and not runner_lives(run_dir)


def forget_lock(run_dir: Path) -> None:
    """Remove the lock of a killed runner, unless a step of it has not ended yet."""
    with contextlib.suppress(OSError), open(run_dir / LOCK) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (run_dir / LOCK).unlink()


def stale(runs: Path) -> list[Path]:
    """The folders of runs that ended without a summary, oldest first."""
    asked = sorted(path.parent for path in runs.glob(f"*/{REQUEST}") if not path.parent.is_symlink())
    return [run_dir for run_dir in asked if not ended(run_dir) and not runner_lives(run_dir)]


def ended(run_dir: Path) -> bool:
    """Whether the run has told what came of it; one that ran elsewhere has no request, and is here since it has."""
    return (run_dir / REPORT).exists() or not (run_dir / REQUEST).exists()


def point_latest(run_dir: Path) -> None:
    """Make the symbolic link ``latest`` beside the run's folder point at it, without a moment in which it is absent."""
    draft = run_dir.parent / f".latest-{run_dir.name}"
    draft.unlink(missing_ok=True)
    draft.symlink_to(run_dir.name)
    draft.replace(run_dir.parent / "latest")
