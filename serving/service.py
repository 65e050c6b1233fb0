"""The core call that every protocol adapter makes: texts and raw parameters in, generations out, whole or as they come.

Adapters translate messages and nothing else; limits, deadlines, draining and the words of an error are decided here, so
they cannot differ between v2, ``/generate``, the Open Inference generate routes and OpenAI's.

    results = await service.complete(TextRequest(["Привет!"], {"target": "en"}))
    async with aclosing(service.stream(TextRequest(["Привет!"], {"target": "en"}))) as events: ...
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from model.bundle import Bundle
from serving.config import ServerConfig
from serving.engine import Engine, GenerationRequest, GenerationResult, TokenEvent
from serving.engine.aio import generate, stream
from serving.errors import InvalidRequest, ServingError, ShuttingDown
from serving.metrics import Metrics
from serving.parameters import Parameters, read_parameters

# Longest text handed to the tokenizer, per token of the limit: SentencePiece pieces hold at most 16 characters, so a
# longer text cannot fit, unless most of it is white space.
CHARS_PER_TOKEN = 32
# Above this many characters in a call, tokenizing leaves the event loop, which has other requests to answer. It goes to
# one thread for all calls: more would only fight with the loop for the interpreter.
THREAD_CHARS = 2_000
MAX_SAMPLES = 8
INTERNAL = "internal error; the server's log says more"  # all that a caller hears of an unexpected exception


@dataclass(frozen=True)
class TextRequest:
    """What a caller asks for, in no protocol's terms.

    Attributes:
        texts: the prompts, N of them.
        parameters: raw generation parameters, see ``parameters.py``.
        samples: texts wanted for each prompt; results are in the order prompt 0 sample 0, prompt 0 sample 1, ...
        logprobs: how many alternatives to tell with each token; None tells no log-probabilities at all.
        names: the caller's own words, for errors: ``text`` (a prompt), ``n`` (samples), or a parameter's name.
    """

    texts: list[str]
    parameters: Mapping[str, Any]
    samples: int = 1
    logprobs: int | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    def name(self, ours: str) -> str:
        """The caller's word for ``ours``."""
        return self.names.get(ours, ours)


