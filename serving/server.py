"""From a bundle to a running server: the place where its parts are put together.

python -m serving --bundle runs/latest/bundle
"""

import logging
import sys
import time

from model.bundle import Bundle
from serving.auth import BearerToken
from serving.config import ServerConfig
from serving.engine import Engine, EngineConfig
from serving.engine.providers import CPU
from serving.grpc.server import GrpcServer
from serving.kserve.sdk import app
from serving.kserve.server import Server
from serving.listeners import check_ports, listen
from serving.logs import configure
from serving.metrics import Metrics, gpu_memory
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
    token = BearerToken(config.token_file) if config.token_file else None
    check_ports(config)
    configure()
    metrics = Metrics(config.model_name)
    engine = Engine(Bundle.load(config.bundle), engine_config, observer=metrics).start()
    try:
        service = TextService(engine, config, metrics)
        service.warm_up()
        gpu = dict if engine.provider == CPU else gpu_memory()
        metrics.begin(lambda: {**engine.stats(), **service.readers.stats(), **gpu()})
        log.info(
            "serving",
            extra={
                "fields": {
                    **service.describe(),
                    "bundle": str(service.bundle.path),
                    "host": config.host,
                    "http_port": config.http_port,
                    "grpc_port": config.grpc_port,
                    "token": token is not None,
                    "load_seconds": round(time.perf_counter() - started, 3),
                }
            },
        )
        register(app, service, token)
        sockets = listen(config, "http_port")
        if sys.stdout.isatty():
            print(f"open http://localhost:{config.http_port}/ to try the model; Ctrl-C ends the server", flush=True)
        grpc = GrpcServer(service, token)
        Server(service, sockets, grpc.serve(), grpc.stop).run()
    finally:
        engine.close(drain=True, timeout=config.grace_period)
    log.info("stopped")
    if not engine.healthy:  # while it drained
        sys.exit(1)
