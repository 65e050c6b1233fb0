"""How the processor time of a function grows with its input, measured so that a busy machine changes nothing.

assert growth(normalize, lambda size: "a" * size) < LINEAR
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Input = TypeVar("Input")

# Four times the input: 4 times the time where it is linear, 16 where it is quadratic. Caches that no longer suffice
# and a logarithm lie in between.
LINEAR = 8
ENOUGH = 0.001  # seconds below which a measurement is mostly noise


def seconds(call: Callable[[Input], object], value: Input, tries: int = 3) -> float:
    """Least processor time of this thread over a few tries."""
    times = []
    for _ in range(tries):
        start = time.thread_time()
        call(value)
        times.append(time.thread_time() - start)
    return min(times)


def growth(call: Callable[[Input], object], make: Callable[[int], Input], size: int, most: int = 1 << 20) -> float:
    """How many times longer ``call`` takes with four times the input; from ``size`` on, where it takes long enough.

    ``make(size)`` is the input. A call that takes no time even with ``most`` does not grow: 0.
    """
    while (before := seconds(call, make(size))) < ENOUGH:
        if size >= most:
            return 0
        size *= 2
    ratio = seconds(call, make(4 * size)) / before
    # What others do on the processor only ever adds time: the least of more tries has less of it. Where the input no
    # longer fits a cache, or the allocator goes another way, there is a step; past it the growth is the function's.
    for times in (1, 2, 4):
        if ratio < LINEAR:
            break
        ratio = seconds(call, make(4 * times * size), 9) / seconds(call, make(times * size), 9)
    return ratio
