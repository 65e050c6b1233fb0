"""From a bundle to a running KServe server, and from SIGTERM to a clean end.

python -m serving --bundle runs/latest/bundle
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import Any

import grpc

from model.bundle import Bundle
from model.config import ConfigError
from serving import logs
from serving.config import ServerConfig
from serving.engine import Engine, EngineConfig
from serving.metrics import Metrics
from serving.predictor import Predictor, check_grpc
from serving.routes import register
from serving.sdk import (
    GrpcException,
    InferenceServicer,
    ModelRepositoryExtension,
    ModelServer,
    app,
    model_server_args,
)
from serving.service import TextService

log = logging.getLogger("serving")


def serve(config: ServerConfig, engine_config: EngineConfig) -> None:
    """Load the bundle, serve it until SIGTERM or SIGINT, and return when the last request is done.

    Raises:
        BundleError: when the bundle cannot be used.
        ConfigError: when a port is taken.
        EngineFailed: when the bundle does not run on this machine.
    """
    started = time.perf_counter()
    check_ports(config)
    logs.configure()
    bundle = Bundle.load(config.bundle)
    metrics = Metrics(config.model_name)
    engine = Engine(bundle, engine_config, observer=metrics)
    engine.start()
    try:
        service = TextService(engine, bundle, config, metrics)
        service.warm_up()
        metrics.begin(engine.stats)
        log.info(
            "serving",
            extra={
                "fields": {
                    **service.describe(),
                    "bundle": str(bundle.path),
                    "http_port": config.http_port,
                    "grpc_port": config.grpc_port,
                    "load_seconds": round(time.perf_counter() - started, 3),
                }
            },
        )
        predictor = Predictor(service)
        register(app, predictor)
        build(predictor).start([predictor])
    finally:
        engine.close(drain=True, timeout=config.grace_period)
    log.info("stopped")


def check_ports(config: ServerConfig) -> None:
    """Find out before the model is loaded whether both ports are free.

    gRPC would not notice: it shares a port that another server listens on, and each gets some of the calls.

    Raises:
        ConfigError: naming the port.
    """
    for name in ("http_port", "grpc_port"):
        port = getattr(config, name)
        with socket.socket() as found:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                found.bind(("", port))
            except OSError as error:
                raise ConfigError(
                    f"{name} {port} cannot be used ({error.strerror}); choose another with --{name}"
                ) from None


def build(predictor: Predictor) -> ModelServer:
    """A ModelServer that tells the truth about health, keeps its repository closed, and drains."""
    service = predictor.service
    config = service.config
    server = Server(
        service,
        http_port=config.http_port,
        grpc_port=config.grpc_port,
        workers=1,  # a second process would be a second engine with a batch of its own; scale by pods
        enable_grpc=True,
        enable_docs_url=False,
        enable_latency_logging=False,
        grace_period=config.grace_period,
    )
    # Only the command line could set these; ours was hidden from the SDK (serving/sdk.py).
    model_server_args.grpc_max_receive_message_length = config.max_body_bytes
    InferenceServicer.validate_grpc_request = classmethod(lambda cls, request: check_grpc(request))
    server.model_repository_extension = ClosedRepository(server.registered_models)

    async def ready() -> bool:
        return service.ready

    async def live() -> dict[str, str]:
        return {"status": "alive" if service.live else "dead"}

    server.dataplane.ready = ready
    server.dataplane.live = live
    describe = server.dataplane.model_metadata

    async def model_metadata(model_name: str) -> dict[str, Any]:
        found = await describe(model_name)  # raises for an unknown name
        return {**found, **predictor.metadata()}

    server.dataplane.model_metadata = model_metadata
    server.dataplane.metadata = predictor.server_metadata
    return server


class Server(ModelServer):
    """ModelServer that stops admitting as soon as it is told to stop.

    The SDK learns of SIGTERM only after REST has drained, and would take new gRPC calls until then.
    """

    def __init__(self, service: TextService, **settings: Any) -> None:
        super().__init__(**settings)
        self.service = service

    async def _serve(self) -> None:
        watcher = asyncio.ensure_future(self._watch())
        try:
            await super()._serve()
        finally:
            watcher.cancel()

    async def _watch(self) -> None:
        uvicorn = self._rest_server._server
        died = False
        while True:
            await asyncio.sleep(0.05)
            self.service.draining |= uvicorn.should_exit
            if not (self.service.engine.healthy or self.service.draining or died):
                died = True
                log.error("the engine has died; liveness is off, the process has to be restarted")


class ClosedRepository(ModelRepositoryExtension):
    """Refuses to load and unload: by default anyone who can reach the port could take the model away."""

    async def load(self, model_name: str) -> None:
        """Refuse."""
        raise GrpcException("the repository API is closed on this server", grpc.StatusCode.PERMISSION_DENIED)

    unload = load
