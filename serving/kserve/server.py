"""KServe's ModelServer as this project runs it: all that is changed in it, and in the uvicorn server that it makes.

From SIGTERM to the last answer it fails no call. Whoever sends calls here learns late that this server is about to
leave, and connections that are open lead here for longer still. So it first stops being ready and answers on, closing
each connection with its answer (``Connection: close``; over gRPC a GOAWAY, and the end of each stream). When no
connection is open any more and nothing has come for a moment, or after ``drain_delay``, it stops listening, finishes
what runs within ``grace_period``, and is gone. An open connection is waited for because a call may be on its way over
it, which no server can see; gRPC's, until each of them has been sent away.

    Server(service, sockets, grpc).run()
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from functools import partial
from types import FrameType
from typing import Protocol

import uvicorn
import uvloop

from serving.kserve.connection import SETTLED, Connection
from serving.kserve.sdk import Model, ModelServer
from serving.readers import LAST_WORDS
from serving.service import TextService

log = logging.getLogger("serving")
LOOK_SECONDS = 0.05
MARGIN = int(LAST_WORDS) + 1  # seconds that uvicorn and gRPC wait beyond the grace period, which ends here


class Grpc(Protocol):
    """A gRPC server in place of the SDK's."""

    async def serve(self) -> None:
        """Serve until it is stopped."""

    def connections(self) -> int:
        """How many are open."""

    def drain(self) -> None:
        """End each stream with what it has taken."""

    def leave(self) -> float:
        """Take no new connections; seconds after which every open one has been sent away, with nothing lost."""

    async def stop(self, grace: float) -> None:
        """Take no more calls and finish those that run, within ``grace`` seconds."""


class Server(ModelServer):
    """Leaves by :class:`Shutdown`: the SDK would close REST at once, and gRPC after it.

    Args:
        sockets: where REST is answered; the SDK would listen on IPv4 alone, and for everyone.
    """

    def __init__(self, service: TextService, sockets: list[socket.socket], grpc: Grpc) -> None:
        config = service.config
        super().__init__(
            http_port=config.http_port,
            workers=1,  # a second process would be a second engine with a batch of its own; scale by pods
            enable_grpc=False,  # its place is taken below
            enable_docs_url=False,
            enable_latency_logging=False,
            timeout_keep_alive=config.idle_timeout,
            grace_period=config.grace_period + MARGIN,
            ssl_certfile=None,  # or an environment variable of the SDK's would turn TLS on for one of the two ports
            ssl_keyfile=None,
        )
        self.service, self.sockets, self.grpc = service, sockets, grpc
        self.stopped = asyncio.Event()
        self.servers.append(grpc.serve())

    def run(self) -> None:
        """Serve until a signal, and leave.

        ``asyncio.run`` makes libuv's loops from here on: every protocol then costs a tenth less of the server's own CPU
        time. KServe's own setting reaches uvicorn, which does not make the loop here.
        """
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.set_event_loop(asyncio.new_event_loop())  # the SDK wants one to be there before it runs its own
        self.servers.append(self.stopped.wait())  # all of them have to end
        # So that KServe's address lists one. It is never asked to predict: the SDK's timers, look-ups and conversions
        # around a call cost more than a short generation does; ``rest/`` and ``grpc/`` call the service themselves.
        model = Model(self.service.config.model_name)
        model.ready = True
        self.start([model])

    def stop(self, sig: int) -> None:
        """REST has drained, and uvicorn repeats the signal; gRPC calls may still be running."""
        self.service.draining = True
        self.stopped.set()

    async def _serve(self) -> None:
        rest = self._rest_server
        # It compares every address with every route, to name a log line that is switched off.
        rest._add_middlewares = lambda app: None
        server = rest._server
        server.config.http = partial(Connection, service=self.service)
        server.serve = partial(server.serve, sockets=self.sockets)
        shutdown = Shutdown(self.service, server, self.grpc)
        tasks = [asyncio.ensure_future(shutdown.run()), asyncio.ensure_future(self._end_with_the_engine())]
        try:
            await super()._serve()
        finally:
            for task in tasks:
                task.cancel()

    async def _end_with_the_engine(self) -> None:
        """End the process when the engine has failed: whoever restarts it need not wait for three liveness probes."""
        while self.service.engine.healthy:
            await asyncio.sleep(LOOK_SECONDS)
        log.error("the engine has died; its callers are told, and the process ends with status 1")
        await asyncio.sleep(LAST_WORDS)
        os._exit(1)  # nothing that hangs, a thread or a device, may keep it


class Shutdown:
    """Takes the place of uvicorn's own handling of signals."""

    def __init__(self, service: TextService, rest: uvicorn.Server, grpc: Grpc) -> None:
        self._service, self._rest, self._grpc = service, rest, grpc
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
        self._grpc.drain()
        draining = self._signal == signal.SIGTERM and self._service.config.drain_delay > 0
        log.info("leaving: %s", "not ready any more, and answering what still comes" if draining else "no more calls")
        if draining:
            await self._settled()
        self._stop_rest(self._signal, None)
        end = time.monotonic() + grace
        if draining:
            end += self._grpc.leave()
            await self._sent_away(end)
        stopping = asyncio.ensure_future(self._grpc.stop(grace + MARGIN))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._second.wait(), end - time.monotonic())
        why = "a second signal" if self._second.is_set() else "the grace period is over"
        log.warning("%s; what still runs ends with an error", why)
        await asyncio.to_thread(self._service.engine.close, drain=False)
        await asyncio.sleep(LAST_WORDS if not self._second.is_set() else LOOK_SECONDS)
        for connection in self._connections():
            connection.transport.abort()
        await self._grpc.stop(0)
        await stopping

    async def _settled(self) -> None:
        """Wait until nothing runs, is open or has just come; not for ever, and not after a second signal."""
        service, started = self._service, time.monotonic()
        while not self._second.is_set() and (now := time.monotonic()) < started + service.config.drain_delay:
            stats = service.engine.stats()
            quiet = not stats["running"] + stats["waiting"] and now > max(started, service.called) + SETTLED
            if quiet and not self._connections() and not self._grpc.connections():
                break
            await asyncio.sleep(LOOK_SECONDS)

    async def _sent_away(self, end: float) -> None:
        """Wait until gRPC's connections have closed, each after its GOAWAY and last answer: stopping would fail calls
        that have come and were not looked at yet.
        """
        while not self._second.is_set() and time.monotonic() < end and self._grpc.connections():
            await asyncio.sleep(LOOK_SECONDS)

    def _connections(self) -> list[Connection]:
        return list(self._rest.server_state.connections)  # type: ignore[arg-type]
