"""The engine's face: a bundle in, generated text out. Knows no HTTP.

Requests are batched continuously (see core.py): each has a slot in the caches, every decode run advances all of them by
one token, and slots are allocated and freed between steps. That keeps all slots of a run useful whatever the lengths of
the requests, where a static batch runs on to its longest.

    engine = Engine(Bundle.load("runs/latest/bundle")).start()
    engine.generate([GenerationRequest(engine.prompt("Привет!", target="en"))])[0].text
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from model.bundle import Bundle
from model.text.pieces import Piece, cut, space_between_sentences
from model.tokenizer import load_tokenizer
from model.tokenizer.prompt import PromptError, encode_prompt, other_language
from serving.engine.beam import BeamSearch
from serving.engine.config import EngineConfig
from serving.engine.core import EngineCore
from serving.engine.detokenizer import Detokenizer, whole_texts
from serving.engine.generation import GenerationRequest, GenerationResult, Observer
from serving.engine.limits import Limits, check_prompt, check_request, check_targets
from serving.engine.request import OnEvent, Request
from serving.engine.runtime import Runtime
from serving.engine.sampler import Sampler
from serving.engine.sampling import SamplingState
from serving.errors import EngineFailed, InvalidRequest, ServingError


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
        self.limits = Limits.of(bundle, self.config.slots)
        self._table = [self.tokenizer.token_bytes(i) for i in range(self.tokenizer.vocab_size)]
        self._texts = whole_texts(self._table)
        # The tokenizer's own leading space belongs to the start of a text; continued text keeps its spaces.
        self.drops_space = self.tokenizer.leading_space and bundle.task == "translation"
        eos, control, size = self.tokenizer.eos_id, len(self.tokenizer.control_tokens), self.tokenizer.vocab_size
        spans = slice(0, eos), slice(eos + 1, control), slice(size, bundle.vocab_size)
        self._forbidden = [span for span in spans if span.start < span.stop]
        self._runtime: Runtime | None = None
        self._core = EngineCore(self.config, self.tokenizer.bos_id, Sampler(self._forbidden), observer)
        self._starting = threading.Lock()

    def start(self) -> Engine:
        """Load the graphs, run the longest case once, and start the thread.

        Raises:
            EngineFailed: when a graph does not load, or run what the manifest promises, or the demanded provider does
                not work.
        """
        with self._starting:
            if self._runtime is not None:
                return self
            runtime = Runtime(self.bundle, self.config, self.limits)
            runtime.rehearse(self.bundle, self.limits)
            if not runtime.copies:
                self.limits = replace(self.limits, beams=1)
            self._runtime = runtime
            self._core.start(runtime)
        return self

    def close(self, drain: bool = True, timeout: float | None = None) -> None:
        """Take no more requests and stop the thread.

        Args:
            drain: finish what runs and waits; otherwise (or after ``timeout`` seconds) requests end with
                :class:`ShuttingDown`.
        """
        self._core.close(drain, timeout)

    def __enter__(self) -> Engine:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close(drain=False)

    def prompt(self, text: str, target: str | None = None, author: str | None = None) -> list[int]:
        """Token ids of a prompt for this bundle.

        Raises:
            InvalidRequest: for a target or author that the model does not know, or text that is not Unicode.
        """
        family, task = self.bundle.family, self.bundle.task
        with _refusals():
            return encode_prompt(self.tokenizer, family=family, task=task, text=text, target=target, author=author)

    def other_language(self, text: str) -> str:
        """The language to translate a text into that tells by its letters which of two it is in.

        Raises:
            InvalidRequest: for a text that does not.
        """
        with _refusals():
            return other_language(text, self.bundle.languages)

    def pieces(
        self, text: str, target: str | None = None, author: str | None = None, source: str | None = None
    ) -> Iterator[Piece]:
        """The prompts of a text of any length, cut for a translation; made as they are asked for.

        Raises:
            InvalidRequest: as :meth:`prompt`; at once for a target that is neither given nor told by the whole text.
        """
        into = target if target is not None else self.other_language(text)
        source = source or next((language for language in self.bundle.languages if language != into), into)
        encode = partial(self.prompt, target=into, author=author)
        return cut(text, source, encode, self.limits.piece_tokens, space_between_sentences(into))

    def token_bytes(self, token_id: int) -> bytes:
        """What one token adds to a text, before its bytes are joined to characters; empty for control tokens."""
        return self._table[token_id]

    @property
    def default_beams(self) -> int:
        """Width of the bundle's own beam search, for texts that are wanted whole; 1 where it has none, or no room."""
        beams = self.bundle.default_beams
        return beams if beams <= self.limits.beams else 1

    @property
    def crowded(self) -> bool:
        """Whether half of the queue is taken: who has a request in it already then waits with further ones."""
        return 2 * len(self._core.scheduler.waiting) >= self.config.queue

    def submit(
        self, request: GenerationRequest, on_event: OnEvent, *, stream: bool = True, bounded: bool = True
    ) -> Callable[[], None]:
        """Queue a request.

        Args:
            on_event: called in the engine thread with every event of the request; must be quick and not block.
            stream: False emits only the last event, which then carries the whole text: cheaper.
            bounded: whether a full queue refuses it. Not for the later pieces of a text, of which few wait at a time.

        Returns:
            What cancels the request within one step (from any thread, any number of times); its last event says
            "cancelled".

        Raises:
            InvalidRequest, Overloaded, ShuttingDown, EngineFailed: at once; afterwards errors come as the last event.
        """
        try:
            queued = self._request(request, stream)
            queued.on_event = on_event
            self._core.scheduler.add(queued, bounded)
        except ServingError:
            self._core.figures["rejected"] += 1
            raise
        return partial(self._core.scheduler.cancel, queued)

    def generate(self, requests: Sequence[GenerationRequest]) -> list[GenerationResult]:
        """Run many requests, batched continuously, and wait for all of them.

        Raises:
            InvalidRequest: before anything runs. ServingError: when the engine fails or closes meanwhile.
        """
        return self._run_all([self._request(request) for request in requests])

    def score(self, prompts: Sequence[list[int]], targets: Sequence[list[int]]) -> list[float]:
        """Nats of each target given its prompt: minus the sum of its tokens' log-probabilities.

        Teacher-forced through the decode path one token at a time, so what is measured is what serves. Give the
        end-of-sequence token in the target to have it counted.
        """
        requests = []
        for i, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
            prompt_ids = check_prompt(prompt, self.limits, f"prompts[{i}]")
            target_ids = check_targets(target, len(prompt_ids), self.limits, f"targets[{i}]")
            requests.append(Request(prompt_ids, len(target_ids), target_ids=target_ids))
        self._run_all([request for request in requests if request.max_tokens])
        return [request.nll for request in requests]

    @property
    def healthy(self) -> bool:
        """False once the engine has failed: the process should then be restarted."""
        return not isinstance(self._core.scheduler.closed, EngineFailed)

    @property
    def provider(self) -> str:
        """The execution provider that really runs; empty before ``start``."""
        return self._runtime.provider if self._runtime else ""

    def stats(self) -> dict[str, Any]:
        """Figures for metrics: gauges as they are now, counters and sums of seconds since the start.

        ``running`` counts requests and ``slots_used`` their slots: a beam search has one for each beam.
        """
        runtime, core, scheduler = self._runtime, self._core, self._core.scheduler
        return {
            "running": len({*scheduler.slots.requests} - {None}),
            "waiting": len(scheduler.waiting),
            "queue": self.config.queue,
            "slots_used": scheduler.slots.used,
            "slots": self.config.slots,
            "healthy": self.healthy,
            "provider": self.provider,
            "graph_nodes": runtime.nodes if runtime else {},
            "threads": runtime.threads if runtime else 0,
            "kv_bytes": runtime.cache_bytes if runtime else 0,
            "kv_tokens": int(runtime.lengths.sum()) if runtime else 0,
            "kv_capacity_tokens": self.config.slots * runtime.cache_tokens if runtime else 0,
            **core.figures,
            "finished": dict(core.finish_reasons),
        }

    def _request(self, request: GenerationRequest, stream: bool = False) -> Request:
        prompt_ids, max_tokens = check_request(request, self.limits)
        sampling = beam_search = detokenizer = None
        if request.beams > 1:
            beam_search = BeamSearch(request, max_tokens, self.tokenizer.eos_id, self._forbidden)
            stream = False
        elif not request.greedy:
            seen_ids = None if self.bundle.family == "seq2seq" else prompt_ids
            sampling = SamplingState(request, self.bundle.vocab_size, seen_ids)
        if stream or request.stop:
            detokenizer = Detokenizer(self._table, self._texts, self.drops_space, tuple(request.stop))
        return Request(
            prompt_ids,
            max_tokens,
            self._decode,
            eos_id=None if request.ignore_eos else self.tokenizer.eos_id,
            stream=stream,
            deadline=request.deadline,
            num_logprobs=request.logprobs,
            sampling=sampling,
            detokenizer=detokenizer,
            beam_search=beam_search,
        )

    def _run_all(self, requests: list[Request]) -> list[GenerationResult]:
        self.start()
        # Beyond the bounded queue, but never more than fill the slots once over: others still get their turn.
        places = min(len(requests), 2 * self.config.slots)
        room = threading.Semaphore(places)
        queued: list[Request] = []
        try:
            # Longest first: neighbours then have like lengths, which pads least, and the tail is short.
            for request in sorted(requests, key=lambda request: -len(request.prompt_ids)):
                request.on_event = lambda _: room.release()
                room.acquire()
                request.submitted = time.perf_counter()
                self._core.scheduler.add(request, bounded=False)
                queued.append(request)
            for _ in range(places):
                room.acquire()
        except BaseException:  # a refusal, or the caller's Ctrl-C: no one waits for the others any more
            for request in queued:
                self._core.scheduler.cancel(request)
            raise
        for request in requests:
            if request.error is not None:
                raise request.error
        return [request.result for request in requests if request.result is not None]

    def _decode(self, ids: list[int]) -> str:
        text = b"".join(map(self._table.__getitem__, ids)).decode("utf-8", "replace")
        return text.removeprefix(" ") if self.drops_space else text


@contextmanager
def _refusals() -> Iterator[None]:
    """What cannot become a prompt, as an error of the engine."""
    try:
        yield
    except PromptError as error:
        raise InvalidRequest(error.field, str(error).removeprefix(f"{error.field}: ")) from None
