"""The memory at hand: what this process holds, has held at most, and may still take.

A pod limited to 6 GiB still sees all the memory of its node; whoever takes more than its limit is killed without a
word. So the limits of control groups count, beside what the machine has free.

    python -c "from model.memory import free_memory; print(free_memory())"
"""

import re
from collections.abc import Iterator
from pathlib import Path

from model.processors import control_groups

UNLIMITED = 1 << 60  # version 1 of control groups writes some number beyond this where there is no limit
# Limit, use, and the pages of files in it that the kernel gives up when memory runs short: version 2, version 1.
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take: what the machine has free, or less by the limits of its control groups.

    None where nothing tells (elsewhere than on Linux). Swap is not counted.

    Args:
        root: where /proc and /sys lie.
    """
    groups = (left for group in control_groups(root, "memory") for left in _left(group))
    machine = (kilobytes * 1024 for kilobytes in _figures(root / "proc/meminfo", "MemAvailable"))
    return min([*machine, *groups], default=None)


def held_memory(root: Path = Path("/")) -> tuple[int, int]:
    """Bytes that this process holds in memory, and the most that it has held; zeros where nothing tells.

    Linux's ru_maxrss survives exec, so it would tell a large parent's peak of a small child: VmHWM does not.
    """
    now, most = (next(_figures(root / "proc/self/status", name), 0) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


def _left(group: Path) -> Iterator[int]:
    """What one control group may still take, if it has a limit."""
    for limit, use, files in _FILES:
        for allowed in _figures(group / limit):
            if allowed < UNLIMITED:
                used = next(_figures(group / use), 0) - next(_figures(group / "memory.stat", files), 0)
                yield max(0, allowed - max(0, used))


def _figures(path: Path, name: str = "") -> Iterator[int]:
    """The whole numbers that stand in a file behind a name at the beginning of a line, or alone in it."""
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        return
    yield from (int(number) for number in re.findall(rf"(?m)^{name}[:\s]*(\d+)(?: kB)?$", text))
