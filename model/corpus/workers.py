"""Work in several processes, given back in the order of its tasks: so no result depends on the number of processes.

Processes are spawned, not forked: the threads of what reads from stores would not survive a fork. That takes a second
or so, in which a small corpus is finished.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import Any, TypeVar

from model.corpus.files import CorpusError

AHEAD = 4  # tasks of each process on their way: memory holds no more of them
SMALL_ROWS = 30_000  # a corpus of no more is prepared in one process
Label = TypeVar("Label")
Task = TypeVar("Task")
Result = TypeVar("Result")


def in_order(
    make: Callable[..., Callable[[Task], Result]],
    arguments: tuple[Any, ...],
    tasks: Iterable[tuple[Label, Task]],
    processes: int,
    small: int,
) -> Iterator[tuple[Label, Result]]:
    """The result of every task, with the task's label, which stays in this process.

    Args:
        make: makes what does the work from ``arguments``, once in each process.
        processes: to work in; with 1 all is done in this one.
        small: so many tasks, and fewer, are done in this process, for no other would be worth its start.

    Raises:
        CorpusError: when a process was killed.
    """
    rest = iter(tasks)
    few = [*islice(rest, small + 1)] if processes > 1 else []
    if len(few) <= small:
        work = make(*arguments)
        yield from ((label, work(task)) for label, task in chain(few, rest))
        return
    try:
        yield from pooled(make, arguments, chain(few, rest), processes)
    except BrokenProcessPool:
        raise CorpusError(
            "a process of the preparation was killed, as a system does that runs out of memory: "
            "give it more, or take fewer (corpus.processes=1)"
        ) from None


def pooled(
    make: Callable[..., Callable[[Task], Result]],
    arguments: tuple[Any, ...],
    tasks: Iterable[tuple[Label, Task]],
    processes: int,
) -> Iterator[tuple[Label, Result]]:
    """As :func:`in_order`, with all work in other processes.

    Raises:
        BrokenProcessPool: when a process was killed.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _begin, (make, arguments))
    waiting = deque[tuple[Label, Future[Any]]]()
    try:
        for label, task in tasks:
            waiting.append((label, pool.submit(_work, task)))
            if len(waiting) > AHEAD * processes:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


_worker: list[Any] = []  # of a process of the pool, the one that works in it


def _begin(make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Get ready in a new process, which leaves an interruption to its parent, and does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker.append(make(*arguments))


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _work(task: Any) -> Any:
    return _worker[0](task)
