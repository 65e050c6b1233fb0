"""One engine in a process of its own: reads one workload a line, answers with what it took.

A process each, because the engines bring their own thread pools, allocators and copies of ONNX Runtime, and because
CPU time and memory are counted per process. What a library prints goes to stderr; stdout carries the answers alone.

    echo '{"run": "batch", "batch": 8}' | python -m benchmarks.serving.worker ours-fp32 decoder build/bench-serving 1
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from benchmarks.serving.shapes import (
    ENGINES,
    NETWORKS,
    SCALES,
    Workload,
    batch_workload,
    mixed_workload,
    static_batches,
)
from model.options import OK, Parser, run


class Engine(Protocol):
    """What every engine offers the worker."""

    def prepare(self, workload: Workload) -> Callable[[], list[int]]:
        """The timed part, as a function that returns how many tokens each request got; tokens are ready before it."""


def load(name: str, family: str, models: Path, threads: int) -> Engine:
    """An engine by its name in ``shapes.NOTES``; imports only what this one needs."""
    if name.startswith("ours-"):
        from benchmarks.serving.engines.ours import Ours

        return Ours(models / family / name, threads)
    if name.startswith("ct2-"):
        from benchmarks.serving.engines.ctranslate2_ import CTranslate2

        return CTranslate2(models / family / name, family, threads)
    if name == "genai-int4":
        from benchmarks.serving.engines.genai import GenAI

        return GenAI(models / family / name, threads)
    if name == "hf":
        from benchmarks.serving.engines.huggingface import HuggingFace

        return HuggingFace(models / family / name, family, threads)
    if name == "torch":
        from benchmarks.serving.engines.pytorch import PyTorch

        return PyTorch(models / family / "weights.safetensors", threads)
    raise ValueError(f"unknown engine {name!r}")


def workloads(request: dict[str, Any], family: str) -> list[Workload]:
    """What a request asks for: one batch, the mixed requests at once, or those cut into static batches."""
    scale = SCALES[request.get("scale", "full")]
    if request["run"] == "batch":
        return [batch_workload(scale, family, request["batch"])]
    mixed = mixed_workload(scale)
    if request["mode"] == "continuous":
        return [mixed]
    return static_batches(mixed, scale.mixed_batch, request["mode"])


def resident_mb() -> float:
    """Resident memory now, in MB (10^6 bytes)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def serve(name: str, family: str, models: Path, threads: int) -> None:
    """Answer until stdin ends: seconds of wall clock and CPU of one run of the workload, and MB resident afterwards.

    A measurement is one run that is not counted, then as many as fill ``least_seconds``: a server that works has warm
    caches and memory of its own, and a process that has just been woken has neither.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    started = time.perf_counter()
    engine = load(name, family, models, threads)
    answer(load_seconds=time.perf_counter() - started, rss_mb=resident_mb())
    prepared: dict[str, list[tuple[Workload, Callable[[], list[int]]]]] = {}
    for line in sys.stdin:
        if line not in prepared:
            prepared[line] = [(work, engine.prepare(work)) for work in workloads(json.loads(line), family)]
        _run(name, prepared[line])
        least = SCALES[json.loads(line).get("scale", "full")].least_seconds
        started, cpu, times = time.perf_counter(), time.process_time(), 0
        while not times or time.perf_counter() - started < least:
            _run(name, prepared[line])
            times += 1
        wall, cpu = (time.perf_counter() - started) / times, (time.process_time() - cpu) / times
        answer(wall=wall, cpu=cpu, rss_mb=resident_mb())


def _run(name: str, prepared: list[tuple[Workload, Callable[[], list[int]]]]) -> None:
    for work, generate in prepared:
        got = generate()
        if got != work.outputs:
            raise RuntimeError(f"{name}: generated {got} tokens instead of {work.outputs}")


def parser() -> Parser:
    """Which engine, of which model."""
    made = Parser("benchmarks.serving.worker", __doc__)
    made.add_argument("engine", choices=sorted({*ENGINES["seq2seq"], *ENGINES["decoder"]}), help="which engine")
    made.add_argument("family", choices=sorted(NETWORKS), help="which family of models")
    made.add_argument("models", type=Path, help="where python -m benchmarks.serving.models has made them")
    made.add_argument("threads", type=int, help="how many threads it may use")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Answer until standard input ends."""
    options = parser().parse_args(argv)
    serve(options.engine, options.family, options.models, options.threads)
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
