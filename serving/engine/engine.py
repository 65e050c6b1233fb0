"""The engine's face: a bundle in, generated text out. Knows no HTTP.

Requests are batched continuously (see scheduler.py): each has a row in the caches, every decode run advances all rows
by one token, and rows are taken and left between steps. That keeps all rows of a run useful whatever the lengths of
the requests, where a static batch runs on to its longest.

    engine = Engine(Bundle.load("runs/latest/bundle")).start()
    engine.generate([GenerationRequest(engine.prompt("Привет!", target="en"))])[0].text
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence as Seq
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from model.tokenizer import load_tokenizer
from model.tokenizer.prompt import PromptError, encode_prompt
from serving.engine.beam import BeamSearch
from serving.engine.choice import Chooser
from serving.engine.config import EngineConfig
from serving.engine.detokenizer import Detokenizer, token_table, whole_texts
from serving.engine.observer import Guarded, Observer
from serving.engine.rehearsal import rehearse
from serving.engine.request import (
    MAX_BEAMS,
    GenerationRequest,
    GenerationResult,
    Handle,
    Limits,
    check_prompt,
    check_request,
    check_targets,
)
from serving.engine.runtime import Runtime
from serving.engine.sampling import Sampler
from serving.engine.scheduler import Scheduler
from serving.engine.sequence import OnEvent, Sequence
from serving.errors import EngineFailed, InvalidRequest, ServingError

if TYPE_CHECKING:
    from model.bundle import Bundle


COUNTS = ("steps", "prefills", "prompt_copies", "prompt_tokens", "generated_tokens")


class Engine:
    """Serves one bundle.

    Args:
        bundle: a loaded bundle of either family.
        config: dials; the defaults suit two processors.
        observer: see :class:`Observer`.

    Attributes:
        tokenizer: the bundle's tokenizer.
        limits: what a request may ask for.
        drops_space: whether the space that the tokenizer puts before a text is taken off.

    Raises:
        EngineFailed: when the tokenizer has ids that the graphs do not know.
    """

    def __init__(self, bundle: Bundle, config: EngineConfig | None = None, observer: Observer | None = None) -> None:
        self.bundle = bundle
        self.config = config or EngineConfig()
        self.tokenizer = load_tokenizer(bundle.path)
        if self.tokenizer.vocab_size > bundle.vocab_size:
            raise EngineFailed(
                f"{bundle.path}: the tokenizer has {self.tokenizer.vocab_size} ids, bundle.json says vocab_size "
                f"{bundle.vocab_size}; export the bundle again"
            )
        self.limits = _limits(bundle, self.config.slots)
        self._observer = Guarded(observer)
        self._seq2seq = bundle.family == "seq2seq"
        self._table = token_table(self.tokenizer)
        self._texts = whole_texts(self._table)
        # The tokenizer's own leading space belongs to the start of a text; continued text keeps its spaces.
        self.drops_space = self.tokenizer.leading_space and bundle.task == "translation"
        forbidden = [i for i in range(len(self.tokenizer.control_tokens)) if i != self.tokenizer.eos_id]
        forbidden += range(self.tokenizer.vocab_size, bundle.vocab_size)
        self._forbidden = _spans(forbidden)
        self._runtime: Runtime | None = None
        bos, eos = self.tokenizer.bos_id, self.tokenizer.eos_id
        self._scheduler = Scheduler(self.config, bos, eos, Chooser(self._forbidden), self._text, self._observer)
        self._starting = threading.Lock()
        self._rejected = 0

    def start(self) -> Engine:
        """Load the graphs, run the longest case once, and start the thread.

        Raises:
            EngineFailed: when a graph does not load, or run what the manifest promises, or the demanded provider does
                not work.
        """
        with self._starting:
            if self._runtime is not None:
                return self
            context = self.limits.context or self.limits.max_new_tokens
            runtime = Runtime(self.bundle, self.config, self.config.slots, context)
            rehearse(runtime, self.bundle, self.limits)
            if not runtime.copies:
                self.limits = replace(self.limits, beams=1)
            self._runtime = runtime
            self._scheduler.start(runtime)
        return self

    def close(self, drain: bool = True, timeout: float | None = None) -> None:
        """Take no more requests and stop the thread.

        Args:
            drain: finish what runs and waits; otherwise (or after ``timeout`` seconds) requests end with
                :class:`ShuttingDown`.
        """
        self._scheduler.close(drain, timeout)

    def __enter__(self) -> Engine:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close(drain=False)

    def prompt(self, text: str, target: str | None = None, author: str | None = None) -> list[int]:
        """Token ids of a prompt for this bundle.

        Raises:
            InvalidRequest: for a target or author that the model does not know, or text that is not Unicode.
        """
        try:
            return encode_prompt(
                self.tokenizer,
                family=self.bundle.family,
                task=self.bundle.task,
                text=text,
                target=target,
                author=author,
            )
        except PromptError as error:
            raise InvalidRequest(error.field, str(error).removeprefix(f"{error.field}: ")) from None

    def token_bytes(self, token_id: int) -> bytes:
        """What one token adds to a text, before its bytes are joined to characters; empty for control tokens."""
        return self._table[token_id]

    def submit(self, request: GenerationRequest, on_event: OnEvent, *, stream: bool = True) -> Handle:
        """Queue a request.

        Args:
            on_event: called in the engine thread with every event of the request; must be quick and not block.
            stream: False tells only the last event, which then carries the whole text: cheaper.

        Raises:
            InvalidRequest, Overloaded, ShuttingDown, EngineFailed: at once; afterwards errors come as the last event.
        """
        try:
            sequence = self._sequence(request, on_event, stream)
            self._scheduler.enqueue(sequence)
        except ServingError as error:
            self._rejected += 1
            self._observer.rejected(error)
            raise
        return Handle(lambda: self._scheduler.cancel(sequence))

    def generate(self, requests: Seq[GenerationRequest]) -> list[GenerationResult]:
        """Run many requests, batched continuously, and wait for all of them.

        Raises:
            InvalidRequest: before anything runs. ServingError: when the engine fails or closes meanwhile.
        """
        sequences = [self._sequence(request, _ignore, stream=False) for request in requests]
        return self._run_all(sequences)

    def score(self, prompts: Seq[list[int]], targets: Seq[list[int]]) -> list[float]:
        """Nats of each target given its prompt: minus the sum of its tokens' log-probabilities.

        Teacher-forced through the decode path one token at a time, so what is measured is what serves. Give the
        end-of-sequence token in the target to have it counted.
        """
        sequences = []
        for i, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
            ids = check_prompt(prompt, self.limits, f"prompts[{i}]")
            forced = check_targets(target, len(ids), self.limits, f"targets[{i}]")
            sequences.append(Sequence(ids, len(forced), _ignore, stream=False, forced=forced))
        self._run_all([s for s in sequences if s.max_tokens])
        return [s.nats for s in sequences]

    @property
    def healthy(self) -> bool:
        """False once the engine has failed: the process should then be restarted."""
        return self._scheduler.failure is None

    @property
    def provider(self) -> str:
        """The execution provider that really runs; empty before ``start``."""
        return self._runtime.provider if self._runtime else ""

    def stats(self) -> dict[str, Any]:
        """Figures for metrics: gauges as they are now, counters and sums of seconds since the start.

        ``running`` counts requests and ``rows`` the slots they hold: a beam search holds one for each beam.
        """
        runtime, scheduler = self._runtime, self._scheduler
        counts = scheduler.counts
        return {
            "running": len(scheduler.rows.running),
            "waiting": len(scheduler.waiting),
            "queue": self.config.queue,
            "rows": scheduler.rows.taken,
            "slots": self.config.slots,
            "healthy": self.healthy,
            "provider": self.provider,
            "graph_nodes": runtime.nodes if runtime else {},
            "threads": runtime.threads if runtime else 0,
            "kv_bytes": runtime.cache_bytes if runtime else 0,
            "kv_tokens": int(runtime.lengths.sum()) if runtime else 0,
            "kv_capacity_tokens": self.config.slots * runtime.cache_tokens if runtime else 0,
            **{name: counts[name] for name in COUNTS},
            "rejected": self._rejected,
            **scheduler.seconds,
            "finished": dict(scheduler.finish_reasons),
        }

    def _sequence(self, request: GenerationRequest, on_event: OnEvent, stream: bool) -> Sequence:
        prompt, max_tokens = check_request(request, self.limits)
        sampler = search = None
        if request.beams > 1:
            search = BeamSearch(request, max_tokens, self.tokenizer.eos_id, self._forbidden)
            stream = False
        elif not request.greedy:
            sampler = Sampler(request, self.bundle.vocab_size, None if self._seq2seq else prompt)
        detokenizer = None
        if stream or request.stop:
            detokenizer = Detokenizer(self._table, self.drops_space, tuple(request.stop), self._texts)
        return Sequence(
            prompt,
            max_tokens,
            on_event,
            stream=stream,
            sampler=sampler,
            detokenizer=detokenizer,
            search=search,
            request=request,
        )

    def _run_all(self, sequences: list[Sequence]) -> list[GenerationResult]:
        self.start()
        results: dict[int, GenerationResult] = {}
        # Beyond the bounded queue, but never more than fill the slots once over: others still get their turn.
        places = min(len(sequences), 2 * self.config.slots)
        room = threading.Semaphore(places)
        # Longest first: neighbours then have like lengths, which pads least, and the tail is short.
        queued: list[Sequence] = []
        try:
            for i in sorted(range(len(sequences)), key=lambda i: -len(sequences[i].prompt)):

                def done(event: Any, i: int = i) -> None:
                    results[i] = event.result
                    room.release()

                sequences[i].on_event = done
                room.acquire()
                sequences[i].submitted = time.perf_counter()
                self._scheduler.enqueue(sequences[i], bounded=False)
                queued.append(sequences[i])
            for _ in range(places):
                room.acquire()
        except BaseException:  # a refusal, or the caller's Ctrl-C: no one waits for the others any more
            for sequence in queued:
                self._scheduler.cancel(sequence)
            raise
        for result in results.values():
            if result.error is not None:
                raise result.error
        return [results[i] for i in range(len(sequences))]

    def _text(self, ids: list[int]) -> str:
        text = b"".join(map(self._table.__getitem__, ids)).decode("utf-8", "replace")
        return text.removeprefix(" ") if self.drops_space else text


def _ignore(_: object) -> None:
    """No one listens."""


def _spans(ids: list[int]) -> list[slice]:
    """Runs of consecutive ids as slices, which NumPy assigns to faster than to a list."""
    spans: list[slice] = []
    for i in sorted(ids):
        if spans and spans[-1].stop == i:
            spans[-1] = slice(spans[-1].start, i + 1)
        else:
            spans.append(slice(i, i + 1))
    return spans


def _limits(bundle: Bundle, slots: int) -> Limits:
    positions = bundle.config.max_positions
    prompt, new = (min(bundle.limits[name], positions) for name in ("max_prompt_tokens", "max_new_tokens"))
    context = 0 if bundle.family == "seq2seq" else min(positions, prompt + new)
    beams = min(MAX_BEAMS, slots) if bundle.family == "seq2seq" else 1
    return Limits(bundle.vocab_size, prompt, new, context, beams)
