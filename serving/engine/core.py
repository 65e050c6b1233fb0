"""The engine thread: what runs in a step, and what becomes of its logits.

Every step runs abort -> schedule -> prefill -> decode -> sample -> postprocess. Only this thread touches the runtime.

Legend: B slots of one run, W beams, V vocabulary.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from serving.engine.config import EngineConfig
from serving.engine.generation import Observer
from serving.engine.request import Request
from serving.engine.runtime import Runtime
from serving.engine.sampler import Sampler
from serving.engine.scheduler import Scheduler
from serving.errors import EngineFailed, ServingError, ShuttingDown

log = logging.getLogger("serving.engine")
# Prompts in a row that could not be run, after which the engine has to show that it can run any.
SUSPICIOUS = 4
UNFINISHED = "the engine was shut down before the request was finished"


class EngineCore:
    """Continuous batching over one runtime.

    Args:
        bos_id: begins a text of a seq2seq model.
        observer: see :class:`Observer`.

    Attributes:
        scheduler: who waits, and who is in which slot.
        figures, finish_reasons: counters and sums of seconds since the start.
    """

    def __init__(self, config: EngineConfig, bos_id: int, sampler: Sampler, observer: Observer | None) -> None:
        self.scheduler = Scheduler(config)
        counters = ("steps", "prefills", "prompt_copies", "prompt_tokens", "generated_tokens", "rejected")
        self.figures = {**dict.fromkeys(counters, 0), "prefill_seconds": 0.0, "decode_seconds": 0.0}
        self.finish_reasons: Counter[str] = Counter()
        self._slots = self.scheduler.slots
        self._bos, self._sampler, self._observer = bos_id, sampler, observer
        self._unobserved: set[str] = set()  # the observer's methods that have raised
        self._abort = False
        self._thread: threading.Thread | None = None
        self._last_step = 0.0
        self._failed_prompts = 0  # in a row

    def start(self, runtime: Runtime) -> None:
        """From any thread: begin to work; what has been queued before is served."""
        self.runtime = self._slots.runtime = runtime
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self._thread.start()

    def close(self, drain: bool, timeout: float | None) -> None:
        """From any thread: see :meth:`Engine.close`."""
        scheduler = self.scheduler
        with scheduler.changed:
            if scheduler.closed is None:
                scheduler.closed = ShuttingDown("the engine is shutting down and takes no new requests")
            self._abort = self._abort or not drain
            scheduler.changed.notify_all()
        if self._thread is None:
            self._finish_all(ShuttingDown, UNFINISHED)
            return
        self._thread.join(timeout)
        self._abort = True
        self._thread.join()

    def _loop(self) -> None:
        scheduler = self.scheduler
        try:
            while True:
                with scheduler.changed:
                    scheduler.changed.wait_for(lambda: scheduler.busy or scheduler.closed)
                if self._abort or (scheduler.closed and not scheduler.busy):
                    break
                self._step()
        except BaseException:
            log.exception("the engine failed; every request fails with it")
            scheduler.closed = EngineFailed("the engine has failed and has to be restarted")
            self._finish_all(EngineFailed, "the engine failed; the server's log says why")
        else:
            self._finish_all(ShuttingDown, UNFINISHED)

    def _step(self) -> None:
        self._finish(self.scheduler.aborted())
        streams = self._slots.streams
        self._prefill()
        slots, used = len(self._slots), self._slots.used
        if not slots:
            return
        start = time.perf_counter()
        logits = self.runtime.decode(slots)
        self._sample(logits, 0, self._slots.requests, self._slots.special)
        now = time.perf_counter()
        self.figures["steps"] += 1
        self.figures["decode_seconds"] += now - start
        self._observe("step", used, now - start)
        if streams > 0 and self._last_step:
            self._observe("interval", now - self._last_step, streams)
        self._last_step = now if self._slots else 0.0

    def _prefill(self) -> None:
        """Run the prompts of those whose turn it is."""
        for request, donor in self.scheduler.schedule(self.runtime.copies):
            self.figures["prompt_tokens"] += len(request.prompt_ids)
            try:
                logits = self._run_prompt(request, donor)
            except Exception as error:
                self._prompt_failed(request, error)
                continue
            self._failed_prompts = 0
            self.runtime.token_ids[request.slots] = self._bos
            if logits is not None:
                self._sample(logits, request.slots[0], [request], [request] if request.special else [])

    def _run_prompt(self, request: Request, donor: Request | None) -> np.ndarray | None:
        """Run a request's prompt, or copy it from a request that has run the same; logits [1, V] where it has any."""
        runtime, slot = self.runtime, request.slots[0]
        request.admitted = time.perf_counter()
        if donor is None:
            logits = runtime.run_prompt(slot, request.prompt_ids)
        else:
            logits = donor.prompt_logits
            runtime.share(donor.slots[0], slot, 0 if logits is None else len(request.prompt_ids))
        for beam in request.slots[1:]:
            runtime.share(slot, beam, 0)
        request.prompt_logits, request.prefilled = logits, time.perf_counter()
        self.figures["prefills" if donor is None else "prompt_copies"] += 1
        self.figures["prefill_seconds"] += request.prefilled - request.admitted
        return None if logits is None else logits.copy()

    def _prompt_failed(self, request: Request, error: Exception) -> None:
        """Finish a request whose prompt could not be run. Was it the prompt, or is it the engine?

        Raises:
            Exception: the runtime's, when it cannot run the shortest prompt either.
        """
        self._failed_prompts += 1
        if self._failed_prompts >= SUSPICIOUS:
            self._failed_prompts = 0
            self.runtime.run_prompt(request.slots[0], np.zeros(1, np.int64))
        request.finish("error", error)
        self._finish([request])

    def _sample(
        self, logits_BV: np.ndarray, first: int, requests: Sequence[Request | None], special: Sequence[Request]
    ) -> None:
        """Choose and take over the next tokens of the requests in slots ``first`` and up; overwrites the logits."""
        # Indexing by a list copies: the sampler overwrites.
        searches = [(r, logits_BV[r.slots]) for r in special if r.beam_search is not None]
        tokens = self._sampler.sample(logits_BV, first, special)
        self.runtime.token_ids[first : first + len(tokens), 0] = tokens
        finished = self._postprocess(requests, tokens.tolist())
        finished += [request for request, logits_WV in searches if self._search(request, logits_WV)]
        self._finish(finished)

    def _postprocess(self, requests: Sequence[Request | None], tokens: list[int]) -> list[Request]:
        """Record and emit the new token of each request, beam searches aside; who has finished with it."""
        now = time.perf_counter()
        finished: list[Request] = []
        generated = len(tokens)
        for request, token in zip(requests, tokens, strict=True):
            if request is None or request.beam_search is not None:
                generated -= 1
                continue
            try:
                if request.append(token, now):
                    continue
            except Exception as error:
                request.finish("error", error)
            generated -= request.finish_reason in ("eos_token", "error")
            finished.append(request)
        self.figures["generated_tokens"] += generated
        return finished

    def _search(self, request: Request, logits_WV: np.ndarray) -> bool:
        """Take one step of a beam search; whether it has finished."""
        assert request.beam_search is not None
        request.first_token = request.first_token or time.perf_counter()
        try:
            parents, tokens = request.beam_search.step(logits_WV)
            if request.beam_search.done:
                request.append_best()
                self.figures["generated_tokens"] += len(request.token_ids)
            else:
                self._slots.reorder(request, parents)
                self.runtime.token_ids[request.slots, 0] = tokens
        except Exception as error:  # as in Sampler: this request's alone
            request.finish("error", error)
        return request.finish_reason is not None

    def _finish(self, finished: list[Request]) -> None:
        """Take requests out, and finalize them. Slots first: who hears of an end finds the slot free."""
        if finished:
            for request in self.scheduler.remove(finished):
                self._finalize(request)

    def _finish_all(self, error: type[ServingError], message: str) -> None:
        """Finalize everyone, whatever state the rest is in."""
        for request in self.scheduler.forget_all():
            request.finish_reason, request.error = "error", error(message)
            self._finalize(request)

    def _finalize(self, request: Request) -> None:
        del self.scheduler.requests[request]
        result = request.finalize()
        self.finish_reasons[result.finish_reason] += 1
        if request.target_ids is None:
            self._observe("finished", result)

    def _observe(self, method: str, *values: object) -> None:
        """Tell the observer, whose exceptions reach nobody: of each method the first one is logged."""
        if self._observer is None:
            return
        try:
            getattr(self._observer, method)(*values)
        except Exception:
            if method not in self._unobserved:  # at hundreds of steps a second, one line has to do
                self._unobserved.add(method)
                log.exception("the observer's %s raised; no request is touched, figures are missing from here", method)
