"""onnxruntime-genai: its generator loop over the graph that its model builder made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime_genai as genai

from benchmarks.serving.shapes import Workload


class GenAI:
    """Greedy generation of one batch; the thread count stands in the model's own ``genai_config.json``."""

    def __init__(self, path: Path, threads: int) -> None:
        config = genai.Config(str(path))
        config.overlay(f'{{"model": {{"decoder": {{"session_options": {{"intra_op_num_threads": {threads}}}}}}}}}')
        self.model = genai.Model(config)

    def prepare(self, workload: Workload) -> Callable[[], list[int]]:
        prompts = np.array(workload.prompts, np.int32)  # [B, P]
        total = prompts.shape[1] + workload.outputs[0]

        def run() -> list[int]:
            parameters = genai.GeneratorParams(self.model)
            parameters.set_search_options(max_length=total, min_length=total, batch_size=len(prompts), do_sample=False)
            generator = genai.Generator(self.model, parameters)
            generator.append_tokens(prompts)
            while not generator.is_done():
                generator.generate_next_token()
            return [len(generator.get_sequence(i)) - prompts.shape[1] for i in range(len(prompts))]

        return run
