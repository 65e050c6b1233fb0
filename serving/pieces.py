"""A text in several pieces: generated side by side, told in order, and put together to one result.

This is the seam between a text and its pieces: :class:`CutText` becomes requests to the engine here, and what comes of
them becomes a text again.

A text's first piece takes its place in the queue, or is refused, like any request. Each further one waits until less
than half of the queue is taken, and at most WINDOW of a text are on their way from the queue to the caller: so a long
text is never refused for its own length, leaves others their turn, and holds little memory.

    async with aclosing(tell(engine, text, aside)) as events: ...
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

from model.text.pieces import Piece
from model.text.spans import Attempt, attempts
from serving.attempts import Kept, combined, reason_of
from serving.engine import Engine, GenerationRequest, GenerationResult, TokenEvent
from serving.engine.aio import Generation
from serving.engine.limits import Limits

# 600 sentences of the demo take 6 % more processor time than all of them handed to the engine at once; with 16, 30 %.
WINDOW = 32
_READ = 8  # pieces cut at a time: a few milliseconds of work

Aside = Callable[[Callable[[], Any]], Awaitable[Any]]


@dataclass(frozen=True)
class CutText:
    """A text that is translated piece by piece.

    Attributes:
        cut: begins to cut it, from its beginning.
        head: its first pieces; all of them but where it is long.
        template: the request of each piece, but for its prompt.
        limits: what a request may ask for.
        encode: makes a part of a piece a prompt.
        attempts: the ways to translate a piece, see model.text.spans.
        finish: makes what was translated the text that is told, all at once at its end.
        about: facts that are told beside the text.
    """

    cut: Callable[[], Iterator[Piece]]
    head: list[Piece]
    template: GenerationRequest
    limits: Limits
    encode: Callable[[str], list[int]]
    attempts: Callable[[str], list[Attempt]] = attempts
    finish: Callable[[str], str] | None = None
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def rest(self) -> Iterator[Piece]:
        """The pieces behind the head."""
        return islice(self.cut(), len(self.head), None) if self.head[-1].prompt else iter(())

    @property
    def is_one_sentence(self) -> bool:
        """Whether one piece is all of it, without a gap, and one request all that can become of it."""
        gaps, prompts = [piece.gap for piece in self.head], [bool(piece.prompt) for piece in self.head]
        one = gaps == ["", ""] and prompts == [True, False]
        return one and not (self.about or self.finish or self.ways(self.head[0]))

    def ways(self, piece: Piece) -> list[Attempt]:
        """The ways to translate a piece; none where it is but a prompt.

        With log-probabilities there are none, as they are of a text as the model wrote it.
        """
        ways = self.attempts(piece.text) if self.template.logprobs is None else []
        return [] if [way.sources for way in ways] == [(piece.text,)] else ways

    def request(self, prompt: list[int]) -> GenerationRequest:
        """The request of one piece; ``max_tokens`` is of each, as far as there is room."""
        most, room = self.template.max_tokens, self.limits.room(len(prompt))
        return replace(
            self.template,
            prompt_ids=prompt,
            max_tokens=self.limits.translation_tokens(len(prompt)) if most is None else min(most, room),
        )

    def samples(self, count: int) -> list["CutText"]:
        """``count`` of it that differ in their seeds, as :meth:`GenerationRequest.samples` has them."""
        return [replace(self, template=template) for template in self.template.samples(count)]


def _next_few(pieces: Iterator[Piece]) -> list[Piece]:
    """The next few pieces; none after the last."""
    return list(islice(pieces, _READ))


async def tell(engine: Engine, text: CutText, aside: Aside, steps: bool = True) -> AsyncGenerator[TokenEvent, None]:
    """The events of a text, those of each piece after those of the piece before it; the last one carries the result.

    Args:
        aside: awaits what takes its time, where that does not hold others up.
        steps: whether each token is an event; else a piece is.

    Raises:
        ServingError: before the first event what refuses the first piece; later what ends any piece by an error.
    """
    window, joined = _Window(engine, text, aside, steps and not text.finish), _Joined(text)
    try:
        await window.open_one()
        await asyncio.sleep(0)  # the other texts of the call first take their places in the queue, too
        await window.fill()
        while window.open:
            gap, generation = window.open[0]
            event = await generation.event()
            if event.result is None:
                yield joined.event(gap, event)
                continue
            window.open.popleft()
            joined.add(gap, event.result)
            if event.finish_reason == "stop_sequence":
                window.close()
            await window.fill()
            if not window.open:
                last = joined.last(gap, event, window.rest, window.stopped)
                yield await _finished(last, text.finish, aside) if text.finish else last
            elif not text.finish:
                yield joined.event(gap, event)
    finally:
        window.close()


async def _finished(last: TokenEvent, finish: Callable[[str], str], aside: Aside) -> TokenEvent:
    assert last.result is not None
    last.result.text = await aside(partial(finish, last.result.text))
    return last._replace(text=last.result.text)


class _Window:
    """The pieces that are with the engine and not told yet, in order.

    Attributes:
        rest: the gap behind the last piece; "" before that is cut.
        stopped: whether a stop string in a gap ends the text there.
    """

    def __init__(self, engine: Engine, text: CutText, aside: Aside, steps: bool) -> None:
        self.open: deque[tuple[str, Generation | Kept]] = deque()
        self.rest, self.stopped = "", False
        self._engine, self._text, self._aside, self._steps = engine, text, aside, steps
        self._cut, self._rest = deque(text.head), text.rest
        self._begun = self._ended = False

    async def fill(self) -> None:
        """Open pieces as far as there is room for them; one at least, that the text may go on."""
        while not self._ended and len(self.open) < WINDOW and not (self.open and self._engine.crowded):
            await self.open_one()

    async def open_one(self) -> None:
        """Submit the next piece, or find the end of the text."""
        if not self._cut:
            self._cut.extend(await self._aside(partial(_next_few, self._rest)))
        piece = self._cut.popleft()
        gap, prompt, _ = piece
        if self._begun and (stops := [at for stop in self._text.template.stop if (at := gap.find(stop)) >= 0]):
            gap, prompt, self.stopped = gap[: min(stops)], [], True
        if not prompt:
            self.rest, self._ended = gap, True
            return
        self.open.append((gap, self._submitted(piece)))
        self._begun = True

    def _submitted(self, piece: Piece) -> Generation | Kept:
        text, bounded = self._text, not self._begun
        ways = text.ways(piece)
        if not ways:
            return Generation(self._engine, text.request(piece.prompt), stream=self._steps, bounded=bounded)
        return Kept(self._engine, ways, lambda source: text.request(text.encode(source)), bounded)

    def close(self) -> None:
        """Cancel what is open, and open no more: the text ends here."""
        self.rest, self._ended = "", True
        for _, generation in self.open:
            generation.cancel()
        self.open.clear()


class _Joined:
    """What has been told of a text so far, and the result that it comes to."""

    def __init__(self, text: CutText) -> None:
        self._text = text
        self._parts: list[str] = []
        self._results: list[GenerationResult] = []
        self._began = time.perf_counter()
        self._prompt = self._generated = 0  # tokens of the pieces that have ended
        self._fresh = True  # whether the next event is the first of its piece

    def event(self, gap: str, event: TokenEvent) -> TokenEvent:
        """An event of the piece that is being told as one of the whole text, which goes on after it."""
        text, logprobs, ended = event.text, event.logprobs, event.result is not None
        if ended and event.token_id is None:
            logprobs = None  # of the piece's end, which is none of the text
        if self._fresh:
            text, logprobs = gap + text, logprobs and logprobs._replace(gap=gap)
        self._fresh = ended
        prompt, generated = (0, 0) if ended else (event.prompt_tokens, event.generated_tokens)  # see add
        prompt, generated = self._prompt + prompt, self._generated + generated
        return TokenEvent(text, event.token_id, None, prompt, generated, event.time, None, logprobs)

    def add(self, gap: str, result: GenerationResult) -> None:
        """Take over the result of a piece."""
        # What is finished is told apart by its lines.
        self._parts += gap, result.text.replace("\n", " ") if self._text.finish else result.text
        self._results.append(result)
        self._prompt += result.prompt_tokens
        self._generated += result.generated_tokens
        if result.logprobs:
            result.logprobs[0] = result.logprobs[0]._replace(gap=gap)

    def last(self, gap: str, event: TokenEvent, rest: str, stopped: bool) -> TokenEvent:
        """The last event of the last piece as that of the text, with ``rest`` behind it."""
        told, results = self.event(gap, event), self._results
        reason = "stop_sequence" if stopped and reason_of(results) != "length" else reason_of(results)
        detailed = self._text.template.logprobs is not None
        result = combined(results, "".join(self._parts) + rest, reason, self._began, detailed)
        result.about = self._text.about
        logprobs = event.logprobs if event.token_id is None else told.logprobs
        return told._replace(text=told.text + rest, finish_reason=reason, result=result, logprobs=logprobs)
