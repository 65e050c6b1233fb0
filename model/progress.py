"""Progress lines with the time left, at most one every few seconds, so that a log stays short and alive."""

from __future__ import annotations

import time


class Progress:
    """Counts work of a known total; ``advance`` prints a line when the last one is old enough."""

    def __init__(self, label: str, total: float, every: float = 5.0) -> None:
        self.label, self.total, self.every = label, max(total, 1e-9), every
        self.done = 0.0
        self.started = self.last = time.perf_counter()

    def advance(self, amount: float, what: str) -> None:
        """Record ``amount`` more work done; ``what`` says where the run is, for a reader of the log."""
        self.done += amount
        now = time.perf_counter()
        share = min(self.done / self.total, 1.0)
        if share <= 0 or (now - self.last < self.every and share < 1.0):
            return
        self.last = now
        left = (now - self.started) * (1 - share) / share
        print(f"{self.label}: {what}, {share:.0%} done, about {left:.0f} s left", flush=True)
