"""The life and death of requests and engines: cancelling, deadlines, a full queue, draining, failure, observers.

See tests/helpers/engines.py for the bundles.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from serving.engine import Engine, GenerationRequest
from serving.engine.beam import BeamSearch
from serving.engine.runtime import Runtime
from serving.engine.sampling import SamplingState
from serving.errors import DeadlineExceeded, EngineFailed, InvalidRequest, Overloaded, ServingError, ShuttingDown
from tests.helpers.engines import CONFIG, PATIENCE, Call, long_prompt, prompt


def test_cancel_frees_the_slot_within_a_step(bundle):
    with Engine(bundle, CONFIG.model_copy(update={"slots": 1})) as engine:
        request = long_prompt(engine)
        first = Call(engine, request, lambda call: call.cancel() if len(call.events) == 3 else None)
        second = Call(engine, replace(request, max_tokens=5))
        assert (first.result.finish_reason, first.result.generated_tokens) == ("cancelled", 3)
        assert first.result.token_ids == engine.generate([request])[0].token_ids[:3]
        assert second.result.finish_reason == "length"
        first.cancel()  # afterwards and again: nothing
        assert engine.stats()["running"] == 0


def test_cancel_while_waiting(bundle):
    engine = Engine(bundle, CONFIG)
    calls = [Call(engine, GenerationRequest(prompt(engine), 3, 1.0, seed=i)) for i in range(3)]
    calls[1].cancel()
    engine.start()
    assert [c.result.finish_reason == "cancelled" for c in calls] == [False, True, False]
    assert calls[1].result.generated_tokens == 0
    engine.close()


def test_a_full_queue_refuses_and_draining_finishes_the_rest(bundle):
    engine = Engine(bundle, CONFIG.model_copy(update={"queue": 2}))
    calls = [Call(engine, GenerationRequest(prompt(engine), 4)) for _ in range(2)]
    with pytest.raises(Overloaded, match="2 requests are waiting already"):
        Call(engine, GenerationRequest(prompt(engine), 4))
    engine.start()
    engine.close(drain=True)
    assert all(c.result.error is None for c in calls)
    with pytest.raises(ShuttingDown, match="takes no new requests"):
        Call(engine, GenerationRequest(prompt(engine), 4))
    assert engine.healthy


def test_closing_without_draining_ends_requests_at_once(bundle):
    engine = Engine(bundle, CONFIG).start()
    request, running = long_prompt(engine), threading.Event()
    call = Call(engine, request, lambda call: (running.set(), time.sleep(0.02)))
    assert running.wait(PATIENCE)
    engine.close(drain=True, timeout=0.05)
    assert isinstance(call.result.error, ShuttingDown)
    assert 0 < call.result.generated_tokens < 40


def test_closing_an_engine_that_never_started_ends_what_waits(bundle):
    engine = Engine(bundle, CONFIG)
    call = Call(engine, GenerationRequest(prompt(engine)))
    engine.close()
    assert isinstance(call.result.error, ShuttingDown)


def test_deadlines_end_running_and_waiting_requests(bundle):
    with Engine(bundle, CONFIG.model_copy(update={"slots": 1})) as engine:
        request = long_prompt(engine)
        running = Call(engine, replace(request, deadline=time.monotonic() + 0.1), lambda call: time.sleep(0.02))
        waiting = Call(engine, replace(request, deadline=time.monotonic() + 0.05))
        for call in (running, waiting):
            assert call.result.finish_reason == "error"
            assert isinstance(call.result.error, DeadlineExceeded)
        assert 0 < running.result.generated_tokens < 40
        assert waiting.result.generated_tokens == 0
        assert engine.generate([replace(request, deadline=time.monotonic() + 60)])[0].generated_tokens == 40


def test_a_failing_session_fails_everyone_at_once(bundle, monkeypatch):
    """A real failure of ONNX Runtime: an id outside the vocabulary, slipped into the slot that is decoded next."""
    engine, decode, told = Engine(bundle, CONFIG), Runtime.decode, []

    def spoiled(runtime, slots, *options):
        if told:
            runtime.token_ids[0] = 10**6
        return decode(runtime, slots, *options)

    monkeypatch.setattr(Runtime, "decode", spoiled)
    calls = [Call(engine, GenerationRequest(prompt(engine), 30, 2.0, seed=i), told.append) for i in range(8)]
    assert engine.healthy
    engine.start()
    for call in calls:
        assert call.result.finish_reason == "error"
        assert isinstance(call.result.error, EngineFailed)
        assert "the server's log says why" in str(call.result.error)
    assert not engine.healthy
    with pytest.raises(EngineFailed, match="has to be restarted"):
        engine.submit(GenerationRequest(prompt(engine)), print)
    with pytest.raises(EngineFailed, match="has to be restarted"):
        engine.generate([GenerationRequest(prompt(engine))])
    engine.close()


def test_a_prompt_that_fails_ends_alone(bundle, monkeypatch):
    """A real failure of ONNX Runtime: an id outside the vocabulary, slipped in behind the border's check."""
    engine, run_prompt = Engine(bundle, CONFIG), Runtime.run_prompt
    request, bad = GenerationRequest(prompt(engine), 30), GenerationRequest(prompt(engine, "кот"), 30)

    def spoiled(runtime, slot, ids):
        return run_prompt(runtime, slot, ids + 10**6 if ids.tolist() == bad.prompt_ids else ids)

    monkeypatch.setattr(Runtime, "run_prompt", spoiled)
    calls = [Call(engine, bad if i == 3 else request) for i in range(8)]
    engine.start()
    failed = calls.pop(3).result
    assert failed.finish_reason == "error" and type(failed.error) is ServingError
    alone = engine.generate([request])[0]
    assert [call.result.token_ids for call in calls] == [alone.token_ids] * 7
    assert engine.healthy and engine.stats()["slots_used"] == 0
    engine.close()


