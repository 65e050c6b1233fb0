"""Who is in which row of the caches: seats for requests, and beams that change their rows.

rows.seat(sequence); rows.vacate([sequence])
"""

from __future__ import annotations

from serving.engine.runtime import Runtime
from serving.engine.sequence import Sequence


class Rows:
    """The rows of one runtime.

    Attributes:
        places: who is in which row (a beam search in several); dense on the CPU, None for a hole elsewhere.
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

    def vacate(self, sequences: list[Sequence]) -> None:
        """Free all rows of requests; where rows are kept dense, the last ones move into the holes."""
        # From the highest row down, so that the row that fills a hole is never one that is to be freed too.
        for row in sorted((row for sequence in sequences for row in sequence.rows), reverse=True):
            self.taken -= 1
            last = len(self.places) - 1
            if self.runtime.dense and row != last:
                moved = self.places[last]
                assert moved is not None
                self.runtime.move(last, row)
                self.places[row] = moved
                moved.rows[moved.rows.index(last)] = row
                self.places.pop()
            else:
                self.runtime.clear(row)
                self.places[row] = None
                while self.places and self.places[-1] is None:
                    self.places.pop()
        for sequence in sequences:
            sequence.rows = []

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
