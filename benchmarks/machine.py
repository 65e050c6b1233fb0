"""What every committed figure stands beside (the machine, and how busy it was), and how it is kept and shown."""

import os
import platform
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from model.errors import ProjectError
from model.files import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"


class BenchmarkError(ProjectError):
    """What keeps a benchmark from measuring; the message says why."""


def heading(kind: str) -> dict[str, Any]:
    """What the result of a benchmark begins with."""
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"kind": kind, "date": date, "machine": describe_machine()}


def describe_machine() -> dict[str, Any]:
    """Processor, instructions, cores, memory, system, and the load average of the last minute."""
    from model.sessions import hardware  # by ONNX Runtime, which a machine that trains need not have

    return {
        **hardware(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def keep(result: dict[str, Any], out: Path, table: str) -> None:
    """Write what a benchmark has measured, and show it as a table."""
    write_json(out, result)
    print(table)
    print(f"\n{out}", file=sys.stderr)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, its cells as they are: a committed figure changes its own line only, which aligned columns would not."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])
