"""Tokens per second through the engine at a given number of requests in flight, and the process's peak memory.

As in serving, a text ends where the model ends it: a new request takes each place that falls free, and the tokens that
were really generated are counted.
"""

from __future__ import annotations

import re
import resource
import sys
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from evaluation.prompts import bounded_request
from serving.engine import Engine, GenerationRequest, TokenEvent

BATCHES = (1, 32)
_RUNS = 3


def measure_speed(engine: Engine, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
    """Generated tokens per second, prefill and encoder included, with each of BATCHES requests kept in flight.

    The best of three runs after a warm-up is kept: on a shared machine the noise only ever slows a run.

    Args:
        prompts: token ids of real held-out prompts, used in turn.
        tokens: most tokens a request may generate.
    """
    if not prompts:
        return {"tokens_per_second": {}}
    rates, lengths = {}, {}
    for batch in BATCHES:
        total = max(12, 3 * batch)
        requests = [bounded_request(engine, prompts[i % len(prompts)], tokens) for i in range(total)]
        _in_flight(engine, requests[: max(batch, 2)], batch)
        runs = [_in_flight(engine, requests, batch) for _ in range(_RUNS)]
        rates[str(batch)] = max(generated / seconds for generated, seconds in runs)
        lengths[str(batch)] = runs[0][0] / total
    return {"tokens_per_second": rates, "speed": {"max_tokens": tokens, "mean_tokens": lengths, "runs": _RUNS}}


def _in_flight(engine: Engine, requests: list[GenerationRequest], batch: int) -> tuple[int, float]:
    """Run the requests with ``batch`` of them in flight; returns tokens generated and seconds."""
    finished: SimpleQueue[TokenEvent] = SimpleQueue()  # without streaming, the one event of a request is its last
    started, events = time.perf_counter(), []
    for place, request in enumerate(requests):
        if place >= batch:
            events.append(finished.get())
        engine.submit(request, finished.put, stream=False)
    events += [finished.get() for _ in requests[len(events) :]]
    seconds = time.perf_counter() - started
    results = [event.result for event in events if event.result is not None]
    for result in results:
        if result.error is not None:
            raise result.error
    return sum(result.generated_tokens for result in results), seconds


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MB (10^6 bytes).

    Linux's ru_maxrss survives exec, so it would report a large parent's peak for a small child: VmHWM does not.
    """
    status = Path("/proc/self/status")
    if status.exists() and (peak := re.search(r"^VmHWM:\s*(\d+)", status.read_text(encoding="utf-8"), re.MULTILINE)):
        return int(peak[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