def test_a_request_whose_token_cannot_be_chosen_ends_alone(bundle, monkeypatch):
    """Real exceptions: a sampler that gets no logits, and a search that divides by zero."""
    engine = Engine(bundle, CONFIG.model_copy(update={"slots": 8}))
    drawing = GenerationRequest(prompt(engine), 20, temperature=2.0, seed=1, frequency_penalty=0.5, logprobs=2)
    searching = replace(drawing, temperature=0.0, logprobs=None, beams=engine.limits.beams)
    requests = [
        drawing,
        replace(drawing, seed=2),
        replace(drawing, seed=3),
        searching,
        GenerationRequest(prompt(engine), 20),
    ]
    calls = [Call(engine, replace(request, beams=min(request.beams, 3))) for request in requests]
    bad = [1, 3] if engine.limits.beams > 1 else [1]
    sample, states = SamplingState.sample, []

    def fails_for_the_second(state, logits):
        if state not in states:
            states.append(state)
        return sample(state, logits[:0] if states.index(state) == 1 else logits)

    with monkeypatch.context() as patch:
        patch.setattr(SamplingState, "sample", fails_for_the_second)
        patch.setattr(BeamSearch, "step", lambda search, logits: 1 / 0)
        engine.start()
        assert all(call.ended.wait(PATIENCE) for call in calls)
    for i, call in enumerate(calls):
        if i in bad:
            assert call.result.finish_reason == "error"
            assert type(call.result.error) is ServingError
            assert "the server's log says why" in str(call.result.error)
        else:
            alone = engine.generate([requests[i]])[0]
            assert (call.result.token_ids, call.result.logprobs) == (alone.token_ids, alone.logprobs)
    assert engine.healthy and engine.stats()["slots_used"] == 0
    engine.close()


def test_a_callers_exception_ends_only_its_own_request(engine):
    def trip(call):
        raise RuntimeError("caller's bug")

    request = long_prompt(engine)
    bad, good = Call(engine, request, trip), Call(engine, request)
    assert bad.result.finish_reason == "cancelled"
    assert good.result.generated_tokens == 40
    assert engine.healthy


def test_observer_sees_every_request_and_step(bundle):
    class Watch:
        def __init__(self):
            self.slots, self.intervals, self.results = [], [], []

        def step(self, slots, seconds):
            self.slots.append(slots)

        def interval(self, seconds, count):
            self.intervals.append((seconds, count))

        def finished(self, result):
            self.results.append(result)

    watch = Watch()
    with Engine(bundle, CONFIG, observer=watch) as engine:
        results = engine.generate([GenerationRequest(prompt(engine), 10, 2.0, seed=i) for i in range(9)])
        with pytest.raises(InvalidRequest):
            engine.submit(GenerationRequest([]), print)
        stats = engine.stats()
    assert max(watch.slots) == 4 and len(watch.slots) == stats["steps"]
    assert sorted(r.generated_tokens for r in watch.results) == sorted(r.generated_tokens for r in results)
    assert stats["generated_tokens"] == sum(r.generated_tokens for r in results)
    assert stats["prompt_tokens"] == sum(r.prompt_tokens for r in results)
    assert sum(stats["finished"].values()) == 9
    assert watch.intervals and all(seconds > 0 and count > 0 for seconds, count in watch.intervals)
    assert stats["rejected"] == 1
    assert stats["kv_bytes"] > 0 and stats["provider"] == "CPUExecutionProvider"
    assert stats["graph_nodes"].keys() == {"CPUExecutionProvider"} and stats["graph_nodes"]["CPUExecutionProvider"] > 10


class Steps:
    """An observer that keeps how many slots each step had."""

    def __init__(self):
        self.slots = []

    def step(self, slots, seconds):
        self.slots.append(slots)

    def interval(self, seconds, count): ...
    def finished(self, result): ...


@pytest.mark.parametrize(
    ("budget", "taken"), [(40, [1, 2, 3, 4]), (60, [2, 4, 4, 4]), (20, [1, 2, 3, 4]), (240, [4] * 4)]
)
def test_the_prompts_of_a_step_are_bounded_by_their_tokens(bundle, budget, taken):
    """Prompts of 30 tokens: so many come in before the next step of those that run already."""
    steps = Steps()
    engine = Engine(bundle, CONFIG.model_copy(update={"prefill_tokens": budget}), observer=steps)
    requests = [GenerationRequest([9 + i] * 30, 20, temperature=3.0, seed=i) for i in range(4)]
    calls = [Call(engine, request) for request in requests]
    engine.start()
    assert all(call.result.generated_tokens > 4 for call in calls), "choose other seeds: one ended at once"
    assert steps.slots[:4] == taken
    engine.close()
