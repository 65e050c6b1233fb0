"""One variant from the checkpoint to its figures: export, then quantization where it is not fp32, then measurement.

A bundle is measured in a process of its own: its peak memory is then the engine's, not that of what made the bundle.
"""

import contextlib
import ctypes
import signal
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from evaluation.evaluate import evaluate_bundle
from evaluation.examples import introduce
from model.bundle import Bundle
from model.config import EvaluationConfig, QuantizationConfig
from model.errors import ProjectError
from model.onnx.export import export_bundle
from model.onnx.quantize import quantize_bundle


class VariantError(ProjectError, RuntimeError):
    """A bundle that could not be measured."""


def make_bundle(
    checkpoint: str,
    tokenizer: str,
    holdout: str,
    out: str,
    precision: str,
    config: QuantizationConfig,
    shown: EvaluationConfig,
) -> dict[str, Any]:
    """Write the bundle of a precision to ``out``; its manifest.

    Args:
        shown: how many examples the bundle carries, and what it says of itself.

    Raises:
        CheckpointError, GraphError: as export and quantization do.
    """
    introduction = introduce(holdout, shown)
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        exported = out if precision == "fp32" else f"{folder}/fp32"
        manifest = export_bundle(checkpoint, tokenizer, exported, introduction)
        if precision == "fp32" and (count := len(introduction["examples"])):
            print(f"examples: {count} held-out texts go with the bundle (evaluation.examples)", flush=True)
        print(f"export: fp32, {Bundle.load(exported).bytes:,} bytes", flush=True)
        if precision != "fp32":
            manifest = quantize_bundle(exported, holdout, out, precision, config)
            print(f"quantize: {precision}, {Bundle.load(out).bytes:,} bytes", flush=True)
    return manifest


def measure_bundle(bundle: str, holdout: str, out: str, config: EvaluationConfig) -> dict[str, Any]:
    """Measure a bundle into ``out``; its figures, and its scores by test set and direction.

    Raises:
        VariantError: where the measuring process is killed.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), _end_with_the_step) as pool:
        try:
            measured = pool.submit(evaluate_bundle, bundle, holdout, out, config).result()
        except BrokenProcessPool:
            raise VariantError(
                f"{bundle}: the process that measured it ended without a word: killed from outside, or out of memory"
            ) from None
    print(f"evaluate: {measured.variant} on {measured.provider}", flush=True)
    scores = {f"{score.test_set}.{score.direction}": score.model_dump() for score in measured.scores}
    return {**measured.figures(), **scores}


def _end_with_the_step() -> None:
    """Ask the kernel, where it is Linux, to end this process when the step's ends, however it does."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of linux/prctl.h
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
