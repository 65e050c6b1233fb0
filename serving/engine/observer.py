"""Who watches the engine: the interface of a metrics collector."""

from __future__ import annotations

from typing import Protocol

from serving.engine.generation import GenerationResult


class Observer(Protocol):
    """What a metrics collector implements; called in the engine thread, so it has to be cheap.

    What it raises is logged and touches no request.
    """

    def step(self, slots: int, seconds: float) -> None:
        """One decode run of ``slots`` used slots."""

    def interval(self, seconds: float, count: int) -> None:
        """``count`` requests got a token ``seconds`` after their previous one."""

    def finished(self, result: GenerationResult) -> None:
        """A generation ended, in whatever way."""
