"""Serve a bundle; ``--help`` shows every setting and how to call the server.

    python -m serving --bundle runs/latest/bundle

The command line is read before KServe is imported: so ``--help`` is ours, and instant.
"""

import os
import sys
from collections.abc import Sequence

from model.options import OK, Parser, read_settings, run
from model.settings import ConfigError
from serving.config import ServerConfig
from serving.engine.config import EngineConfig

# gRPC's core writes to the log by itself, what a peer sent included; read when it is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

DESCRIPTION = """\
Serve a bundle with KServe: v2 REST and gRPC, OpenAI's API, LibreTranslate's and DeepL's, /generate, health and metrics.
A bundle is the directory that `make pipeline-run` publishes; its hashes are verified before anything is loaded.
"""
EPILOG = """\
Once it runs:
  curl localhost:8080/generate -d '{"prompt": "Привет!", "target": "en"}'
  curl -N localhost:8080/generate_stream -d '{"prompt": "Привет!", "target": "en"}'
  curl localhost:8080/v1/completions -d '{"model": "prometheus-mini", "prompt": "Привет!", "target": "en"}'
  curl localhost:8080/v2/models/prometheus-mini/infer -d '{"inputs": [{"name": "text_input", "datatype": "BYTES",
       "shape": [1], "data": ["Привет!"]}], "parameters": {"target": "en", "max_tokens": 64}}'
  curl localhost:8080/translate -d '{"q": "Привет!", "source": "auto", "target": "en"}'
  http://localhost:8080/                a page to try the model on;  /docs is one of all addresses
  curl localhost:8080/info              what is served, its languages and limits
  curl localhost:8080/health/ready      200 when requests are taken;  /health/live fails when the engine has died
  curl localhost:8080/metrics           Prometheus metrics, prefixed slm_
SIGTERM turns readiness off, answers what still comes for up to --drain_delay seconds, finishes what runs within
--grace_period seconds, and leaves. Ctrl-C waits for what runs only, and a second one for nothing.
"""


def parser() -> Parser:
    """Every setting of the server and of its engine."""
    made = Parser("serving", DESCRIPTION, EPILOG)
    made.add_settings(ServerConfig, "server", required=["bundle"])
    made.add_settings(EngineConfig, "engine")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server; the exit status is 2 when the bundle cannot be served, 1 when the engine fails while it is."""
    options = parser().parse_args(argv)
    server, engine = read_settings(ServerConfig, options), read_settings(EngineConfig, options)
    try:
        from serving.server import serve
    except ModuleNotFoundError as missing:  # a wheel is installed without it: what calls a model in Python needs none
        raise ConfigError(f"the server needs {missing.name}: install prometheus-mini with its extra, server") from None
    serve(server, engine)
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
