"""What every committed figure stands beside: the machine, and how busy it was."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

from model.sessions import hardware


def heading(kind: str) -> dict[str, Any]:
    """What the result of a benchmark begins with."""
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"kind": kind, "date": date, "machine": describe_machine()}


def processor(machine: dict[str, Any]) -> str:
    """The processor in a caption: its name, what it computes int8 with, and its cores."""
    vectors = [name for name in machine.get("instructions", []) if "VNNI" in name or "INT8" in name]
    if "instructions" in machine and not vectors:
        vectors = machine["instructions"][:2]
    return f"{' '.join([machine['cpu'], *vectors])}, {machine['cores']} cores"


def describe_machine() -> dict[str, Any]:
    """Processor, instructions, cores, memory, system, and the load average of the last minute."""
    return {
        **hardware(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }
