"""Two to four runs on one page, for a person who wants to know what a change was worth.

python -m pipelines.compare 20261129T014008Z-demo-1a2b latest
python -m pipelines.compare latest live --out build/compare.html
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation.paired import translated
from evaluation.report.compare import LETTERS, Compared, render_comparison
from evaluation.results import Summary
from model.errors import ProjectError
from model.files import write_text
from model.options import OK, Parser, run
from pipelines.folder import SUMMARY
from pipelines.reuse import STEPS
from pipelines.summary import read_steps


class CompareError(ProjectError):
    """Runs that cannot be compared."""


def read(run_dir: Path) -> Compared:
    """A run's summary, and what it wrote for each row, where its artifacts are still there.

    Raises:
        CompareError: where the folder has no summary.
    """
    if not (run_dir / SUMMARY).is_file():
        there = "has not ended yet, or was killed" if run_dir.is_dir() else "is no run; `make runs` lists them"
        raise CompareError(f"{run_dir}: {there}")
    summary = Summary.read(run_dir)
    steps = {step["name"]: step["outputs"] for step in read_steps(run_dir / STEPS, 0.0)}
    known = summary.shown()
    holdout = steps.get("prepare-data", {}).get("holdout")
    evaluation = steps.get(f"variant-{known.variant}" if known else "", {}).get("evaluation")
    if not (holdout and evaluation):
        return Compared(summary, {})
    return Compared(summary, translated(_here(run_dir, holdout), _here(run_dir, evaluation)))


def _here(run_dir: Path, recorded: str) -> Path:
    """The artifact of a run, whose folder may have been moved since."""
    return run_dir / "artifacts" / recorded.rpartition("/artifacts/")[2]


def parser() -> Parser:
    """The command line."""
    made = Parser(
        "pipelines.compare",
        "Write one page with the settings that differ, curves on top of each other, scores, and samples side by side.",
    )
    made.add_argument("run", nargs="*", help=f"two to {len(LETTERS)} runs: ids, latest, live, or folders")
    made.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (%(default)s)")
    made.add_argument("--out", type=Path, default=Path("build/compare.html"), help="the page (%(default)s)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page, and say where."""
    options = parser().parse_args(argv)
    names = [name for value in options.run for name in ([value] if Path(value).is_dir() else value.split())]
    if not 2 <= len(names) <= len(LETTERS):
        raise CompareError(
            f"two to {len(LETTERS)} runs are compared, not {len(names)}: make compare RUNS='live latest'"
        )
    folders = [Path(name) if (Path(name) / SUMMARY).is_file() else options.runs / name for name in names]
    write_text(options.out, render_comparison([read(folder) for folder in folders]))
    print(options.out)
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
