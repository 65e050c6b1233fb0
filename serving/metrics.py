"""Every Prometheus metric of the server, in one place: prefix ``slm_``, suffixes as vLLM's, so dashboards carry over.

The engine reports here as its observer, once per step for all slots together: at thousands of tokens a second, one
``Histogram.observe`` per token would cost more CPU than the rest of the server. Gauges are read from the engine when
somebody scrapes. The process's own memory, processor time and start are prometheus_client's ``process_*``.
"""

import logging
import os
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import pynvml
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from serving.engine.generation import GenerationResult

log = logging.getLogger("serving")
PREFIX = "slm_"
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
# A small model makes a token in well under a millisecond; vLLM's own buckets begin at 10 ms.
TOKEN_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

HISTOGRAMS: dict[str, tuple[str, Sequence[float], str]] = {  # name -> (text, bounds, field of a result or "")
    "time_to_first_token_seconds": ("From the request's arrival to its first token.", SECONDS, "first_token_seconds"),
    "inter_token_latency_seconds": ("Between two tokens of one request.", TOKEN_SECONDS, ""),
    "e2e_request_latency_seconds": ("From the request's arrival to its last token.", SECONDS, "seconds"),
    "request_queue_time_seconds": ("Waiting for a slot.", SECONDS, "queue_seconds"),
    "request_prefill_time_seconds": ("Running the prompt.", SECONDS, "prefill_seconds"),
    "request_decode_time_seconds": ("From the first token to the last.", SECONDS, "decode_seconds"),
    "request_prompt_tokens": ("Prompt tokens of a request.", TOKENS, "prompt_tokens"),
    "request_generation_tokens": ("Tokens generated for a request.", TOKENS, "generated_tokens"),
    "batch_size": ("Rows decoded together in one step.", ROWS, ""),
    "step_seconds": ("Duration of one decode step.", TOKEN_SECONDS, ""),
}
COUNTERS: dict[str, tuple[str, str]] = {  # name -> (text, label or "")
    "prompt_tokens_total": ("Prompt tokens processed.", ""),
    "generation_tokens_total": ("Tokens generated.", ""),
    "request_success_total": ("Generations that came to an end, by how they ended.", "finished_reason"),
    "request_rejected_total": ("Calls refused or failed, by reason.", "reason"),
}
BUNDLE = "Always 1; its labels name the bundle that is served: run, code, hash of its manifest, and how it runs."
GAUGES = {  # name in the stats -> (metric, text)
    "running": ("num_requests_running", "Requests being decoded."),
    "waiting": ("num_requests_waiting", "Requests waiting for a slot."),
    "slots_used": ("num_slots_used", "Slots in use: a beam search holds one for each beam."),
    "slots": ("num_slots", "Requests that can be decoded together."),
    "queue": ("queue_capacity", "Requests that may wait; one more is refused."),
    "kv_bytes": ("kv_cache_bytes", "Memory of the KV cache."),
    "kv_usage": ("kv_cache_usage_perc", "Used share of the KV cache, 0 to 1."),
    "readers_behind": ("readers_behind", "Connections whose client does not read as fast as it is answered."),
    "unread_bytes": ("unread_bytes", "Bytes of answers that wait for these clients."),
    "healthy": ("engine_healthy", "1 while the engine works."),
    "gpu_used": ("gpu_memory_used_bytes", "Memory in use on the GPU, by everyone; absent where there is none."),
    "gpu_total": ("gpu_memory_total_bytes", "Memory of the GPU; absent where there is none."),
}


