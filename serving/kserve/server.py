"""KServe's ModelServer as this project runs it: all that is changed in it, and in the uvicorn server that it makes.

Server(service, sockets, grpc.serve(), grpc.stop).run()
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from functools import partial

import uvloop

from serving.kserve.connection import Connection
from serving.kserve.sdk import Model, ModelServer
from serving.kserve.shutdown import MARGIN, Shutdown
from serving.readers import LAST_WORDS
from serving.service import TextService

log = logging.getLogger("serving")


class Server(ModelServer):
    """Leaves as ``shutdown.py`` says: the SDK would close REST at once, and gRPC after it.

    Args:
        sockets: where REST is answered; the SDK would listen on IPv4 alone, and for everyone.
        grpc: a gRPC server in place of the SDK's, which runs until it is stopped.
        stop_grpc: stops it, given the seconds that its running calls get.
    """

    def __init__(
        self,
        service: TextService,
        sockets: list[socket.socket],
        grpc: Awaitable[None],
        stop_grpc: Callable[[float], Awaitable[None]],
    ) -> None:
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
        self.service, self.sockets, self.stop_grpc = service, sockets, stop_grpc
        self.stopped = asyncio.Event()
        self.servers.append(grpc)

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
        """Take no new requests: uvicorn repeats the signal when REST has drained; gRPC calls may still be running."""
        self.service.draining = self.service.closed = True
        self.stopped.set()

    async def _serve(self) -> None:
        rest = self._rest_server
        # It compares every address with every route, to name a log line that is switched off.
        rest._add_middlewares = lambda app: None
        uvicorn = rest._server
        uvicorn.config.http = partial(Connection, service=self.service)
        uvicorn.serve = partial(uvicorn.serve, sockets=self.sockets)
        shutdown = Shutdown(self.service, uvicorn, self.stop_grpc)
        tasks = [asyncio.ensure_future(shutdown.run()), asyncio.ensure_future(self._end_with_the_engine())]
        try:
            await super()._serve()
        finally:
            for task in tasks:
                task.cancel()

    async def _end_with_the_engine(self) -> None:
        """End the process when the engine has failed: whoever restarts it need not wait for three liveness probes."""
        while self.service.engine.healthy:
            await asyncio.sleep(0.05)
        log.error("the engine has died; its callers are told, and the process ends with status 1")
        await asyncio.sleep(LAST_WORDS)
        os._exit(1)  # nothing that hangs, a thread or a device, may keep it
