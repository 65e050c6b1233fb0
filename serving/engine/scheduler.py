"""Who runs next: the queue, the slots, and who leaves before the end.

Callers reach it through :meth:`Scheduler.add` and :meth:`Scheduler.cancel`, from any thread; both take effect at the
beginning of the next step. All else is called by the engine thread.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator

from serving.engine.config import EngineConfig
from serving.engine.request import Request
from serving.engine.slots import Slots
from serving.errors import DeadlineExceeded, Overloaded, ServingError


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
        self.slots = Slots(config.slots)
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
        aborted = []
        while self._cancelled:
            request = self._cancelled.popleft()
            request.finish("cancelled")
            aborted.append(request)
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
            if request.num_slots > self.slots.free or too_long:
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
            self.slots.reset()
            return list(self.requests)
