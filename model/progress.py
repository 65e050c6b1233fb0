"""Progress lines, at most one every few seconds, so that a log stays short and alive."""

import time


class Progress:
    """Counts work, and tells the time left where its ``total`` is known, else ``unit`` per second."""

    def __init__(self, label: str, total: float | None = None, unit: str = "", every: float = 5.0) -> None:
        self.label, self.total, self.unit, self.every = label, total, unit, every
        self.done = 0.0
        self.told = 0
        self.started = self.last = time.perf_counter()

    def advance(self, amount: float, what: str) -> None:
        """Record ``amount`` more work done; ``what`` says where the run is, for a reader of the log."""
        self.done += amount
        whole = self.total is not None and self.done >= self.total
        if self.done > 0 and (whole or time.perf_counter() - self.last >= self.every):
            self.tell(what)

    def skip(self, amount: float) -> None:
        """Leave out work that was done before: it took no time, and tells nothing of the time left."""
        self.total = None if self.total is None else self.total - amount

    def tell(self, what: str) -> None:
        """Print a line now, as for the end of work whose total was not known."""
        self.last = time.perf_counter()
        self.told += 1
        seconds = max(self.last - self.started, 1e-9)
        if self.total is None:
            pace = f"{self.done / seconds:,.0f} {self.unit}/s"
        else:
            share = min(self.done / max(self.total, 1e-9), 1.0)
            pace = f"{share:.0%} done"
            if self.told > 1 or share == 1:  # the first stretch holds the warming up: an estimate by it is wild
                pace += f", about {seconds * (1 - share) / max(share, 1e-9):.0f} s left"
        print(f"{self.label}: {what}, {pace}", flush=True)
