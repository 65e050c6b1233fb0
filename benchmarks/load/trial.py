"""The command line of benchmarks that try a running server with a bundle, and what becomes of the ``problems`` found.

made = trial_parser("soak", __doc__, SoakSettings)
return conclude("soak", result, options.out, soak_table(result))
"""

from pathlib import Path
from typing import Any

from benchmarks.machine import RESULTS, ROOT, heading, keep
from model.options import FAILED, OK, Parser
from model.settings import Settings


def trial_parser(name: str, doc: str, settings: type[Settings]) -> Parser:
    """A parser with ``--bundle``, ``--out`` and the settings."""
    made = Parser(f"benchmarks.load.{name}", doc)
    bundle = ROOT / "runs" / "latest" / "bundle"
    made.add_argument("--bundle", type=Path, default=bundle, help="what is served; `make pipeline-run` makes one")
    made.add_argument("--out", type=Path, default=RESULTS / f"{name}.json", help="where the result is kept")
    made.add_settings(settings)
    return made


def p95(seconds: list[float]) -> float:
    """The 95th percentile, one of the values."""
    return round(sorted(seconds)[int(0.95 * (len(seconds) - 1))], 4)


def conclude(name: str, result: dict[str, Any], out: Path, table: str) -> int:
    """Keep and show what was found; the exit status says whether there are ``problems``."""
    keep({**heading(name), **result}, out, table)
    return FAILED if result["problems"] else OK
