"""Our engine, driven as everything else drives it: requests in, results out, default settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.serving.shapes import Workload
from model.bundle import Bundle
from serving.engine import Engine, EngineConfig, GenerationRequest


class Ours:
    """``serving.engine.Engine``: admission, continuous batching, and the text of every result."""

    def __init__(self, path: Path, threads: int) -> None:
        self.engine = Engine(Bundle.load(path), EngineConfig(threads=threads, provider="cpu")).start()

    def prepare(self, workload: Workload) -> Callable[[], list[int]]:
        requests = [
            GenerationRequest(prompt, max_tokens=length)
            for prompt, length in zip(workload.prompts, workload.outputs, strict=True)
        ]
        return lambda: [result.generated_tokens for result in self.engine.generate(requests)]
