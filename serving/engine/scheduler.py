"""The engine thread: who has a row, what runs next, which token was chosen, who is told.

Every step runs drop -> admit (prefill) -> decode -> choose -> tell. Only this thread touches the runtime. Callers reach
it through a bounded queue and through ``cancel``, which both take effect at the beginning of the next step.

Legend: B rows of one run, V vocabulary.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from serving.engine.config import EngineConfig
from serving.engine.request import FinishReason, GenerationResult, expired
from serving.engine.runtime import Runtime
from serving.engine.sequence import Sequence
from serving.errors import DeadlineExceeded, EngineFailed, Overloaded, ServingError, ShuttingDown

log = logging.getLogger("serving.engine")


class Observer(Protocol):
    """What a metrics collector may implement; called in the engine thread, so it has to be cheap."""

    def step(self, rows: int, seconds: float) -> None:
        """One decode run of ``rows`` rows."""

    def interval(self, seconds: float, count: int) -> None:
        """``count`` rows got a token ``seconds`` after their previous one."""

    def finished(self, result: GenerationResult) -> None:
        """A generation ended, in whatever way."""

    def rejected(self, error: ServingError) -> None:
        """A request was refused at the border (called in the caller's thread)."""


class Scheduler:
    """Continuous batching over one runtime.

    Args:
        bos_id, eos_id: begin and end of a generated text.
        forbidden: spans of ids that are never generated.
        text_of: the text of a list of ids, for requests that want it only at their end.
        observer: see :class:`Observer`.

    Attributes:
        rows: who is in which row; dense on the CPU, None for a hole elsewhere.
        waiting: who has no row yet, in order.
        failure: what broke the engine, if anything has.
        counts, seconds, finish_reasons: counters and sums since the start.
    """

    def __init__(
        self,
        config: EngineConfig,
        bos_id: int,
        eos_id: int,
        forbidden: list[slice],
        text_of: Callable[[list[int]], str],
        observer: Observer | None,
    ) -> None:
        self.config = config
        self.rows: list[Sequence | None] = []
        self.waiting: deque[Sequence] = deque()
        self.failure: BaseException | None = None
        self.counts: Counter[str] = Counter()
        self.finish_reasons: Counter[str] = Counter()
        self.seconds = {"prefill_seconds": 0.0, "decode_seconds": 0.0}
        self._bos, self._eos = bos_id, eos_id
        self._forbidden, self._text_of, self._observer = forbidden, text_of, observer
        self._wake = threading.Condition()
        self._cancelled: deque[Sequence] = deque()
        self._special = 0  # rows that sample or are scored: without any, a step is one argmax
        self._next_deadline = math.inf
        self._closing = self._abort = False
        self._thread: threading.Thread | None = None
        self._last_step = 0.0

    # -- from any thread ------------------------------------------------------------------------------------------

    def start(self, runtime: Runtime) -> None:
        """Begin to work; what has been queued before is served."""
        self.runtime = runtime
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
        taken = rows - self.rows.count(None)
        start = time.perf_counter()
        logits = self.runtime.decode(rows)
        self._advance(logits, 0, rows)
        now = time.perf_counter()
        self.counts["steps"] += 1
        self.seconds["decode_seconds"] += now - start
        if self._observer is not None:
            self._observer.step(taken, now - start)
            if taken > admitted and self._last_step:
                self._observer.interval(now - self._last_step, taken - admitted)
        self._last_step = now if self.rows else 0.0

    def _drop(self) -> None:
        """End cancelled and overdue requests, wherever they are."""
        while self._cancelled:
            sequence = self._cancelled.popleft()
            if not sequence.done:
                self._leave(sequence)
                self._finish(sequence, "cancelled")
        if time.monotonic() < self._next_deadline:
            return
        with self._wake:
            live = [*self.waiting, *(s for s in self.rows if s is not None)]
            overdue = [s for s in live if expired(s.deadline)]
            self._next_deadline = min(
                (s.deadline for s in live if s.deadline is not None and s not in overdue), default=math.inf
            )
        for sequence in overdue:
            self._leave(sequence)
            self._finish(
                sequence, "error", error=DeadlineExceeded("the request's deadline passed before its last token")
            )

    def _leave(self, sequence: Sequence) -> None:
        if sequence.row >= 0:
            self._free(sequence.row)
        else:
            with self._wake, contextlib.suppress(ValueError):
                self.waiting.remove(sequence)

    def _admit(self) -> int:
        """Give waiting requests a row each, a bounded number per step; how many came in."""
        admitted = 0
        while admitted < self.config.prefills_per_step and self.waiting:
            row = self.rows.index(None) if None in self.rows else len(self.rows)
            if row == self.config.slots:
                break
            with self._wake:
                sequence = self.waiting.popleft()
                if row == len(self.rows):
                    self.rows.append(sequence)
                else:
                    self.rows[row] = sequence
            sequence.row = row
            sequence.admitted = time.perf_counter()
            self._special += sequence.sampler is not None or sequence.forced is not None
            self.counts["prefills"] += 1
            self.counts["prompt_tokens"] += len(sequence.prompt)
            admitted += 1
            if self.runtime.seq2seq:
                self.runtime.encode(row, sequence.prompt)
                self.runtime.token_ids[row] = self._bos
            else:
                logits = self.runtime.prefill(row, sequence.prompt)
            sequence.prefilled = time.perf_counter()
            self.seconds["prefill_seconds"] += sequence.prefilled - sequence.admitted
            if not self.runtime.seq2seq:
                self._advance(logits, row, 1)
        return admitted

    def _advance(self, logits_BV: np.ndarray, first: int, count: int) -> None:
        """Choose, record and tell the next token of rows ``first`` .. ``first + count - 1``."""
        rows = self.rows[first : first + count]
        tokens = self._choose(logits_BV, rows)
        self.runtime.token_ids[first : first + count, 0] = tokens
        now = time.perf_counter()
        ended: list[tuple[Sequence, FinishReason, str, int | None]] = []
        for sequence, token in zip(rows, tokens.tolist(), strict=True):
            if sequence is None:
                count -= 1
                continue
            if not sequence.first:
                sequence.first = now
            if token == self._eos and sequence.forced is None:
                count -= 1
                ended.append((sequence, "eos_token", "", None))
                continue
            sequence.tokens.append(token)
            text = ""
            if sequence.detokenizer is not None:
                text = sequence.detokenizer.push(token)
                if sequence.detokenizer.stopped:
                    ended.append((sequence, "stop_sequence", text, token))
                    continue
            if len(sequence.tokens) >= sequence.max_tokens:
                ended.append((sequence, "length", text, token))
                continue
            if text:
                sequence.texts.append(text)
            if sequence.stream and not sequence.tell(text, token, now):
                self._cancelled.append(sequence)
        self.counts["generated_tokens"] += count
        # From the highest row down, so that the row that fills a hole is never one that ends here too.
        for sequence, reason, text, last in reversed(ended):
            self._free(sequence.row)
            self._finish(sequence, reason, last_text=text, token=last)

    def _choose(self, logits_BV: np.ndarray, rows: list[Sequence | None]) -> np.ndarray:
        scored = [i for i, s in enumerate(rows) if s is not None and s.forced is not None] if self._special else []
        if scored:
            wanted = np.array([rows[i].forced[len(rows[i].tokens)] for i in scored])  # type: ignore[union-attr,index]
            for i, nats in zip(scored, _nats(logits_BV[scored], wanted).tolist(), strict=True):
                rows[i].nats += nats  # type: ignore[union-attr]
        for span in self._forbidden:
            logits_BV[:, span] = -np.inf
        tokens = logits_BV.argmax(1)
        if self._special:
            for i, sequence in enumerate(rows):
                if sequence is not None and sequence.sampler is not None:
                    tokens[i] = sequence.sampler.choose(logits_BV[i])
        if scored:
            tokens[scored] = wanted
        return tokens

    def _free(self, row: int) -> None:
        sequence = self.rows[row]
        assert sequence is not None
        self._special -= sequence.sampler is not None or sequence.forced is not None
        last = len(self.rows) - 1
        if self.runtime.dense and row != last:
            moved = self.rows[last]
            assert moved is not None
            self.runtime.move(last, row)
            self.rows[row] = moved
            moved.row = row
            self.rows.pop()
        else:
            self.runtime.clear(row)
            self.rows[row] = None
            while self.rows and self.rows[-1] is None:
                self.rows.pop()
        sequence.row = -1

    def _finish(self, sequence: Sequence, reason: FinishReason, **details: Any) -> None:
        result = sequence.finish(reason, self._text_of, **details)
        self.finish_reasons[reason] += 1
        if self._observer is not None and sequence.forced is None:
            self._observer.finished(result)

    def _end_all(self, error: Callable[[], ServingError]) -> None:
        with self._wake:
            self._closing = True
            sequences = [*(s for s in self.rows if s is not None), *self.waiting]
            self.rows.clear()
            self.waiting.clear()
        for sequence in sequences:
            if not sequence.done:
                self._finish(sequence, "error", error=error())


def _shut_down() -> ServingError:
    return ShuttingDown("the engine was shut down before the request was finished")


def _nats(logits_BV: np.ndarray, tokens_B: np.ndarray) -> np.ndarray:
    """Minus the log-probability of one token per row, float64 [B]."""
    logits = logits_BV.astype(np.float64)
    top = logits.max(1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(1))
    return total - logits[np.arange(len(tokens_B)), tokens_B]
