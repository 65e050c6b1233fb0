"""The core call that every protocol adapter makes: texts and raw parameters in, finished generations out.

Adapters translate messages and nothing else; limits, deadlines, draining and the words of an error are decided here, so
they cannot differ between REST, gRPC and ``/generate``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from model.bundle import Bundle
from serving.config import ServerConfig
from serving.engine import Engine, GenerationRequest, GenerationResult
from serving.engine.aio import generate
from serving.errors import InvalidRequest, ServingError, ShuttingDown
from serving.metrics import Metrics
from serving.parameters import Parameters, read_parameters

# Longest text handed to the tokenizer, per token of the limit: SentencePiece pieces hold at most 16 characters, so a
# longer text cannot fit, unless most of it is white space.
CHARS_PER_TOKEN = 32
# Above this many characters in a call, tokenizing leaves the event loop, which has other requests to answer.
THREAD_CHARS = 20_000


class TextService:
    """One bundle behind one engine, ready to be called from the event loop."""

    def __init__(self, engine: Engine, bundle: Bundle, config: ServerConfig, metrics: Metrics) -> None:
        self.engine = engine
        self.bundle = bundle
        self.config = config
        self.metrics = metrics
        self.warm = False
        self.draining = False

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

    async def complete(
        self, texts: list[str], raw: Mapping[str, Any], *, samples: int = 1, field: str = "text_input"
    ) -> list[GenerationResult]:
        """Generate ``samples`` texts for each of ``texts``, in order, within the server's limits.

        Cancelling this call cancels its generations. ``field`` is the caller's name for the texts, for errors.

        Raises:
            ServingError: the call as a whole fails when one of its texts cannot be taken or finished.
        """
        if self.draining:
            raise ShuttingDown("the server is shutting down; send the request to another one")
        parameters = read_parameters(raw)
        deadline = time.monotonic() + self.config.request_timeout
        if sum(map(len, texts)) > THREAD_CHARS:
            prompts = await asyncio.to_thread(self._prompts, texts, parameters, field)
        else:
            prompts = self._prompts(texts, parameters, field)
        requests = []
        for prompt in prompts:
            request = GenerationRequest(prompt, deadline=deadline, **parameters.sampling)
            # Different seeds, or a seeded call would get the same sample every time.
            seeds = [None if request.seed is None else request.seed + i for i in range(samples)]
            requests += [request if seed == request.seed else replace(request, seed=seed) for seed in seeds]
        try:
            return await self._generate(requests)
        except InvalidRequest as error:
            if error.field == "prompt":
                raise InvalidRequest(field, error.message) from None
            raise

    async def _generate(self, requests: list[GenerationRequest]) -> list[GenerationResult]:
        if len(requests) == 1:
            return [await generate(self.engine, requests[0])]
        tasks = [asyncio.ensure_future(generate(self.engine, request)) for request in requests]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:  # the first failure ends the call; what it started must not go on
                task.cancel()

    def _prompts(self, texts: list[str], parameters: Parameters, field: str) -> list[list[int]]:
        longest = CHARS_PER_TOKEN * self.bundle.limits["max_prompt_tokens"]
        prompts = []
        for index, text in enumerate(texts):
            where = field if len(texts) == 1 else f"{field}[{index}]"
            if not text.strip() and self.bundle.task == "translation":
                raise InvalidRequest(where, "the text is empty, there is nothing to translate")
            if len(text) > longest:
                raise InvalidRequest(where, f"has {len(text)} characters, more than {longest}; split the text")
            try:
                prompt = self.engine.prompt(text, target=parameters.target, author=parameters.author)
            except InvalidRequest as error:
                raise InvalidRequest(where if error.field == "text" else error.field, error.message) from None
            limit = self.bundle.limits["max_prompt_tokens"]
            if len(prompt) > limit:
                raise InvalidRequest(
                    where, f"has {len(prompt)} tokens, this model takes at most {limit}; split the text"
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
