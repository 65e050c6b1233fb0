"""Who watches the engine: a metrics collector's interface, and a guard that keeps its mistakes from the requests."""

from __future__ import annotations

import logging
from typing import Literal, Protocol

from serving.engine.generation import GenerationResult

log = logging.getLogger("serving.engine")


class Observer(Protocol):
    """What a metrics collector may implement; called in the engine thread, so it has to be cheap."""

    def step(self, slots: int, seconds: float) -> None:
        """One decode run of ``slots`` used slots."""

    def interval(self, seconds: float, count: int) -> None:
        """``count`` requests got a token ``seconds`` after their previous one."""

    def finished(self, result: GenerationResult) -> None:
        """A generation ended, in whatever way."""


class Guarded:
    """An observer, or none, whose exceptions reach nobody: of each method the first one is logged."""

    def __init__(self, observer: Observer | None) -> None:
        self._observer = observer
        self._failed: set[str] = set()

    def call(self, method: Literal["step", "interval", "finished"], *values: object) -> None:
        """Tell the observer."""
        if self._observer is None:
            return
        try:
            getattr(self._observer, method)(*values)
        except Exception:
            if method not in self._failed:  # at hundreds of steps a second, one line has to do
                self._failed.add(method)
                log.exception("the observer's %s raised; no request is touched, figures are missing from here", method)
