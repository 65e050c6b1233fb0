"""ModelStreamInfer as Triton defines it: requests, and their answers piece by piece, on one call in both directions.

A request in fault is answered by an error and the others go on. A stream takes requests until its client has sent its
last one, for ``receive_timeout`` as every call does, or until the server leaves; what it has taken is then answered
whole. A stream that the server has ended so says it by UNAVAILABLE and ``UNANSWERED``: a request without a response was
never looked at, and can be sent again on a new one. None can know whether one more is on its way.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from serving.engine import GenerationResult, TokenEvent
from serving.errors import InvalidRequest, public
from serving.grpc.messages import read_streamed, stream_error, stream_response
from serving.grpc.peers import Outbox
from serving.kserve.sdk import pb
from serving.logs import request_line
from serving.service import TextService

log = logging.getLogger("serving.rpc")
STREAM = "ModelStreamInfer"
ENDED = "this stream has ended; a request on it without a response was not processed: send it on a new one"
UNANSWERED = ("unanswered", "unprocessed")  # trailing metadata
FIRST_SECONDS = 1.0  # that the first request of a stream has when the server leaves
NOTHING = TokenEvent("", None, None, 0, 0, 0.0)


class Streams:
    """All streams; each has at most ``at_once`` requests under way, and further ones wait on the client's side."""

    def __init__(self, service: TextService, at_once: int) -> None:
        self._service, self._at_once = service, at_once
        self._leaving = asyncio.Event()

    def drain(self) -> None:
        """End each stream when it has answered what it has taken; new ones take what comes at once."""
        self._leaving.set()

    async def answer(self, messages: AsyncIterator[bytes], context: aio.ServicerContext) -> None:
        """gRPC's handler; it is cancelled when the client has left."""
        stream = _Stream(self._service, context, self._at_once)
        reading = asyncio.ensure_future(stream.read(messages))
        leaving = asyncio.ensure_future(self._leaving.wait())
        asked = asyncio.ensure_future(stream.asked.wait())
        try:
            limit = self._service.config.receive_timeout
            await asyncio.wait([reading, leaving], timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                await asyncio.wait([reading, asked], timeout=FIRST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            complete = reading.done()
            reading.cancel()
            await stream.answered()
        finally:
            for task in (reading, leaving, asked):
                task.cancel()
            stream.close()
        if complete:
            reading.result()
        else:
            await context.abort(grpc.StatusCode.UNAVAILABLE, ENDED, (UNANSWERED,))


class _Stream:
    """One call.

    Attributes:
        asked: whether a request has come.
    """

    def __init__(self, service: TextService, context: aio.ServicerContext, at_once: int) -> None:
        self._service = service
        self._outbox = Outbox(context, service)
        self._room = asyncio.Semaphore(at_once)
        self._running: set[asyncio.Task[None]] = set()
        self.asked = asyncio.Event()

    async def read(self, messages: AsyncIterator[bytes]) -> None:
        """Take requests up to the client's last one."""
        await self._room.acquire()
        async for message in messages:
            task = asyncio.ensure_future(self._answer(message))
            self._running.add(task)
            task.add_done_callback(self._done)
            self.asked.set()
            await self._room.acquire()

    async def answered(self) -> None:
        """Wait until all that was asked is answered, and the answers are on their way."""
        while self._running:
            await asyncio.wait(self._running)
        await self._outbox.empty()

    def close(self) -> None:
        """Cancel what still runs, and drop its answers."""
        for task in self._running:
            task.cancel()
        self._outbox.close()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._room.release()

    async def _answer(self, data: bytes) -> None:
        """All responses to one request."""
        service, started = self._service, time.perf_counter()
        service.called = time.monotonic()
        outcomes: dict[int, GenerationResult | TokenEvent] = {}
        code, error_kind, request_id = "CANCELLED", "", ""  # unless it ends otherwise below
        try:
            message = _parsed(data)
            request_id = message.id
            request = read_streamed(message, service.config.model_name, service.config.max_prompts)
            request_id = request.id
            latest = [NOTHING] * len(request.generation.texts)
            async with aclosing(service.stream(request.generation)) as events:
                async for index, event in events:
                    latest[index], outcomes[index] = event, event.result or event
                    if event.text or event.finish_reason is not None:
                        response = stream_response(service.config.model_name, request, latest, index)
                        self._outbox.put(response.SerializeToString())
            code = "OK"
        except Exception as error:
            refusal, error_kind = public(error), service.count_error(error, STREAM, log)
            code = refusal.code
            self._outbox.put(stream_error(request_id, refusal).SerializeToString())
        finally:
            request_line("grpc", STREAM, code, time.perf_counter() - started, list(outcomes.values()), error_kind)


def _parsed(data: bytes) -> pb.ModelInferRequest:
    try:
        return pb.ModelInferRequest.FromString(data)
    except DecodeError:
        raise InvalidRequest("message", "the bytes are no ModelInferRequest") from None
