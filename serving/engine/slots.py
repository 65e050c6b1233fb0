"""Which request is in which slot of the cache; beams that change theirs.

slots.allocate(request); slots.deallocate([request])
"""

from __future__ import annotations

import logging

from serving.engine.request import Request
from serving.engine.runtime import Runtime

log = logging.getLogger("serving.engine")


class Slots:
    """The slots of one runtime.

    Attributes:
        requests: the request in each slot (a beam search is in several), up to the last used one. None in a free slot,
            of which there are none among them on the CPU.
        used: slots in use.
        special: the running requests that want more than an argmax.
    """

    def __init__(self, count: int) -> None:
        self.requests: list[Request | None] = []
        self.used = 0
        self.special: list[Request] = []
        self._count = count
        self.runtime: Runtime  # once there is one

    def __len__(self) -> int:
        """Slots that a run has to cover, free ones included."""
        return len(self.requests)

    @property
    def free(self) -> int:
        """Slots that nobody has."""
        return self._count - self.used

    @property
    def streams(self) -> int:
        """Requests that get a token in every step: all but beam searches."""
        return self.used - sum(request.num_slots for request in self.special if request.beam_search is not None)

    @property
    def running(self) -> list[Request]:
        """The requests that have slots, each once; from any thread."""
        return list({id(request): request for request in list(self.requests) if request is not None}.values())

    def allocate(self, request: Request) -> None:
        """Give a request its slots; there must be enough."""
        for _ in range(request.num_slots):
            if len(self.requests) == self.used:
                self.requests.append(None)
            slot = self.requests.index(None)
            self.requests[slot] = request
            request.slots.append(slot)
            self.used += 1
        if request.special:
            self.special.append(request)

    def deallocate(self, requests: list[Request]) -> list[Request]:
        """Free all slots of requests; where slots are kept dense, the last ones move into free ones below them.

        Returns:
            Requests that could not be moved, finished by an error: nobody knows in which of two slots their cache is
            whole, so they have lost their slots too.
        """
        for request in requests:
            self._free(request)
        lost: list[Request] = []
        while self.runtime.dense and self.used < len(self.requests):
            slot, last = self.requests.index(None), len(self.requests) - 1
            moved = self.requests[last]
            assert moved is not None
            try:
                self.runtime.move(last, slot)
            except Exception as error:
                moved.finish("error", error)
                lost.append(moved)
                self._clear(slot)
                self._free(moved)
                continue
            self.requests[slot], self.requests[last] = moved, None
            moved.slots[moved.slots.index(last)] = slot
            self._trim()
        self.special = [request for request in self.special if request.slots]
        return lost

    def reorder(self, request: Request, parents: list[int]) -> None:
        """Have beam i of a search go on from beam ``parents[i]`` of the step before.

        A beam that goes on keeps its slot with its first continuation; the others take the slots of beams that do not.
        So nothing is copied that need not be, and no slot is overwritten before it has been read.
        """
        old, new = request.slots, list[int]()
        spare = [slot for beam, slot in enumerate(old) if beam not in parents]
        kept: set[int] = set()
        for parent in parents:
            if parent in kept:
                new.append(spare.pop())
                self.runtime.fork(old[parent], new[-1])
            else:
                kept.add(parent)
                new.append(old[parent])
        request.slots = new

    def reset(self) -> None:
        """Forget everyone; the runtime is not used any more."""
        self.requests.clear()
        self.special.clear()
        self.used = 0

    def _free(self, request: Request) -> None:
        for slot in request.slots:
            self.requests[slot] = None
            self._clear(slot)
        self.used -= len(request.slots)
        request.slots = []
        self._trim()

    def _clear(self, slot: int) -> None:
        try:
            self.runtime.clear(slot)
        except Exception:  # a slot that is not cleared grows with every step, beyond its end at last
            log.exception("slot %d could not be cleared; once more", slot)
            self.runtime.clear(slot)

    def _trim(self) -> None:
        while self.requests and self.requests[-1] is None:
            self.requests.pop()