class TextService:
    """One bundle behind one engine, ready to be called from the event loop."""

    def __init__(self, engine: Engine, bundle: Bundle, config: ServerConfig, metrics: Metrics) -> None:
        self.engine = engine
        self.bundle = bundle
        self.config = config
        self.metrics = metrics
        self.warm = False
        self.draining = False
        self._tokenizing = ThreadPoolExecutor(1, "tokenizing")

    @property
    def live(self) -> bool:
        """False once the engine has died: only a new process helps."""
        return self.engine.healthy or self.draining

    @property
    def ready(self) -> bool:
        """Loaded, warmed up, healthy and not about to leave. A full queue changes nothing: it answers 429."""
        return self.warm and self.engine.healthy and not self.draining

    def warm_up(self) -> None:
        """Run a first generation, so that no caller pays for the sessions' first steps. Blocks."""
        target = self.bundle.languages[-1] if self.bundle.task == "translation" else None
        prompt = self.engine.prompt("Warm-up.", target=target)
        results = self.engine.generate([GenerationRequest(prompt, max_tokens=4) for _ in range(2)])
        for result in results:
            if result.error:
                raise result.error
        self.warm = True

    async def complete(self, request: TextRequest) -> list[GenerationResult]:
        """Generate to the end. Cancelling this call cancels its generations.

        Raises:
            ServingError: the call as a whole fails when one of its texts cannot be taken or finished.
        """
        requests = await self._requests(request)
        try:
            if len(requests) == 1:
                return [await generate(self.engine, requests[0])]
            tasks = [asyncio.ensure_future(generate(self.engine, one)) for one in requests]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:  # the first failure ends the call; what it started must not go on
                    task.cancel()
        except InvalidRequest as error:
            raise _worded(error, request) from None

    async def stream(self, request: TextRequest) -> AsyncGenerator[tuple[int, TokenEvent], None]:
        """Generate step by step: (index of the text, event), each text's last event carrying its result.

        Refusals, a full queue included, are raised before the first event. Leave through ``contextlib.aclosing``, which
        cancels what still runs.

        Raises:
            ServingError: as :meth:`complete`.
        """
        requests = await self._requests(request)
        try:
            if len(requests) == 1:
                async with aclosing(stream(self.engine, requests[0])) as events:  # type: ignore[type-var]
                    async for event in events:
                        yield 0, event
            else:
                async with aclosing(self._merged(requests)) as pairs:
                    async for pair in pairs:
                        yield pair
        except InvalidRequest as error:
            raise _worded(error, request) from None

    async def _merged(self, requests: list[GenerationRequest]) -> AsyncGenerator[tuple[int, TokenEvent], None]:
        # All submit in this turn of the loop, before an event can arrive: so a refusal is always first in the queue.
        queue: asyncio.Queue[tuple[int, TokenEvent | Exception]] = asyncio.Queue()

        async def pump(index: int, request: GenerationRequest) -> None:
            try:
                async with aclosing(stream(self.engine, request)) as events:  # type: ignore[type-var]
                    async for event in events:
                        queue.put_nowait((index, event))
            except Exception as error:
                queue.put_nowait((index, error))

        tasks = [asyncio.ensure_future(pump(index, request)) for index, request in enumerate(requests)]
        left = len(tasks)
        try:
            while left:
                index, event = await queue.get()
                if isinstance(event, Exception):
                    raise event
                left -= event.finish_reason is not None
                yield index, event
        finally:
            for task in tasks:
                task.cancel()

    async def _requests(self, request: TextRequest) -> list[GenerationRequest]:
        if self.draining:
            raise ShuttingDown("the server is shutting down; send the request to another one")
        parameters = read_parameters(request.parameters)
        self._check_samples(request, parameters)
        deadline = time.monotonic() + self.config.request_timeout
        try:
            self._check_texts(request)
            if sum(map(len, request.texts)) > THREAD_CHARS:
                loop = asyncio.get_running_loop()
                prompts = await loop.run_in_executor(self._tokenizing, self._prompts, request, parameters)
            else:
                prompts = self._prompts(request, parameters)
        except InvalidRequest as error:
            raise _worded(error, request) from None
        fields = parameters.sampling
        if request.logprobs is not None:
            fields = {**fields, "logprobs": request.logprobs}
        requests = [GenerationRequest(prompt, deadline=deadline, **fields) for prompt in prompts]
        if request.samples > 1:
            requests = [sample for one in requests for sample in one.samples(request.samples)]
        return requests

    def _check_samples(self, request: TextRequest, parameters: Parameters) -> None:
        samples, name = request.samples, request.name("n")
        if not 1 <= samples <= MAX_SAMPLES:
            raise InvalidRequest(name, f"must be between 1 and {MAX_SAMPLES}, not {samples}")
        if samples == 1:
            return
        if parameters.sampling.get("beams", 1) != 1:
            raise InvalidRequest(name, f"beam search gives one text; leave out {request.name('beams')} to draw several")
        if not parameters.sampling.get("temperature"):
            raise InvalidRequest(name, "greedy gives one and the same text; set a temperature above 0")
        if samples * len(request.texts) > self.config.max_prompts:
            total = f"{samples} texts for each of {len(request.texts)} prompts"
            raise InvalidRequest(name, f"{total} exceed the {self.config.max_prompts} that one request may ask for")

    def _check_texts(self, request: TextRequest) -> None:
        """Refuse what cannot be tokenized to a prompt that fits, before anything is tokenized."""
        longest = CHARS_PER_TOKEN * self.bundle.limits["max_prompt_tokens"]
        for index, text in enumerate(request.texts):
            if len(text) > longest:
                where = _place(request, index)
                raise InvalidRequest(where, f"has {len(text)} characters, more than {longest}; split the text")
            if self.bundle.task == "translation" and not text.strip():
                raise InvalidRequest(_place(request, index), "the text is empty, there is nothing to translate")

    def _prompts(self, request: TextRequest, parameters: Parameters) -> list[list[int]]:
        limit = self.bundle.limits["max_prompt_tokens"]
        prompts = []
        for index, text in enumerate(request.texts):
            try:
                prompt = self.engine.prompt(text, target=parameters.target, author=parameters.author)
            except InvalidRequest as error:
                where = _place(request, index) if error.field == "text" else error.field
                raise InvalidRequest(where, error.message) from None
            if len(prompt) > limit:
                raise InvalidRequest(
                    _place(request, index),
                    f"has {len(prompt)} tokens, this model takes at most {limit}; split the text",
                )
            prompts.append(prompt)
        return prompts

    def describe(self) -> dict[str, Any]:
        """What is served: facts of the bundle's manifest, and how the engine runs it."""
        bundle = self.bundle
        return {
            "name": self.config.model_name,
            "family": bundle.family,
            "task": bundle.task,
            "precision": bundle.precision,
            "languages": list(bundle.languages),
            "authors": list(bundle.authors),
            "provider": self.engine.provider,
        }


def reason(error: BaseException) -> str:
    """The label under which an error is counted."""
    return type(error).__name__ if isinstance(error, ServingError) else "InternalError"


def _place(request: TextRequest, index: int) -> str:
    """The caller's word for one of its texts."""
    return request.name("text") if len(request.texts) == 1 else f"{request.name('text')}[{index}]"


def _worded(error: InvalidRequest, request: TextRequest) -> InvalidRequest:
    """The engine's refusal with the caller's name for the field."""
    field = "text" if error.field == "prompt" else error.field
    return InvalidRequest(request.name(field), error.message)
