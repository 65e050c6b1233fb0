"""CTranslate2: static batches, run to one length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ctranslate2

from benchmarks.serving.shapes import EOS, Workload


class CTranslate2:
    """``Translator`` or ``Generator``, greedy. Computes in the types that the model was converted to."""

    def __init__(self, path: Path, family: str, threads: int) -> None:
        kind = ctranslate2.Translator if family == "seq2seq" else ctranslate2.Generator
        self.model = kind(str(path), device="cpu", inter_threads=1, intra_threads=threads)
        self.seq2seq = family == "seq2seq"

    def prepare(self, workload: Workload) -> Callable[[], list[int]]:
        prompts = [[f"t{token}" for token in prompt] for prompt in workload.prompts]
        length = workload.outputs[0]
        assert set(workload.outputs) == {length}, "a static batch has one length"

        def translate() -> list[int]:
            results = self.model.translate_batch(
                prompts, beam_size=1, max_decoding_length=length, min_decoding_length=length, max_batch_size=0
            )
            return [len(result.hypotheses[0]) for result in results]

        def continue_() -> list[int]:
            results = self.model.generate_batch(
                prompts, max_length=length, min_length=length, sampling_topk=1, include_prompt_in_result=False,
                end_token=[EOS], max_batch_size=0,
            )  # fmt: skip
            return [len(result.sequences_ids[0]) for result in results]

        return translate if self.seq2seq else continue_
