"""The engine thread: who has a row, what runs next, which token was chosen, who is told.

Every step runs drop -> admit (prefill) -> decode -> choose -> tell. Only this thread touches the runtime. Callers reach
it through a bounded queue and through ``cancel``, which both take effect at the beginning of the next step.

Legend: B rows of one run, V vocabulary.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable

import numpy as np

from serving.engine.choice import Chooser
from serving.engine.config import EngineConfig
from serving.engine.observer import Guarded
from serving.engine.request import FinishReason, expired
from serving.engine.rows import Rows
from serving.engine.runtime import Runtime
from serving.engine.sequence import End, Sequence, unfinished
from serving.errors import DeadlineExceeded, EngineFailed, Overloaded, ServingError, ShuttingDown

log = logging.getLogger("serving.engine")
# Prompts in a row that could not be run, after which the engine has to show that it can run any.
SUSPICIOUS = 4


class Scheduler:
    """Continuous batching over one runtime.

    Args:
        bos_id, eos_id: begin and end of a generated text.
        chooser: chooses the tokens.
        text_of: the text of a list of ids, for requests that want it only at their end.
        observer: see :class:`Observer`.

    Attributes:
        open: everyone who has not been told an end, in order of arrival. Only by leaving it is one told.
        rows: who of them is in which row.
        waiting: who of them has no row yet, in order.
        failure: what broke the engine, if anything has.
        counts, seconds, finish_reasons: counters and sums since the start.
    """

    def __init__(
        self,
        config: EngineConfig,
        bos_id: int,
        eos_id: int,
        chooser: Chooser,
        text_of: Callable[[list[int]], str],
        observer: Guarded,
    ) -> None:
        self.config = config
        self.rows = Rows(config.slots)
        self.waiting: deque[Sequence] = deque()
        self.open: dict[Sequence, None] = {}
        self.failure: BaseException | None = None
        self.counts: Counter[str] = Counter()
        self.finish_reasons: Counter[str] = Counter()
        self.seconds = {"prefill_seconds": 0.0, "decode_seconds": 0.0}
        self._bos, self._eos = bos_id, eos_id
        self._chooser, self._text_of, self._observer = chooser, text_of, observer
        self._wake = threading.Condition()
        self._cancelled: deque[Sequence] = deque()
        self._searches: list[Sequence] = []  # running beam searches
        self._prompts: dict[bytes, Sequence] = {}  # whom a request of the same prompt may copy
        self._next_deadline = math.inf
        self._closing = self._abort = False
        self._thread: threading.Thread | None = None
        self._last_step = 0.0
        self._failed_prompts = 0  # in a row

    # -- from any thread ------------------------------------------------------------------------------------------

    def start(self, runtime: Runtime) -> None:
        """Begin to work; what has been queued before is served."""
        self.runtime = self.rows.runtime = runtime
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self._thread.start()

    def close(self, drain: bool, timeout: float | None) -> None:
        """See :meth:`Engine.close`."""
        with self._wake:
            self._closing = True
            self._abort = self._abort or not drain
            self._wake.notify_all()
        if self._thread is None:
            self._end_all(_shut_down)
            return
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._abort = True
            self._thread.join()

    def cancel(self, sequence: Sequence) -> None:
        """End a request at the beginning of the next step; nothing happens when it has ended already."""
        self._cancelled.append(sequence)

    def enqueue(self, sequence: Sequence, bounded: bool = True) -> None:
        """Have a request wait for a row; ``bounded`` refuses it when too many wait already."""
        with self._wake:
            if self.failure is not None:
                raise EngineFailed("the engine has failed and has to be restarted")
            if self._closing:
                raise ShuttingDown("the engine is shutting down and takes no new requests")
            if bounded and len(self.waiting) >= self.config.queue:
                raise Overloaded(f"{len(self.waiting)} requests are waiting already; try again in a moment")
            self.open[sequence] = None
            self.waiting.append(sequence)
            if sequence.deadline is not None:
                self._next_deadline = min(self._next_deadline, sequence.deadline)
            self._wake.notify()

    # -- the engine thread ----------------------------------------------------------------------------------------

    def _loop(self) -> None:
        try:
            while True:
                with self._wake:
                    while not (self.waiting or self.rows or self._closing):
                        self._wake.wait()
                if self._abort or (self._closing and not (self.waiting or self.rows)):
                    break
                self._step()
        except BaseException as error:
            log.exception("the engine failed; every request fails with it")
            self.failure = error
            self._end_all(lambda: EngineFailed("the engine failed; the server's log says why"))
        else:
            self._end_all(_shut_down)

    def _step(self) -> None:
        self._drop()
        admitted = self._admit()
        rows = len(self.rows)
        if not rows:
            return
        taken = self.rows.taken
        streams = taken - admitted - sum(search.width for search in self._searches)
        start = time.perf_counter()
        logits = self.runtime.decode(rows)
        self._advance(logits, 0, rows)
        now = time.perf_counter()
        self.counts["steps"] += 1
        self.seconds["decode_seconds"] += now - start
        self._observer.step(taken, now - start)
        if streams > 0 and self._last_step:
            self._observer.interval(now - self._last_step, streams)
        self._last_step = now if self.rows else 0.0

    def _drop(self) -> None:
        """End cancelled and overdue requests, wherever they are."""
        ends = []
        while self._cancelled:
            ends.append(End(self._cancelled.popleft(), "cancelled"))
        if time.monotonic() >= self._next_deadline:
            with self._wake:
                left = [s for s in self.open if not expired(s.deadline)]
                overdue = self.open.keys() - left
                self._next_deadline = min((s.deadline for s in left if s.deadline is not None), default=math.inf)
            late = "the request's deadline passed before its last token"
            ends += [End(sequence, "error", error=DeadlineExceeded(late)) for sequence in overdue]
        if ends:
            self._end(ends)

    def _admit(self) -> int:
        """Give waiting requests their rows, a bounded number of prompt tokens per step; how many streams came in.

        Strictly in order: a beam search that waits for several free rows is not overtaken, or it might wait for ever.
        """
        streams, budget = 0, self.config.prefill_tokens
        while self.waiting:
            sequence = self.waiting[0]
            if sequence.width > self.rows.free:
                break
            key = sequence.prompt.tobytes()
            donor = self._prompts.get(key) if self.runtime.copies else None
            # One prompt may always come in, or one above the whole budget never would.
            if donor is None and len(sequence.prompt) > budget < self.config.prefill_tokens:
                break
            self.waiting.popleft()
            self.rows.seat(sequence)
            self._chooser.special += not sequence.plain
            if sequence.search is not None:
                self._searches.append(sequence)
            self.counts["prompt_tokens"] += len(sequence.prompt)
            if donor is None:
                budget -= len(sequence.prompt)
            try:
                logits = self._run_prompt(sequence, donor)
            except Exception as error:
                self._fault(sequence, error)
                continue
            self._failed_prompts = 0
            self._prompts.setdefault(key, sequence)
            if logits is None:
                self.runtime.token_ids[sequence.rows] = self._bos
            else:
                self._advance(logits, sequence.rows[0], 1)
            streams += sequence.search is None and bool(sequence.rows)
        return streams

    def _run_prompt(self, sequence: Sequence, donor: Sequence | None) -> np.ndarray | None:
        """Run a request's prompt, or copy it from a request that has run the same; logits [1, V] where it has any."""
        runtime, row = self.runtime, sequence.rows[0]
        sequence.admitted = time.perf_counter()
        logits = None
        if donor is not None:
            self.counts["prompt_copies"] += 1
            runtime.share(donor.rows[0], row, 0 if runtime.seq2seq else len(sequence.prompt))
            logits = donor.opening
        elif runtime.seq2seq:
            runtime.encode(row, sequence.prompt)
        else:
            logits = sequence.opening = runtime.prefill(row, sequence.prompt).copy()
        for beam in sequence.rows[1:]:
            runtime.share(row, beam, 0)
        self.counts["prefills"] += donor is None
        sequence.prefilled = time.perf_counter()
        self.seconds["prefill_seconds"] += sequence.prefilled - sequence.admitted
        return None if logits is None else logits.copy()

    def _fault(self, sequence: Sequence, error: Exception) -> None:
        """End a request whose prompt could not be run. Was it the prompt, or is it the engine?

        Raises:
            Exception: the runtime's, when it cannot run the shortest prompt either.
        """
        self._failed_prompts += 1
        if self._failed_prompts >= SUSPICIOUS:
            self._failed_prompts = 0
            self.runtime.run_shortest(sequence.rows[0])
        sequence.fault = error
        self._end([End(sequence, "error")])

    def _advance(self, logits_BV: np.ndarray, first: int, count: int) -> None:
        """Choose, record and tell the next token of rows ``first`` .. ``first + count - 1``; overwrites the logits."""
        rows = self.rows.places[first : first + count]
        searched = [(search, logits_BV[search.rows]) for search in self._searches]
        tokens = self._chooser.choose(logits_BV, rows)
        self.runtime.token_ids[first : first + count, 0] = tokens
        now = time.perf_counter()
        ends: list[End] = []
        generated = 0
        for sequence, token in zip(rows, tokens.tolist(), strict=True):
            if sequence is None or sequence.search is not None:
                continue
            if sequence.fault is not None:
                ends.append(End(sequence, "error"))
                continue
            if not sequence.first:
                sequence.first = now
            if token == self._eos and not sequence.endless:
                ends.append(End(sequence, "eos_token"))
                continue
            generated += 1
            sequence.tokens.append(token)
            text = ""
            if sequence.detokenizer is not None:
                try:
                    text = sequence.detokenizer.push(token)
                except Exception as error:
                    sequence.fault = error
                    ends.append(End(sequence, "error"))
                    continue
                if sequence.detokenizer.stopped:
                    ends.append(End(sequence, "stop_sequence", text, token))
                    continue
            if len(sequence.tokens) >= sequence.max_tokens:
                ends.append(End(sequence, "length", text, token))
                continue
            if text:
                sequence.texts.append(text)
            if sequence.stream and not sequence.tell(text, token, now):
                self._cancelled.append(sequence)
        for sequence, logits_WV in searched:
            sequence.first = sequence.first or now
            reason = self._search(sequence, logits_WV)
            if reason is not None:
                ends.append(End(sequence, reason))
                generated += len(sequence.tokens)
        self.counts["generated_tokens"] += generated
        if ends:
            self._end(ends)

    def _search(self, sequence: Sequence, logits_WV: np.ndarray) -> FinishReason | None:
        """One step of a beam search; why it ends, when it does."""
        search = sequence.search
        assert search is not None
        try:
            parents, tokens = search.step(logits_WV)
            if search.done:
                return sequence.settle()
            self.rows.follow(sequence, parents)
            self.runtime.token_ids[sequence.rows, 0] = tokens
        except Exception as error:  # as in Chooser: this request's alone
            sequence.fault = error
            return "error"
        return None

    def _end(self, ends: list[End]) -> None:
        """Take requests out, from their rows or from the queue, and tell them; who has been told already, is not.

        Rows first: who hears of an end finds the slot free.
        """
        first: dict[Sequence, End] = {}
        for end in ends:
            if not end.sequence.done:
                first.setdefault(end.sequence, end)
        seated = [sequence for sequence in first if sequence.rows]
        if len(seated) < len(first):
            with self._wake:
                self.waiting = deque(sequence for sequence in self.waiting if sequence not in first)
        for sequence, error in self.rows.vacate(seated):
            sequence.fault = error
            first[sequence] = End(sequence, "error")
            seated.append(sequence)
        for sequence in seated:
            self._chooser.special -= not sequence.plain
            if sequence.search is not None:
                self._searches.remove(sequence)
            key = sequence.prompt.tobytes()
            if self._prompts.get(key) is sequence:
                del self._prompts[key]
            sequence.opening = None
        for end in first.values():
            self._tell(end)

    def _tell(self, end: End) -> None:
        """Tell a request its end, once."""
        sequence, error = end.sequence, end.error
        del self.open[sequence]
        if end.reason == "error" and error is None:
            log.error("a request could not be finished; it ends alone", exc_info=sequence.fault)
            error = unfinished()
        result = sequence.finish(end.reason, self._text_of, last_text=end.text, token=end.token, error=error)
        self.finish_reasons[result.finish_reason] += 1
        if sequence.forced is None:
            self._observer.finished(result)

    def _end_all(self, error: Callable[[], ServingError]) -> None:
        """Tell everyone, whatever state the rest is in."""
        with self._wake:
            self._closing = True
            sequences = list(self.open)
            self.rows.clear()
            self.waiting.clear()
        for sequence in sequences:
            self._tell(End(sequence, "error", error=error()))


def _shut_down() -> ServingError:
    return ShuttingDown("the engine was shut down before the request was finished")