class Metrics:
    """The server's metrics and the engine's observer; may be written from any thread."""

    def __init__(self, model_name: str, registry: CollectorRegistry = REGISTRY) -> None:
        self._model_name = model_name
        self._stats: Callable[[], dict[str, Any]] = dict
        self._served: dict[str, str] = {}
        self._lock = threading.Lock()
        self._clear()
        registry.register(self)

    def begin(self, stats: Callable[[], dict[str, Any]], served: dict[str, str]) -> None:
        """Forget the warm-up, and from now on read the gauges from ``stats`` and tell what is ``served``, by labels."""
        with self._lock:
            self._clear()
        self._stats, self._served = stats, served

    def step(self, slots: int, seconds: float) -> None:
        """The engine decoded one token in each of ``slots`` used slots."""
        with self._lock:
            self._histograms["batch_size"].add(slots)
            self._histograms["step_seconds"].add(seconds)

    def interval(self, seconds: float, count: int) -> None:
        """``count`` requests got a token ``seconds`` after their last one."""
        with self._lock:
            self._histograms["inter_token_latency_seconds"].add(seconds, count)

    def finished(self, result: GenerationResult) -> None:
        """A request left the engine."""
        with self._lock:
            self._count("request_success_total", 1, result.finish_reason)
            self._count("prompt_tokens_total", result.prompt_tokens)
            self._count("generation_tokens_total", result.generated_tokens)
            for name, (_, _, field) in HISTOGRAMS.items():
                if field and (result.first_token_seconds or field != "first_token_seconds"):
                    self._histograms[name].add(getattr(result, field))

    def refused(self, reason: str) -> None:
        """A call was answered with an error."""
        with self._lock:
            self._count("request_rejected_total", 1, reason)

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client calls at every scrape."""
        with self._lock:
            counters = dict(self._counters)
            snapshots = {name: histogram.snapshot() for name, histogram in self._histograms.items()}
        for name, (text, label) in COUNTERS.items():
            counter = CounterMetricFamily(PREFIX + name, text, labels=("model_name", *((label,) if label else ())))
            for (counted, value), amount in counters.items():
                if counted == name:
                    counter.add_metric((self._model_name, *((value,) if label else ())), amount)
            yield counter
        for name, (text, _, _) in HISTOGRAMS.items():
            histogram = HistogramMetricFamily(PREFIX + name, text, labels=("model_name",))
            histogram.add_metric((self._model_name,), *snapshots[name])
            yield histogram
        bundle = GaugeMetricFamily(PREFIX + "bundle_info", BUNDLE, labels=("model_name", *self._served))
        bundle.add_metric((self._model_name, *self._served.values()), 1)
        yield bundle
        stats = self._stats()
        if stats.get("kv_capacity_tokens"):
            stats["kv_usage"] = stats["kv_tokens"] / stats["kv_capacity_tokens"]
        for name, (metric, text) in GAUGES.items():
            if name in stats:
                gauge = GaugeMetricFamily(PREFIX + metric, text, labels=("model_name",))
                gauge.add_metric((self._model_name,), stats[name])
                yield gauge

    def describe(self) -> list[Metric]:
        """Nothing: keeps the registry from asking for all figures when this is registered."""
        return []

    def _clear(self) -> None:
        self._counters = {(name, ""): 0.0 for name, (_, label) in COUNTERS.items() if not label}
        self._histograms = {name: _Histogram(bounds) for name, (_, bounds, _) in HISTOGRAMS.items()}

    def _count(self, name: str, amount: float, value: str = "") -> None:
        self._counters[name, value] = self._counters.get((name, value), 0.0) + amount


class _Histogram:
    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)  # the last is +Inf
        self._sum = 0.0

    def add(self, value: float, count: int = 1) -> None:
        self._counts[bisect_left(self._bounds, value)] += count
        self._sum += value * count

    def snapshot(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative (upper bound, count) pairs, and the sum of all values."""
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        return list(zip(names, accumulate(map(float, self._counts)), strict=True)), self._sum


def gpu_memory() -> Callable[[], dict[str, int]]:
    """What reads the memory of the GPU that CUDA calls device 0; it finds nothing where there is no driver or GPU.

    The driver brings NVIDIA's management library along. Written by nvidia-ml-py's source; it has NOT been run on a GPU:
    none was at hand.
    """
    # CUDA counts only what this variable lets it see, NVML counts all.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    try:
        pynvml.nvmlInit()
        by_index, by_uuid = pynvml.nvmlDeviceGetHandleByIndex, pynvml.nvmlDeviceGetHandleByUUID
        device = by_index(int(visible)) if visible.isdigit() else by_uuid(visible)
    except pynvml.NVMLError as error:
        log.info("no figures of GPU memory: %s", error)
        return dict

    def read() -> dict[str, int]:
        try:
            memory = pynvml.nvmlDeviceGetMemoryInfo(device)
        except pynvml.NVMLError:
            return {}
        return {"gpu_used": memory.used, "gpu_total": memory.total}

    return read
