"""From a bundle to a running KServe server, and from SIGTERM to a clean end.

python -m serving --bundle runs/latest/bundle
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from functools import partial
from typing import Any

import uvloop

from model.bundle import Bundle
from serving import logs
from serving.auth import Token
from serving.config import ServerConfig
from serving.engine import Engine, EngineConfig
from serving.engine.providers import CPU
from serving.errors import PermissionDenied
from serving.gpu import gpu_memory
from serving.grpc.server import GrpcServer
from serving.kserve.connection import LAST_WORDS, Connection
from serving.kserve.draining import Leaving
from serving.kserve.listeners import check_ports, listen
from serving.kserve.predictor import Predictor
from serving.kserve.sdk import ModelRepositoryExtension, ModelServer, RESTServer, app
from serving.metrics import Metrics
from serving.rest import register
from serving.service import TextService

log = logging.getLogger("serving")


def serve(config: ServerConfig, engine_config: EngineConfig) -> None:
    """Load the bundle, serve it until SIGTERM or SIGINT, and return when the last request is done.

    Raises:
        BundleError: when the bundle cannot be used.
        ConfigError: when a port is taken, or the token's file is of no use.
        EngineFailed: when the bundle does not run on this machine.
    """
    started = time.perf_counter()
    token = Token(config.token_file) if config.token_file else None
    check_ports(config)
    logs.configure()
    use_uvloop()
    bundle = Bundle.load(config.bundle)
    metrics = Metrics(config.model_name)
    engine = Engine(bundle, engine_config, observer=metrics)
    engine.start()
    try:
        service = TextService(engine, bundle, config, metrics)
        service.warm_up()
        metrics.begin(service.stats, None if engine.provider == CPU else gpu_memory())
        log.info(
            "serving",
            extra={
                "fields": {
                    **service.describe(),
                    "bundle": str(bundle.path),
                    "host": config.host,
                    "http_port": config.http_port,
                    "grpc_port": config.grpc_port,
                    "token": token is not None,
                    "load_seconds": round(time.perf_counter() - started, 3),
                }
            },
        )
        predictor = Predictor(service)
        register(app, predictor, token)
        sockets = listen(config, "http_port")
        if sys.stdout.isatty():
            print(f"open http://localhost:{config.http_port}/ to try the model; Ctrl-C ends the server", flush=True)
        build(predictor, sockets, token).start([predictor])
    finally:
        engine.close(drain=True, timeout=config.grace_period)
    log.info("stopped")
    if not engine.healthy:  # while it drained
        sys.exit(1)


def use_uvloop() -> None:
    """Have ``asyncio.run`` make libuv's loops: every protocol then costs a tenth less of the server's own CPU time.

    KServe's own setting reaches uvicorn, which does not make the loop here.
    """
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.set_event_loop(asyncio.new_event_loop())  # the SDK wants one to be there before it runs its own


def build(predictor: Predictor, sockets: list[socket.socket], token: Token | None = None) -> ModelServer:
    """A ModelServer that tells the truth about health, keeps its repository closed, and drains.

    REST is answered on ``sockets``; the SDK would listen on IPv4 alone, and for everyone.
    """
    service = predictor.service
    config = service.config
    grace = config.grace_period + int(LAST_WORDS) + 1  # kserve/draining.py is through before
    server = Server(
        service,
        sockets,
        http_port=config.http_port,
        workers=1,  # a second process would be a second engine with a batch of its own; scale by pods
        enable_grpc=False,  # its place is taken below
        enable_docs_url=False,
        enable_latency_logging=False,
        timeout_keep_alive=config.idle_timeout,
        grace_period=grace,
        ssl_certfile=None,  # or an environment variable of the SDK's would turn TLS on for one of the two ports
        ssl_keyfile=None,
    )
    server.model_repository_extension = ClosedRepository(server.registered_models)
    # It compares every address with every route, to name a log line that is switched off.
    RESTServer._add_middlewares = lambda self, app: None

    async def ready() -> bool:
        return service.ready

    async def live() -> dict[str, str]:
        return {"status": "alive" if service.live else "dead"}

    server.dataplane.ready = ready
    server.dataplane.live = live
    server.add_grpc(GrpcServer(predictor, grace_period=grace, token=token))
    return server


class Server(ModelServer):
    """ModelServer that leaves as ``kserve/draining.py`` says. The SDK would close REST at once, and gRPC after it."""

    def __init__(self, service: TextService, sockets: list[socket.socket], **settings: Any) -> None:
        super().__init__(**settings)
        self.service = service
        self.sockets = sockets

    def add_grpc(self, server: GrpcServer) -> None:
        """Run a gRPC server of ours in place of the SDK's."""
        self._grpc_server = server
        self.servers.append(server.start())

    async def _serve(self) -> None:
        uvicorn = self._rest_server._server
        uvicorn.config.http = partial(Connection, service=self.service)
        uvicorn.serve = partial(uvicorn.serve, sockets=self.sockets)
        leaving = Leaving(self.service, uvicorn, self._grpc_server)
        tasks = [asyncio.ensure_future(leaving.through()), asyncio.ensure_future(self._end_with_the_engine())]
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


class ClosedRepository(ModelRepositoryExtension):
    """Refuses to load and unload: by default anyone who can reach the port could take the model away."""

    async def load(self, model_name: str) -> None:
        """Refuse."""
        raise PermissionDenied("the repository API is closed on this server")

    unload = load
