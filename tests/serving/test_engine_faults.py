"""A fault at any call of the runtime ends the request whose call it was; everyone is told once, and nothing leaks.

Each scenario is eight requests that begin together. A run without a fault counts the calls of one method of the
runtime; then the first, a middle and the last of them fails, before or after its work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from model.bundle import Bundle
from serving.engine import Engine, GenerationRequest, TokenEvent
from serving.engine.core import SUSPICIOUS
from serving.engine.request import Request
from serving.errors import EngineFailed, ServingError
from tests.helpers.engines import CONFIG, PATIENCE, Call, nothing_is_left, prompt

TEXTS = ["привет", "hello", "абв cab", "a", "мир мир мир", "кот", "cat and dog", "б"]


class Scored:
    """A target that is scored; told like a :class:`Call`."""

    def __init__(self, engine: Engine, text: str, target: list[int]) -> None:
        self.events: list[TokenEvent] = []
        self.ended = threading.Event()
        ids = np.array(prompt(engine, text))
        self.request = Request(ids, len(target), target_ids=np.array(target), on_event=self._take)
        engine._core.scheduler.add(self.request)

    def _take(self, event: TokenEvent) -> None:
        self.events.append(event)
        self.ended.set()


def cancelling(call: Call) -> None:
    if len(call.events) == 3:
        call.cancel()


Make = Callable[[Engine], Any]


def generated(text: str, tokens: int, cancel: bool = False, **fields: Any) -> Make:
    def make(engine: Engine) -> Call:
        found = {**fields, "beams": min(fields.get("beams", 1), engine.limits.beams)}
        request = GenerationRequest(prompt(engine, text), tokens, **found)
        return Call(engine, request, cancelling if cancel else None)

    return make


def scored(text: str, tokens: int) -> Make:
    return lambda engine: Scored(engine, text, [20 + i for i in range(tokens)])


SCENARIOS: dict[str, list[Make]] = {
    "greedy": [generated(text, 3 + 2 * i) for i, text in enumerate(TEXTS)],
    "sampled": [generated(text, 17 - 2 * i, temperature=1.5, seed=i, logprobs=2) for i, text in enumerate(TEXTS)],
    "beams": [generated(text, 4 + i, beams=2 + i % 2) for i, text in enumerate(TEXTS)],
    "n of one prompt": [generated("привет", 4 + i, temperature=2.0, seed=i) for i in range(8)],
    "one prompt, all kinds": [
        generated("кот", 9), generated("кот", 7, beams=3), generated("кот", 5, temperature=2.0, seed=1),
        generated("кот", 12, frequency_penalty=0.5), scored("кот", 6), generated("кот", 8, beams=2),
        generated("кот", 10, stop=("щ",)), scored("кот", 3),
    ],
    "scored": [scored(text, 3 + i) for i, text in enumerate(TEXTS)],
    "cancelled": [generated(text, 12, cancel=i % 2 == 0) for i, text in enumerate(TEXTS)],
}  # fmt: skip
METHODS = ["encode", "prefill", "share", "fork", "move", "clear", "decode"]


@contextmanager
def calls_of(runtime: Any, method: str, fails: int = 0, after: bool = False) -> Iterator[list[int]]:
    """Count the calls of a method; the one of number ``fails`` raises."""
    real, count = getattr(runtime, method), [0]

    def counted(*args: Any, **options: Any) -> Any:
        count[0] += 1
        if count[0] == fails and not after:
            raise RuntimeError("injected")
        result = real(*args, **options)
        if count[0] == fails:
            raise RuntimeError("injected")
        return result

    setattr(runtime, method, counted)
    try:
        yield count
    finally:
        setattr(runtime, method, real)


def run(engine: Engine, scenario: list[Make]) -> list[Any]:
    """All eight begin in one step; returns when each has been told an end."""
    with engine._core.scheduler.changed:
        calls = [make(engine) for make in scenario]
    for call in calls:
        assert call.ended.wait(PATIENCE), "a request was never told its end"
    return calls


def outcomes(calls: list[Any]) -> list[Any]:
    """What each was told, which must be one end; the error of those that have one."""
    found = []
    for call in calls:
        (end,) = [event for event in call.events if event.finish_reason is not None]
        assert end is call.events[-1] and end.result is not None
        if end.result.error is not None:
            found.append(end.result.error)
        elif isinstance(call, Scored):
            found.append(call.request.nll)
        else:
            found.append((end.result.token_ids, end.result.text, end.finish_reason, end.result.logprobs))
    return found


@pytest.fixture(scope="module")
def many(bundle: Bundle) -> Iterator[Engine]:
    with Engine(bundle, CONFIG.model_copy(update={"slots": 24})) as engine:
        yield engine


@pytest.mark.parametrize("dense", [True, False], ids=["dense slots", "free slots between, as on CUDA"])
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("method", METHODS[:-1])
def test_a_fault_ends_the_request_whose_call_it_was(many: Engine, method: str, scenario: str, dense: bool) -> None:
    runtime = many._runtime
    runtime.dense = dense
    requests = SCENARIOS[scenario]
    with calls_of(runtime, method) as count:
        sound = outcomes(run(many, requests))
    assert not any(isinstance(outcome, Exception) for outcome in sound)
    places = {1, (count[0] + 1) // 2, count[0]} if count[0] else set()
    for position in sorted(places):
        for after in (False, True):
            with calls_of(runtime, method, position, after):
                found = outcomes(run(many, requests))
            errors = [outcome for outcome in found if isinstance(outcome, Exception)]
            # A slot is cleared once more, but as a part of a move it is the move that has failed.
            assert len(errors) <= (method != "clear" or dense), errors
            for outcome, expected in zip(found, sound, strict=True):
                if isinstance(outcome, Exception):
                    assert type(outcome) is ServingError and "the server's log says why" in str(outcome)
                else:
                    assert outcome == expected
            if method in ("encode", "prefill", "fork"):
                assert errors
            assert many.healthy
            nothing_is_left(many)
            assert outcomes(run(many, requests)) == sound
    runtime.dense = True


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("position", [1, 3, "last"])
def test_a_fault_of_decode_is_everyones(bundle: Bundle, scenario: str, position: int | str) -> None:
    with Engine(bundle, CONFIG.model_copy(update={"slots": 24})) as engine:
        with calls_of(engine._runtime, "decode") as count:
            sound = outcomes(run(engine, SCENARIOS[scenario]))
        fails = count[0] if position == "last" else position
        with calls_of(engine._runtime, "decode", fails):
            found = outcomes(run(engine, SCENARIOS[scenario]))
        assert any(isinstance(outcome, EngineFailed) for outcome in found)
        for outcome, expected in zip(found, sound, strict=True):
            assert isinstance(outcome, EngineFailed) or outcome == expected
        assert not engine.healthy and not engine._core.scheduler.requests
        with pytest.raises(EngineFailed, match="has to be restarted"):
            engine.submit(GenerationRequest(prompt(engine)), print)


def test_the_engine_fails_when_it_can_run_no_prompt_and_not_for_one_that_comes_again(many: Engine) -> None:
    name = "encode" if many.bundle.family == "seq2seq" else "prefill"
    real, bad = getattr(many._runtime, name), prompt(many, "кот")

    def picky(slot: int, ids: np.ndarray, *options: Any) -> Any:
        if ids.tolist() == bad:
            raise RuntimeError("injected")
        return real(slot, ids, *options)

    setattr(many._runtime, name, picky)
    found = outcomes(run(many, [generated("кот", 5)] * (2 * SUSPICIOUS)))
    setattr(many._runtime, name, real)
    assert [type(outcome) for outcome in found] == [ServingError] * (2 * SUSPICIOUS)
    assert many.healthy
    nothing_is_left(many)

    with Engine(many.bundle, CONFIG) as engine:

        def broken(*args: Any) -> Any:
            raise RuntimeError("injected")

        setattr(engine._runtime, name, broken)
        found = outcomes(run(engine, SCENARIOS["greedy"]))
        assert [type(outcome) for outcome in found[: SUSPICIOUS - 1]] == [ServingError] * (SUSPICIOUS - 1)
        assert [type(outcome) for outcome in found[SUSPICIOUS - 1 :]] == [EngineFailed] * (9 - SUSPICIOUS)
        assert not engine.healthy


@pytest.mark.parametrize("broken", ["deallocate", "allocate"])
def test_whatever_else_fails_everyone_is_told(bundle: Bundle, broken: str) -> None:
    with Engine(bundle, CONFIG.model_copy(update={"slots": 24})) as engine:

        def fail(*args: Any) -> Any:
            raise RuntimeError("injected")

        setattr(engine._core.scheduler.slots, broken, fail)
        found = outcomes(run(engine, SCENARIOS["one prompt, all kinds"]))
        assert {type(outcome) for outcome in found} == {EngineFailed}
        assert not engine.healthy


class Broken:
    """An observer whose every method raises."""

    def __getattr__(self, name: str) -> Any:
        def fail(*args: Any) -> Any:
            raise RuntimeError(f"injected into {name}")

        return fail


def test_an_observers_faults_touch_nobody(many: Engine, caplog: pytest.LogCaptureFixture) -> None:
    sound = outcomes(run(many, SCENARIOS["greedy"]))
    with Engine(many.bundle, CONFIG.model_copy(update={"slots": 24}), observer=Broken()) as engine:
        assert outcomes(run(engine, SCENARIOS["greedy"])) == sound
        with pytest.raises(ServingError, match="must not be empty"):
            engine.submit(GenerationRequest([]), print)
        assert engine.healthy
        nothing_is_left(engine)
    told = [record.getMessage() for record in caplog.records if "the observer's" in record.getMessage()]
    assert sorted(text.split()[2] for text in told) == ["finished", "interval", "step"]


@pytest.mark.parametrize("part", ["push", "finish"])
def test_a_text_that_cannot_be_made_ends_its_request_alone(many: Engine, part: str) -> None:
    sound = outcomes(run(many, SCENARIOS["greedy"]))

    def with_fault(engine: Engine) -> Call:
        call = generated("кот", 9)(engine)
        detokenizer = engine._core.scheduler.waiting[-1].detokenizer
        setattr(detokenizer, "_texts" if part == "push" else "_decoder", None)
        return call

    found = outcomes(run(many, [*SCENARIOS["greedy"][:4], with_fault, *SCENARIOS["greedy"][4:]]))
    assert type(found.pop(4)) is ServingError
    assert found == sound
    nothing_is_left(many)
