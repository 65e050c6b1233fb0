"""A run's report from its summary: the HTML page, or the table that ``make pipeline-run`` ends with.

python -m evaluation.report runs/latest/summary.json > report.html
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation.report.page import render_report
from evaluation.results import Summary
from evaluation.table import result_table
from model.options import OK, Parser, run


def parser() -> Parser:
    """The command line."""
    made = Parser("evaluation.report", "Print a run's report.")
    made.add_argument("summary", type=Path, help="a run's summary.json")
    made.add_argument("--table", action="store_true", help="as a table for the terminal instead of an HTML page")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Print the page or the table."""
    options = parser().parse_args(argv)
    summary = Summary.read(options.summary)
    print(result_table(summary) if options.table else render_report(summary))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
