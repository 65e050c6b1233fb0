"""From SIGTERM to the last answer: how a server leaves without failing a call.

Whoever sends calls here learns late that this server is about to leave, and connections that are open lead here for
longer still. So it first stops being ready and answers on, closing each connection with its answer (``Connection:
close``; over gRPC a GOAWAY). When nothing has come for a moment, or after ``drain_delay``, it stops listening, finishes
what runs within ``grace_period``, and is gone.

    shutdown = Shutdown(service, uvicorn_server, grpc_server.stop)
    await shutdown.run()
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from types import FrameType

import uvicorn

from serving.kserve.connection import SETTLED, Connection
from serving.readers import LAST_WORDS
from serving.service import TextService

log = logging.getLogger("serving")
LOOK_SECONDS = 0.05
MARGIN = int(LAST_WORDS) + 1  # seconds that uvicorn and gRPC wait beyond the grace period, which ends here


class Shutdown:
    """Takes the place of uvicorn's own handling of signals.

    Args:
        stop_grpc: stops gRPC's server, given the seconds that its running calls get.
    """

    def __init__(
        self, service: TextService, rest: uvicorn.Server, stop_grpc: Callable[[float], Awaitable[None]]
    ) -> None:
        self._service, self._rest, self._stop_grpc = service, rest, stop_grpc
        self._loop = asyncio.get_running_loop()
        self._first, self._second = asyncio.Event(), asyncio.Event()
        self._signal = 0
        self._stop_rest = rest.handle_exit
        rest.handle_exit = self._on_signal  # type: ignore[method-assign]

    def _on_signal(self, sig: int, frame: FrameType | None) -> None:
        event = self._second if self._service.draining else self._first
        self._signal = self._signal or sig
        self._service.draining = True
        self._loop.call_soon_threadsafe(event.set)

    async def run(self) -> None:
        """Wait for a signal, and leave."""
        await self._first.wait()
        grace = self._service.config.grace_period
        for connection in self._connections():
            connection.drain()
        draining = self._signal == signal.SIGTERM and self._service.config.drain_delay > 0
        log.info("leaving: %s", "not ready any more, and answering what still comes" if draining else "no more calls")
        if draining:
            await self._settled()
        self._stop_rest(self._signal, None)
        stopping = asyncio.ensure_future(self._stop_grpc(grace + MARGIN))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._second.wait(), grace)
        why = "a second signal" if self._second.is_set() else "the grace period is over"
        log.warning("%s; what still runs ends with an error", why)
        await asyncio.to_thread(self._service.engine.close, drain=False)
        await asyncio.sleep(LAST_WORDS if not self._second.is_set() else LOOK_SECONDS)
        for connection in self._connections():
            connection.transport.abort()
        await self._stop_grpc(0)
        await stopping

    async def _settled(self) -> None:
        """Wait until nothing runs or has come for a moment, but not for ever, and not after a second signal."""
        service, started = self._service, time.monotonic()
        while not self._second.is_set() and (now := time.monotonic()) < started + service.config.drain_delay:
            stats = service.engine.stats()
            if not stats["running"] + stats["waiting"] and now > max(started, service.called) + SETTLED:
                break
            await asyncio.sleep(LOOK_SECONDS)

    def _connections(self) -> list[Connection]:
        return list(self._rest.server_state.connections)  # type: ignore[arg-type]
