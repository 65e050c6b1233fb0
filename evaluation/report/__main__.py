"""A run's report from its summary: the HTML page, or the table that ``make pipeline-run`` ends with.

python -m evaluation.report runs/latest/summary.json > report.html
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation.report.page import render_report
from evaluation.report.table import result_table
from evaluation.results import Summary


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    options = argparse.ArgumentParser(prog="python -m evaluation.report", description="Print the report of a run.")
    options.add_argument("summary", type=Path, help="a run's summary.json")
    options.add_argument("--table", action="store_true", help="as a table for the terminal instead of an HTML page")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Print the page or the table."""
    options = parser().parse_args(argv)
    summary = Summary.read(options.summary)
    print(result_table(summary) if options.table else render_report(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
