"""A list of texts through the service: longest first, in batches side by side, answers in the order of the list.

A batch is one request: what its texts need beside their generations, a thread's turn, a task, a wake-up of the loop, is
needed once for all of them. A list of any length holds no more than its share of the places.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from serving.errors import InvalidRequest, ServingError
from serving.service import TextService, together
from serving.texts import TextRequest

# Texts of all callers together that are with the engine; the next one waits.
PLACES = 128
BATCH = 16

Make = Callable[[list[str]], TextRequest]  # what is asked of some of a caller's texts


class Lists:
    """Lists of texts, and single ones, of all callers of a service; called in its loop."""

    def __init__(self, service: TextService) -> None:
        self._service, self._places = service, asyncio.Semaphore(PLACES)

    async def one(self, text: str, make: Make) -> list[str]:
        """The answers to a text, one for each sample.

        Raises:
            ServingError: as :meth:`TextService.complete`.
        """
        async with self._places:
            return [result.text for result in await self._service.complete(make([text]))]

    async def all(self, texts: Sequence[str], make: Make) -> list[list[str]]:
        """The answers to each text, in order. The first error ends what has been begun.

        Raises:
            ServingError: of a text; an InvalidRequest names it by its index.
        """
        answers: list[list[str]] = [[] for _ in texts]
        # Longest first, as Engine.generate does: neighbours then have like lengths, and the tail is short.
        waiting = iter(sorted(range(len(texts)), key=lambda index: -len(texts[index])))

        async def work() -> None:
            while indices := await self._next(waiting):
                try:
                    found = await self._batch([texts[index] for index in indices], make, indices)
                finally:
                    for _ in indices:
                        self._places.release()
                for index, answer in zip(indices, found, strict=True):
                    answers[index] = answer

        await together([work() for _ in range(min(len(texts), PLACES // BATCH))])
        return answers

    async def _next(self, waiting: Iterator[int]) -> list[int]:
        """The next texts of a list, as many as there are places for, at most BATCH; each has its place."""
        await self._places.acquire()
        found = list(islice(waiting, 1))
        while found and len(found) < BATCH and not self._places.locked() and (more := next(waiting, None)) is not None:
            await self._places.acquire()  # which is at once
            found.append(more)
        if not found:
            self._places.release()
        return found

    async def _batch(self, texts: list[str], make: Make, indices: Sequence[int]) -> list[list[str]]:
        try:
            request = make(texts)
            results = await self._service.complete(request)
        except InvalidRequest as error:
            raise _located(error, 0, indices[0]) from None
        count = request.samples
        for at, result in enumerate(results):
            if result.error is not None:
                raise _located(result.error, at // count, indices[at // count])
        found = [result.text for result in results]
        return [found[at : at + count] for at in range(0, len(found), count)]


def _located(error: ServingError, at: int, index: int) -> ServingError:
    """The error of text ``at`` of a batch as that of text ``index`` of a list."""
    if not isinstance(error, InvalidRequest):
        return error
    own = error.field in ("text", f"text[{at}]")
    return InvalidRequest(f"text[{index}]", error.message if own else str(error))
