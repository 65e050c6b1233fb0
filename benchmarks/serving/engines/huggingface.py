"""Hugging Face transformers' own ``generate``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from benchmarks.serving.shapes import PAD, Workload


class HuggingFace:
    """Greedy, float32, as the documentation's first example does it."""

    def __init__(self, path: Path, family: str, threads: int) -> None:
        torch.set_num_threads(threads)
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        kind = transformers.MarianMTModel if family == "seq2seq" else transformers.LlamaForCausalLM
        self.model = kind.from_pretrained(path).eval()
        self.seq2seq = family == "seq2seq"

    def prepare(self, workload: Workload) -> Callable[[], list[int]]:
        prompts = torch.tensor(workload.prompts)  # [B, P]
        length = workload.outputs[0]
        given = 1 if self.seq2seq else prompts.shape[1]  # the start token, or the prompt

        @torch.inference_mode()
        def run() -> list[int]:
            output = self.model.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                max_new_tokens=length,
                min_new_tokens=length,
                do_sample=False,
                num_beams=1,
                pad_token_id=PAD,
            )
            return [output.shape[1] - given] * len(prompts)

        return run
