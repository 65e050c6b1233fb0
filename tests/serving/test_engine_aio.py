"""The engine under asyncio: streams, many at once, errors, and cancellation that reaches the engine."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import replace

import pytest

from model.bundle import Bundle
from serving.engine import Engine, EngineConfig, GenerationRequest
from serving.engine.aio import generate, generate_all, stream
from serving.errors import DeadlineExceeded, InvalidRequest
from tests.helpers.engines import talkative_bundle


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    bundle = Bundle.load(talkative_bundle(tmp_path_factory.mktemp("bundles") / "decoder", "decoder", 2))
    with Engine(bundle, EngineConfig(slots=8, threads=1, provider="cpu")) as engine:
        yield engine


def request(engine, seed=0, **changes):
    return replace(GenerationRequest(engine.prompt("abc"), max_tokens=40, temperature=2.0, seed=seed), **changes)


def test_many_streams_and_results_at_once_equal_the_blocking_ones(engine):
    requests = [request(engine, seed) for seed in range(30)]
    expected = [(r.text, r.token_ids) for r in engine.generate(requests)]

    async def streamed(r):
        events = [event async for event in stream(engine, r)]
        assert "".join(e.text for e in events) == events[-1].result.text
        return events[-1].result

    async def main():
        return await asyncio.gather(*(f(r) for r in requests for f in (streamed, lambda r: generate(engine, r))))

    for _ in range(2):  # a second event loop gets a mailbox of its own
        results = asyncio.run(main())
        assert [(r.text, r.token_ids) for r in results] == [e for e in expected for _ in range(2)]


def test_several_come_in_order_and_wake_the_loop_once(engine):
    requests = [request(engine, seed, max_tokens=40 - seed) for seed in range(30)]
    expected = [r.token_ids for r in engine.generate(requests)]

    async def main():
        loop, wakes = asyncio.get_running_loop(), []
        wake = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *call: (wakes.append(call), wake(*call))[1]
        found = await generate_all(engine, requests)
        assert len(wakes) == 1
        assert await generate_all(engine, []) == []
        return found

    assert [r.token_ids for r in asyncio.run(main())] == expected


def test_of_several_each_has_its_own_error_and_a_refusal_ends_all(engine):
    async def main():
        late, good = await generate_all(engine, [request(engine, deadline=0.0), request(engine)])
        assert isinstance(late.error, DeadlineExceeded) and good.error is None and good.token_ids
        before = engine.stats()["finished"].get("cancelled", 0)
        held = threading.Event()  # the engine stands still until those before the refused one have been cancelled
        engine.submit(request(engine), lambda event: held.wait(60))
        with pytest.raises(InvalidRequest, match="top_p"):
            await generate_all(engine, [request(engine), request(engine), request(engine, top_p=2)])
        held.set()
        while engine.stats()["running"] or engine.stats()["waiting"]:
            await asyncio.sleep(0.001)
        assert engine.stats()["finished"]["cancelled"] == before + 2

    asyncio.run(main())


def test_errors_are_raised(engine):
    async def main():
        with pytest.raises(InvalidRequest, match="top_p"):
            await generate(engine, request(engine, top_p=2))
        with pytest.raises(InvalidRequest, match="top_p"):
            await anext(stream(engine, request(engine, top_p=2)))
        with pytest.raises(DeadlineExceeded):
            await generate(engine, request(engine, deadline=0.0))
        with pytest.raises(DeadlineExceeded):
            async for _ in stream(engine, request(engine, deadline=0.0)):
                pass

    asyncio.run(main())


def test_leaving_a_stream_or_cancelling_its_task_cancels_the_request(engine):
    def cancelled():
        return engine.stats()["finished"].get("cancelled", 0)

    async def settled(count):
        for _ in range(500):
            if cancelled() == count and engine.stats()["running"] == 0:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{cancelled()} cancelled, expected {count}")

    async def main():
        # Slow enough to be caught in the act: the engine thread waits for this request's own events.
        slow = asyncio.Event()
        before = cancelled()
        seed = next(s for s in range(50) if engine.generate([request(engine, s)])[0].generated_tokens == 40)
        unblock = engine.submit(request(engine, seed), lambda event: time.sleep(0.01))
        async with contextlib.aclosing(stream(engine, request(engine, seed))) as events:
            async for _ in events:
                break
        await settled_at_least(before + 1)
        for call in (generate(engine, request(engine, seed)), consume(engine, request(engine, seed), slow)):
            count = cancelled()
            task = asyncio.create_task(call)
            await asyncio.sleep(0.03)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await settled_at_least(count + 1)
        unblock()
        await settled(before + 4)

    async def settled_at_least(count):
        for _ in range(500):
            if cancelled() >= count:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the engine never heard of the cancellation")

    async def consume(engine, r, slow):
        async for _ in stream(engine, r):
            await slow.wait()

    asyncio.run(main())
