"""Asked to end, training saves where it is and ends; asked twice, it ends at once.

Kubernetes, Docker and a job's time limit ask by SIGTERM and kill some seconds later; Ctrl-C asks by SIGINT. Either is
heeded at the end of the step that is at work. The same signal again ends the process as it always did, and leaves the
last checkpoint as it is.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from model.errors import Terminated

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def heeding_signals() -> Iterator[Callable[[], int]]:
    """Have the body asked to end instead of ended: the function tells by which signal, 0 for none so far."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # which alone is told of signals
        yield lambda: 0
        return
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}

    def heed(number: int, _: FrameType | None) -> None:
        asked.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, heed)
    try:
        yield lambda: asked[0] if asked else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end(number: int, told: str) -> None:
    """End as the signal asks for: by an exit status of 143, or as Ctrl-C does.

    Raises:
        Terminated, KeyboardInterrupt: one of them.
    """
    raise KeyboardInterrupt(told) if number == signal.SIGINT else Terminated(told)
