"""What every committed figure stands beside: the machine, and how busy it was."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

from serving.engine.config import available_cpus


def heading(kind: str) -> dict[str, Any]:
    """What the result of a benchmark begins with."""
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"kind": kind, "date": date, "machine": describe_machine()}


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, system, and the load average of the last minute."""
    return {
        "cpu": _first("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": available_cpus(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def _first(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
