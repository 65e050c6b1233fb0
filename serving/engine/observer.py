"""Who watches the engine: a metrics collector's interface, and a guard that keeps its mistakes from the requests."""

from __future__ import annotations

import logging
from typing import Protocol

from serving.engine.request import GenerationResult
from serving.errors import ServingError

log = logging.getLogger("serving.engine")


class Observer(Protocol):
    """What a metrics collector may implement; called in the engine thread, so it has to be cheap."""

    def step(self, rows: int, seconds: float) -> None:
        """One decode run of ``rows`` rows."""

    def interval(self, seconds: float, count: int) -> None:
        """``count`` rows got a token ``seconds`` after their previous one."""

    def finished(self, result: GenerationResult) -> None:
        """A generation ended, in whatever way."""

    def rejected(self, error: ServingError) -> None:
        """A request was refused at the border (called in the caller's thread)."""


class Guarded:
    """An observer, or none, whose exceptions reach nobody: of each method the first one is logged."""

    def __init__(self, observer: Observer | None) -> None:
        self._observer = observer
        self._failed: set[str] = set()

    def step(self, rows: int, seconds: float) -> None:
        """See :class:`Observer`."""
        self._tell("step", rows, seconds)

    def interval(self, seconds: float, count: int) -> None:
        """See :class:`Observer`."""
        self._tell("interval", seconds, count)

    def finished(self, result: GenerationResult) -> None:
        """See :class:`Observer`."""
        self._tell("finished", result)

    def rejected(self, error: ServingError) -> None:
        """See :class:`Observer`."""
        self._tell("rejected", error)

    def _tell(self, method: str, *values: object) -> None:
        if self._observer is None:
            return
        try:
            getattr(self._observer, method)(*values)
        except Exception:
            if method not in self._failed:  # at hundreds of steps a second, one line has to do
                self._failed.add(method)
                log.exception("the observer's %s raised; no request is touched, figures are missing from here", method)
