"""Several streams as one, for a call of many texts.

async with aclosing(merged({0: events(a), 1: events(b)})) as pairs:
    async for index, item in pairs: ...
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TypeVar

Item = TypeVar("Item")


async def merged(
    streams: Mapping[int, AsyncGenerator[Item, None]],
) -> AsyncGenerator[tuple[int, Item | Exception], None]:
    """What the streams yield, as it comes; a stream that raises yields its exception as its last item.

    All are begun in one turn of the event loop and in the given order, before anything is yielded. Closing this
    generator closes them.
    """
    queue: asyncio.Queue[tuple[int, Item | Exception] | None] = asyncio.Queue()

    async def pump(index: int, stream: AsyncGenerator[Item, None]) -> None:
        try:
            async with aclosing(stream) as items:
                async for item in items:
                    queue.put_nowait((index, item))
        except Exception as error:
            queue.put_nowait((index, error))
        queue.put_nowait(None)

    tasks = [asyncio.ensure_future(pump(index, stream)) for index, stream in streams.items()]
    left = len(tasks)
    try:
        while left:
            if (found := await queue.get()) is None:
                left -= 1
            else:
                yield found
    finally:
        for task in tasks:
            task.cancel()
