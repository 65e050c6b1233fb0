"""Answers that wait for their readers, over all connections: how much they may hold together, and who goes first.

An answer is written as it is made, whether or not its client reads: a row of the engine never waits for a reader, and
other clients do not wait for the row. What piles up is bounded here, and by each request's own deadline.
"""

import asyncio
import time
from typing import Protocol

CHECK_SECONDS = 0.05  # between two looks at what waits; the engine makes about a megabyte of answers in this time
REPRIEVE = 1.0  # seconds that everyone may be behind: a large answer is written faster than anybody reads
LAST_WORDS = 2.0  # seconds that the words of an expired deadline have to arrive after it


class Reader(Protocol):
    """A connection whose client is behind."""

    def unread(self) -> int:
        """Bytes that were written and not taken yet."""

    def give_up(self, why: str) -> None:
        """Close at once and drop them."""


class Readers:
    """Who is behind.

    Args:
        limit: bytes that may wait in all; beyond it those with most of them are given up.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._behind: dict[Reader, float] = {}  # since when
        self._check: asyncio.TimerHandle | None = None

    def __contains__(self, reader: Reader) -> bool:
        return reader in self._behind

    def add(self, reader: Reader) -> None:
        """A client has fallen behind; called in the event loop."""
        self._behind.setdefault(reader, time.monotonic())
        if self._check is None:
            self._check = asyncio.get_running_loop().call_later(CHECK_SECONDS, self._look)

    def discard(self, reader: Reader) -> None:
        """It has caught up, or left."""
        self._behind.pop(reader, None)

    def stats(self) -> dict[str, int]:
        """Figures for metrics; from any thread."""
        behind = list(self._behind)
        return {"readers_behind": len(behind), "unread_bytes": sum([reader.unread() for reader in behind])}

    def _look(self) -> None:
        patience = time.monotonic() - REPRIEVE
        sizes = {reader: reader.unread() for reader in self._behind}
        total = sum(sizes.values())
        for reader in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if total > self.limit and self._behind[reader] < patience:
                total -= sizes[reader]
                self.discard(reader)
                reader.give_up(f"more than {self.limit} bytes waited for slow readers, and most of them for this one")
        self._check = asyncio.get_running_loop().call_later(CHECK_SECONDS, self._look) if self._behind else None
