"""One variant and its figures: a bundle is measured in a process of its own, whose peak memory is then the engine's."""

import contextlib
import ctypes
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from evaluation.evaluate import evaluate_bundle
from model.config import EvaluationConfig
from model.errors import ProjectError


class VariantError(ProjectError, RuntimeError):
    """A bundle that could not be measured."""


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
