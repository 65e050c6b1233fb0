"""Work on batches, three at a time, whose results come in order; memory holds a few of them, however many there are.

While one batch ends, where ever fewer of the engine's slots are in use, the next one fills them. A batch is what there
is when it is made, up to a limit: so a pipe that is fed slowly is answered line by line, and a fast one in bulk. Of a
fast one the first batches may be a few lines, too, all that has been read by then: with a third at work the engine has
enough to do beside them.
"""

import itertools
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

BATCH_TEXTS = 512
BATCH_CHARS = 1 << 17

T = TypeVar("T")
R = TypeVar("R")


def in_order(batches: Iterable[T], work: Callable[[T], R]) -> Generator[R]:
    """``work`` on each batch, in the order of the batches; three are worked on at once.

    Raises:
        Exception: whatever reading the batches, or work on one, has raised, once all results before it have come.
    """
    pool = ThreadPoolExecutor(3, "translating")
    results: queue.Queue[Future[R] | None] = queue.Queue(maxsize=1)

    def feed() -> None:
        try:
            for batch in batches:
                results.put(pool.submit(work, batch))
        except BaseException as error:
            failed: Future[R] = Future()
            failed.set_exception(error)
            results.put(failed)
        results.put(None)

    # A daemon: it may wait for input that never comes, or for a reader of its results who has left.
    threading.Thread(target=feed, name="reading", daemon=True).start()
    try:
        while (future := results.get()) is not None:
            yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def whole_batches(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """The items in full batches of BATCH_TEXTS, or of at least BATCH_CHARS by ``size``."""
    rest = iter(items)
    while batch := list(_up_to(rest, size)):
        yield batch


def ready_batches(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """The items in batches of what has come; at least one is waited for."""
    waiting: queue.Queue[T | BaseException | None] = queue.Queue(maxsize=2 * BATCH_TEXTS)

    def fill() -> None:
        try:
            for item in items:
                waiting.put(item)
        except BaseException as error:
            waiting.put(error)
        waiting.put(None)

    threading.Thread(target=fill, name="waiting", daemon=True).start()

    def come() -> Iterator[T]:
        """What is there, after the first."""
        try:
            first = waiting.get()
            while first is not None:
                if isinstance(first, BaseException):
                    raise first
                yield first
                first = waiting.get_nowait()
            waiting.put(None)
        except queue.Empty:
            pass

    while batch := list(_up_to(come(), size)):
        yield batch


def _up_to(items: Iterator[T], size: Callable[[T], int]) -> Iterator[T]:
    chars = 0
    for item in itertools.islice(items, BATCH_TEXTS):
        yield item
        chars += size(item)
        if chars >= BATCH_CHARS:
            return
