"""The processors at hand: how many this process may use, which instructions they have, and how threads wait for them.

A pod limited to two processors still sees every core of its node, and so does every library that counts them: as many
threads as cores would only be throttled. Here the count is made once, and told to whoever asks the environment.

    python -c "from model.processors import describe; print(describe())"
"""

import math
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

# How OpenMP's threads wait at the end of each loop. Spinning is faster while every core is idle and ruinous as soon as
# one is not; a pod with a CPU limit is a busy machine all the time. GCC's runtime, PyTorch's on Linux, spins 300,000
# rounds by itself; after 1,000, some microseconds, the next loop has begun if it comes at once. On two cores that keeps
# 94 % of the speed on idle ones, where sleeping at once keeps 64 to 79 %, and costs up to a quarter of what sleeping
# gives beside a busy loop, where 300,000 cost half (`python -m benchmarks.threads`).
WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}
# Flags of /proc/cpuinfo that decide which kernels PyTorch and ONNX Runtime take, and how people write them.
INSTRUCTIONS = {
    "avx2": "AVX2", "avx512f": "AVX512", "avx_vnni": "AVX-VNNI", "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16", "amx_int8": "AMX-INT8", "amx_bf16": "AMX-BF16",
    "asimd": "NEON", "asimddp": "DOTPROD", "i8mm": "I8MM", "bf16": "BF16", "sve": "SVE",
}  # fmt: skip


def settle_threads() -> None:
    """Set what libraries read about threads while they load; what is set already stays.

    To be called before the first import of any of them: PyTorch, NumPy's OpenBLAS and PyArrow all take their number of
    threads from OMP_NUM_THREADS, and without it from the cores of the whole machine.
    """
    if not os.environ.keys() & WAITING.keys():
        os.environ.update(WAITING)
    os.environ.setdefault("OMP_NUM_THREADS", str(available_cpus()))


def available_cpus(root: Path = Path("/")) -> int:
    """Processors this process may use: its affinity, cut by the CPU quota of its control groups, rounded up.

    Args:
        root: where /proc and /sys lie.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        count = os.cpu_count() or 1
    return min(count, math.ceil(cpu_quota(root) or count))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The least CPU quota, in processors, of this process's control groups and all above them; None without one."""
    return min((quota for group in control_groups(root, "cpu") for quota in _quota(group)), default=None)


def describe(root: Path = Path("/")) -> dict[str, Any]:
    """What a result depends on: the processor's name, its instructions, and the cores this process may use."""
    lines = _lines(root / "proc/cpuinfo")
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": name or platform.processor() or platform.machine(),
        "instructions": _instructions(lines),
        "cores": available_cpus(root),
    }


def control_groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's control groups that have a controller (``cpu``, ``memory``), and of all above them.

    Both versions of control groups are read, and both at once where a system has both.
    """
    groups: dict[str, str] = {}  # path by controller; version 2 has one hierarchy and names no controller
    for controllers, path in _matches(r"\d+:([^:]*):(.*)", root / "proc/self/cgroup"):
        groups |= dict.fromkeys(controllers.split(","), path)
    mount = r"\S+ \S+ \S+ (\S+) (\S+) .*?- (cgroup2?) \S+ (\S+)"
    for top, point, kind, options in _matches(mount, root / "proc/self/mountinfo"):
        if kind == "cgroup" and controller not in options.split(","):
            continue
        group = PurePosixPath(groups.get(controller if kind == "cgroup" else "", "/"))
        # In a container the group may be named as the host sees it, while only its own part of the tree is mounted.
        known = group.is_relative_to(_unescaped(top)) and ".." not in group.parts
        inside = group.relative_to(_unescaped(top)) if known else PurePosixPath()
        for part in (inside, *inside.parents):
            yield root / _unescaped(point).lstrip("/") / part


def _quota(group: Path) -> Iterator[float]:
    """The quota of one control group, if it has one."""
    read = [*_lines(group / "cpu.max"), *_lines(group / "cpu.cfs_quota_us"), *_lines(group / "cpu.cfs_period_us")]
    numbers = [int(number) for number in " ".join(read).split() if number.lstrip("-").isdigit()]
    if len(numbers) == 2 and min(numbers) > 0:  # "max" and -1 both mean none
        yield numbers[0] / numbers[1]


def _instructions(lines: list[str]) -> list[str]:
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    flags = {flag for flag in found.partition(":")[2].split() if flag in INSTRUCTIONS}
    # An emulator shows its host's /proc/cpuinfo; NumPy has asked the processor itself.
    try:
        from numpy._core._multiarray_umath import __cpu_features__ as features
    except ImportError:  # private: another version may keep it elsewhere
        features = {}
    asked = {name.lower(): has for name, has in features.items()}
    answers = {flag: asked[flag.replace("_", "")] for flag in flags if flag.replace("_", "") in asked}
    own = all(answers.values())
    return [name for flag, name in INSTRUCTIONS.items() if answers.get(flag, own and flag in flags)]


def _unescaped(field: str) -> str:
    """A path of mountinfo, where a blank is written as ``\\040``."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _matches(pattern: str, path: Path) -> list[tuple[str, ...]]:
    """The groups of each line that matches."""
    return [found.groups() for line in _lines(path) if (found := re.match(pattern, line))]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
