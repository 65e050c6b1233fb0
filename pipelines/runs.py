"""The runs of a folder, the newest first: how each ended, how good it is, how long it took.

python -m pipelines.runs               # a table
python -m pipelines.runs --json        # for machines
"""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation.figures import MISSING, aligned, decimal, duration
from evaluation.results import Evaluation, ResultError, Summary
from model.options import OK, Parser, run
from model.store import live
from pipelines.folder import REQUEST, SUMMARY, ended, runner_lives

Json = dict[str, Any]
RUNNING, KILLED, UNREADABLE = "running", "killed", "unreadable"  # besides the words of evaluation/outcome.py
FIGURES = ("profile", "started", "variant", "chrf", "loss", "seconds")


def listed(runs: Path) -> list[Json]:
    """What is known of each run, the newest first; a figure that it has not reached is None."""
    now = datetime.now(UTC)
    latest, served = (runs / "latest").resolve().name, live(str(runs))
    folders = {path.parent for name in (REQUEST, SUMMARY) for path in runs.glob(f"*/{name}")}
    return [
        {**_row(folder, now), "live": folder.name == served, "latest": folder.name == latest}
        for folder in sorted(folders, key=lambda each: each.name, reverse=True)
        if not folder.is_symlink()
    ]


def _row(folder: Path, now: datetime) -> Json:
    try:
        over = ended(folder)
        found = Summary.read(folder / (SUMMARY if over else REQUEST))
    except ResultError:
        return {"run_id": folder.name, "status": UNREADABLE, **dict.fromkeys(FIGURES)}
    status, seconds = found.status, found.seconds
    if not over:
        at_work = runner_lives(folder)
        status = RUNNING if at_work else KILLED
        begun = [found.started, *found.resumed][-1]
        seconds = (seconds or 0) + (now - datetime.fromisoformat(begun)).total_seconds() if at_work else None
    variant = found.shown() or Evaluation()
    figures = (found.profile, found.started, variant.variant, variant.mean_chrf, variant.loss, seconds)
    return {"run_id": folder.name, "status": status, **dict(zip(FIGURES, figures, strict=True))}


def runs_text(found: Sequence[Json]) -> str:
    """The same as a table."""
    head = ["", "run", "profile", "status", "variant", "chrF", "loss", "time"]
    rows = [
        [
            " ".join(mark for mark in ("live", "latest") if each[mark]),
            each["run_id"],
            each["profile"] or MISSING,
            each["status"],
            each["variant"] or MISSING,
            decimal(each["chrf"]),
            decimal(each["loss"], 3),
            duration(each["seconds"]),
        ]
        for each in found
    ]
    return aligned(head, rows, left=5)


def parser() -> Parser:
    """The command line."""
    made = Parser(
        "pipelines.runs",
        "List the runs, the newest first; chrF is the mean over test sets and directions, loss is in nats per token.",
        "A run goes on by `make pipeline-run RESUME=RUN` unless it is running or has published.",
    )
    made.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (%(default)s)")
    made.add_argument("--json", action="store_true", help="the list for machines")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Print the list."""
    options = parser().parse_args(argv)
    found = listed(options.runs)
    if options.json:
        print(json.dumps(found))
    else:
        print(runs_text(found) if found else f"there is no run in {options.runs}: make pipeline-run makes one")
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
