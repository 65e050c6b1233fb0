"""Who is in which row of the caches: seats for requests, and beams that change their rows.

rows.seat(sequence); rows.vacate([sequence])
"""

from __future__ import annotations

import logging

from serving.engine.runtime import Runtime
from serving.engine.sequence import Sequence

log = logging.getLogger("serving.engine")


class Rows:
    """The rows of one runtime.

    Attributes:
        places: who is in which row (a beam search in several), None for a hole; dense on the CPU.
        taken: rows in use.
    """

    def __init__(self, slots: int) -> None:
        self.places: list[Sequence | None] = []
        self.taken = 0
        self._slots = slots
        self.runtime: Runtime  # once there is one

    def __len__(self) -> int:
        """Rows that a run has to cover, holes included."""
        return len(self.places)

    @property
    def free(self) -> int:
        """Rows that nobody has."""
        return self._slots - self.taken

    @property
    def running(self) -> list[Sequence]:
        """The requests that have rows, each once; from any thread."""
        return list({id(sequence): sequence for sequence in list(self.places) if sequence is not None}.values())

    def seat(self, sequence: Sequence) -> None:
        """Give a request its rows; there must be enough."""
        for _ in range(sequence.width):
            if len(self.places) == self.taken:
                row = self.taken
                self.places.append(sequence)
            else:
                row = self.places.index(None)
                self.places[row] = sequence
            self.taken += 1
            sequence.rows.append(row)

    def vacate(self, sequences: list[Sequence]) -> list[tuple[Sequence, Exception]]:
        """Free all rows of requests; where rows are kept dense, the last ones move into the holes.

        Returns:
            Requests that could not be moved: nobody knows in which of two rows their cache is whole, so they have lost
            their rows too.
        """
        lost: list[tuple[Sequence, Exception]] = []
        # From the highest row down, so that the row that fills a hole is never one that is to be freed too.
        rows = sorted((row for sequence in sequences for row in sequence.rows), reverse=True)
        for sequence in sequences:
            sequence.rows = []
        for row in rows:
            last = len(self.places) - 1
            moved = self.places[last]
            if not self.runtime.dense or row == last or moved is None:
                self._empty(row)
                continue
            try:
                self.runtime.move(last, row)
            except Exception as error:
                lost.append((moved, error))
                self._empty(row, *moved.rows)
                moved.rows = []
                continue
            self.taken -= 1
            self.places[row] = moved
            moved.rows[moved.rows.index(last)] = row
            self.places.pop()
            self._trim()
        return lost

    def follow(self, sequence: Sequence, parents: list[int]) -> None:
        """Have beam i of a search go on from beam ``parents[i]`` of the step before.

        A beam that goes on keeps its row with its first continuation; the others take the rows of beams that do not.
        So nothing is copied that need not be, and no row is overwritten before it has been read.
        """
        old, new = sequence.rows, list[int]()
        spare = [row for beam, row in enumerate(old) if beam not in parents]
        kept: set[int] = set()
        for parent in parents:
            if parent in kept:
                new.append(spare.pop())
                self.runtime.fork(old[parent], new[-1])
            else:
                kept.add(parent)
                new.append(old[parent])
        sequence.rows = new

    def clear(self) -> None:
        """Forget everyone; the runtime is not used any more."""
        self.places.clear()
        self.taken = 0

    def _empty(self, *rows: int) -> None:
        """Leave holes."""
        for row in rows:
            self.places[row] = None
            self.taken -= 1
            try:
                self.runtime.clear(row)
            except Exception:  # a row that is not cleared grows with every step, beyond its end at last
                log.exception("row %d could not be cleared; once more", row)
                self.runtime.clear(row)
        self._trim()

    def _trim(self) -> None:
        while self.places and self.places[-1] is None:
            self.places.pop()
