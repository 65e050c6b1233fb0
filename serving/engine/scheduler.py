"""Who runs next, in which slots of the cache, and who leaves before the end.

Callers reach it through :meth:`Scheduler.add` and :meth:`Scheduler.cancel`, from any thread; both take effect at the
beginning of the next step. All else is called by the engine thread.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterator

from serving.engine.config import EngineConfig
from serving.engine.request import Request
from serving.engine.runtime import Runtime
from serving.errors import DeadlineExceeded, Overloaded, ServingError

log = logging.getLogger("serving.engine")


class Scheduler:
    """First come, first served.

    Attributes:
        changed: held while anything here changes that another thread may change too; notified of what there is to do.
        requests: all that have not been finalized, in order of arrival. Only by leaving it is one finalized.
        waiting: who of them has no slot yet, in order.
        slots: who of them is in which slot.
        closed: what new requests are refused with; None while they are taken.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.changed = threading.Condition()
        self.requests: dict[Request, None] = {}
        self.waiting: deque[Request] = deque()
        self.slots = Slots()
        self.closed: ServingError | None = None
        self._config = config
        self._cancelled: deque[Request] = deque()
        self._next_deadline = math.inf
        self._prompts: dict[bytes, Request] = {}  # running requests whose prompt others may copy

    @property
    def busy(self) -> bool:
        """Whether anyone waits or runs."""
        return bool(self.waiting or self.slots)

    def add(self, request: Request, bounded: bool = True) -> None:
        """Have a request wait for its slots; ``bounded`` refuses it when too many wait already.

        Raises:
            Overloaded, ShuttingDown, EngineFailed
        """
        with self.changed:
            if self.closed is not None:
                raise self.closed.with_traceback(None)
            if bounded and len(self.waiting) >= self._config.queue:
                raise Overloaded(f"{len(self.waiting)} requests are waiting already; try again in a moment")
            self.requests[request] = None
            self.waiting.append(request)
            if request.deadline is not None:
                self._next_deadline = min(self._next_deadline, request.deadline)
            self.changed.notify()

    def cancel(self, request: Request) -> None:
        """End a request at the beginning of the next step; nothing happens when it has ended already."""
        self._cancelled.append(request)

    def aborted(self) -> list[Request]:
        """Cancelled and overdue requests, wherever they are, with their reason to finish."""
        aborted = [self._cancelled.popleft() for _ in range(len(self._cancelled))]
        for request in aborted:
            request.finish("cancelled")
        if (now := time.monotonic()) >= self._next_deadline:
            with self.changed:
                deadlines = {r: r.deadline for r in self.requests if r.deadline is not None}
                self._next_deadline = min((at for at in deadlines.values() if at > now), default=math.inf)
            for request, at in deadlines.items():
                if at <= now:
                    request.finish("error", DeadlineExceeded("the request's deadline passed before its last token"))
                    aborted.append(request)
        return aborted

    def schedule(self, copies: bool) -> Iterator[tuple[Request, Request | None]]:
        """Give waiting requests their slots, a bounded number of prompt tokens per step.

        Strictly in order: a beam search that waits for several free slots is not overtaken, or it might wait for ever.

        Args:
            copies: whether a prompt's cache can be copied.

        Yields:
            A request, and the running one whose prompt it may copy; the caller runs or copies the prompt before it
            asks for the next.
        """
        budget = self._config.prefill_tokens
        while self.waiting:
            request = self.waiting[0]
            key, size = request.prompt_ids.tobytes(), len(request.prompt_ids)
            donor = self._prompts.get(key) if copies else None
            # One prompt may always come in, or one above the whole budget never would.
            too_long = donor is None and size > budget < self._config.prefill_tokens
            if self.slots.used + request.num_slots > self._config.slots or too_long:
                return
            self.waiting.popleft()
            self.slots.allocate(request)
            if donor is None:
                budget -= size
            yield request, donor
            if request.slots:
                self._prompts.setdefault(key, request)

    def remove(self, finished: list[Request]) -> list[Request]:
        """Take finished requests out of their slots, or of the queue.

        Returns:
            Those that are still to be finalized, and with them those that could not be moved into the free slots.
        """
        finished = [request for request in dict.fromkeys(finished) if request in self.requests]
        running = [request for request in finished if request.slots]
        if len(running) < len(finished):
            with self.changed:
                self.waiting = deque(request for request in self.waiting if request.finish_reason is None)
        removed = finished + self.slots.deallocate(running)
        for request in removed:
            key = request.prompt_ids.tobytes()
            if self._prompts.get(key) is request:
                del self._prompts[key]
            request.prompt_logits = None
        return removed

    def forget_all(self) -> list[Request]:
        """Empty queue and slots, whatever state the rest is in; who is still to be finalized."""
        with self.changed:
            self.waiting.clear()
            self.slots = Slots()  # the runtime is not used any more
            return list(self.requests)


class Slots:
    """The slots of one runtime.

    Attributes:
        requests: the request in each slot (a beam search is in several), up to the last used one. None in a free slot,
            of which there are none among them on the CPU.
        used: slots in use.
        special: the running requests that want more than an argmax.
    """

    def __init__(self) -> None:
        self.requests: list[Request | None] = []
        self.used = 0
        self.special: list[Request] = []
        self.runtime: Runtime  # once there is one

    def __len__(self) -> int:
        """Slots that a run has to cover, free ones included."""
        return len(self.requests)

    @property
    def streams(self) -> int:
        """Requests that get a token in every step: all but beam searches."""
        return self.used - sum(request.num_slots for request in self.special if request.beam_search is not None)

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
