"""The command line of benchmarks that try a running server with a bundle, and what becomes of the ``problems`` found.

parser = trial_parser("soak", __doc__)
arguments = parse(parser)
conclude("soak", result, arguments.out, soak_table(result))
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import RESULTS, ROOT, heading, keep


def trial_parser(name: str, doc: str) -> argparse.ArgumentParser:
    """A parser with ``--bundle`` and ``--out``."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.load.{name}", description=doc.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=ROOT / "runs" / "latest" / "bundle")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{name}.json")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line; exits with status 1 where the bundle is none."""
    arguments = parser.parse_args()
    if not (arguments.bundle / "bundle.json").exists():
        parser.exit(1, f"{arguments.bundle} is no bundle: run `make pipeline-run`, or give --bundle\n")
    return arguments


def p95(seconds: list[float]) -> float:
    """The 95th percentile, one of the values."""
    return round(sorted(seconds)[int(0.95 * (len(seconds) - 1))], 4)


def conclude(name: str, result: dict[str, Any], out: Path, table: str) -> None:
    """Keep and show what was found; exits with status 1 when there are ``problems``."""
    keep({**heading(name), **result}, out, table)
    if result["problems"]:
        sys.exit(1)
