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
from serving.listeners import SAME, check_ports, listen
from serving.logs import configure
from serving.metrics import Metrics, gpu_memory
from serving.rest import register
from serving.service import TextService
from serving.ways import Terms

log = logging.getLogger("serving")


def serve(config: ServerConfig, engine_config: EngineConfig) -> None:
    """Load the bundle, serve it until SIGTERM or SIGINT, and return when the last request is done.

    Raises:
        BundleError: when the bundle cannot be used.
        ConfigError: when a port is taken, or the file of the token or of the glossary is of no use.
        EngineFailed: when the bundle does not run on this machine.
    """
    started = time.perf_counter()
    token = BearerToken(config.token_file) if config.token_file else None
    check_ports(config)
    watched = sys.stdout.isatty() if config.log_format == "auto" else config.log_format == "text"
    configure(as_text=watched)
    metrics = Metrics(config.model_name)
    bundle = Bundle.load(config.bundle)
    terms = Terms(config.glossary, bundle.languages)
    engine = Engine(bundle, engine_config, observer=metrics).start()
    try:
        service = TextService(engine, config, metrics, terms)
        service.warm_up()
        gpu = dict if engine.provider == CPU else gpu_memory()
        metrics.begin(lambda: {**engine.stats(), **service.readers.stats(), **gpu()}, service.identity())
        log.info(
            "serving",
            extra={
                "fields": {
                    **service.describe(),
                    "path": str(service.bundle.path),
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
        if watched:
            print(greeting(service), flush=True)
        Server(service, sockets, GrpcServer(service, token)).run()
    finally:
        engine.close(drain=True, timeout=config.grace_period)
    log.info("stopped")
    if not engine.healthy:  # while it drained
        sys.exit(1)


def greeting(service: TextService) -> str:
    """The line for a person: what is served, and the address to open.

    ``prometheus-mini (int8, ru↔en) at http://localhost:8080/  (Ctrl-C stops)``
    """
    config, bundle = service.config, service.bundle
    does = "↔".join(bundle.languages) if bundle.task == "translation" else bundle.task
    host = "localhost" if config.host in SAME else f"[{config.host}]" if ":" in config.host else config.host
    line = f"{config.model_name} ({bundle.precision}, {does}) at http://{host}:{config.http_port}/  (Ctrl-C stops)"
    encoding = sys.stdout.encoding or "utf-8"
    return line.encode(encoding, "replace").decode(encoding)  # an old terminal has no arrow
