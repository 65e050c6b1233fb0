"""The server's settings, as typed dataclasses with one sentence per field; the command line is made from them.

python -m serving --help
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import typing
from dataclasses import dataclass
from typing import Any

from model.config import ConfigError, option
from serving.engine.config import EngineConfig

DESCRIPTION = """\
Serve a bundle with KServe: v2 REST and gRPC, OpenAI's API, /generate, a playground page, health and metrics.
A bundle is the directory that `make pipeline-run` publishes; its hashes are verified before anything is loaded.
"""
EPILOG = """\
Once it runs:
  curl localhost:8080/generate -d '{"prompt": "Привет!", "target": "en"}'
  curl -N localhost:8080/generate_stream -d '{"prompt": "Привет!", "target": "en"}'
  curl localhost:8080/v1/completions -d '{"model": "prometheus-mini", "prompt": "Привет!", "target": "en"}'
  curl localhost:8080/v2/models/prometheus-mini/infer -d '{"inputs": [{"name": "text_input", "datatype": "BYTES",
       "shape": [1], "data": ["Привет!"]}], "parameters": {"target": "en", "max_tokens": 64}}'
  http://localhost:8080/                a page to try the model on
  curl localhost:8080/info              what is served, its languages and limits
  curl localhost:8080/health/ready      200 when requests are taken;  /health/live fails when the engine has died
  curl localhost:8080/metrics           Prometheus metrics, prefixed slm_
SIGTERM turns readiness off, answers what still comes for up to --drain_delay seconds, finishes what runs within
--grace_period seconds, and leaves. Ctrl-C waits for what runs only, and a second one for nothing.
"""
LIMITS = (
    "max_body_bytes",
    "max_prompts",
    "max_logprobs",
    "max_unread_bytes",
    "request_timeout",
    "receive_timeout",
    "idle_timeout",
)


@dataclass(frozen=True)
class ServerConfig:
    """Where and within which limits the server answers."""

    bundle: str = option("", "Directory of the bundle to serve.")
    model_name: str = option("prometheus-mini", "Name of the model in every address.")
    host: str = option(
        "127.0.0.1",
        "Address to listen on: 127.0.0.1 is this machine alone (::1 too), 0.0.0.0 or :: everyone, by IPv4 and IPv6.",
    )
    http_port: int = option(8080, "Port of REST.")
    grpc_port: int = option(8081, "Port of gRPC.")
    max_body_bytes: int = option(1 << 20, "Larger request bodies are refused (413 / RESOURCE_EXHAUSTED).")
    max_prompts: int = option(64, "Prompts in one v2 request.")
    max_logprobs: int = option(
        1 << 15, "Log-probabilities in one answer, texts x max_tokens x (1 + logprobs); more are refused."
    )
    max_unread_bytes: int = option(
        1 << 23, "Bytes of answers that may wait for slow readers, all together; beyond it the slowest are closed."
    )
    request_timeout: float = option(
        60.0, "Seconds after which a request is given up (504 / DEADLINE_EXCEEDED), and its answer when it is not read."
    )
    receive_timeout: float = option(
        30.0, "Seconds in which a request's head, and then its body, must arrive (408 / DEADLINE_EXCEEDED, or closed)."
    )
    idle_timeout: float = option(
        65.0, "Seconds after which a connection without a request is closed; above the 60 of most load balancers."
    )
    drain_delay: float = option(
        8.0,
        "Seconds after SIGTERM, at most, in which the server is not ready and answers whatever still comes, closing "
        "each connection with its answer; they end when nothing has come for a second.",
    )
    grace_period: int = option(30, "Seconds that running requests then get to finish.")
    allow_origins: list[str] = option(
        [], "Origins, such as https://app.example, whose pages may call this server from a browser; * is any."
    )
    token_file: str = option(
        "", "File with the access token that callers must send as a bearer token; none is needed when left out."
    )

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be a number above 0, not {getattr(self, name)}"
            for name in LIMITS
            if not 0 < getattr(self, name) < math.inf
        ]
        for name in ("http_port", "grpc_port"):
            if not 1 <= getattr(self, name) <= 65535:
                problems.append(f"{name} must be a port from 1 to 65535, not {getattr(self, name)}")
        if self.http_port == self.grpc_port:
            problems.append(f"http_port and grpc_port must differ, both are {self.http_port}")
        for name in ("grace_period", "drain_delay"):
            if not 0 <= getattr(self, name) < math.inf:
                problems.append(f"{name} must not be negative, not {getattr(self, name)}")
        if not self.model_name or "/" in self.model_name:
            problems.append(f"model_name must be a name without a slash, not {self.model_name!r}")
        for origin in self.allow_origins:
            if not re.fullmatch(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s]+", origin):
                problems.append(f"allow_origins must hold origins such as https://app.example, or *, not {origin!r}")
        if problems:
            raise ConfigError("\n".join(problems))


def parse(argv: list[str] | None = None) -> tuple[ServerConfig, EngineConfig]:
    """Read the command line; exits with a usage message when it cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m serving",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    server, engine = parser.add_argument_group("server"), parser.add_argument_group("engine")
    for group, config in ((server, ServerConfig), (engine, EngineConfig)):
        for setting in dataclasses.fields(config):
            _add(group, config, setting)
    values = vars(parser.parse_args(argv))
    try:
        return (
            ServerConfig(**{f.name: values[f.name] for f in dataclasses.fields(ServerConfig)}),
            EngineConfig(**{f.name: values[f.name] for f in dataclasses.fields(EngineConfig)}),
        )
    except ConfigError as error:
        parser.error("; ".join(str(error).splitlines()))


def _add(group: Any, config: type, setting: dataclasses.Field) -> None:
    kind = typing.get_type_hints(config)[setting.name]
    text = setting.metadata.get("help", "")
    flag = f"--{setting.name}"
    if setting.name == "bundle":
        group.add_argument(flag, required=True, metavar="DIR", help=text)
        return
    default = setting.default_factory() if callable(setting.default_factory) else setting.default
    note = (text if default in ("", []) else f"{text} (default: {default})").replace("%", "%%")
    if typing.get_origin(kind) is typing.Literal:
        group.add_argument(flag, choices=typing.get_args(kind), default=default, help=note)
    elif typing.get_origin(kind) is list:
        item = typing.get_args(kind)[0]
        group.add_argument(flag, type=item, nargs="+", default=default, metavar=item.__name__.upper(), help=note)
    elif kind is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=note)
    else:
        group.add_argument(flag, type=kind, default=default, metavar=kind.__name__.upper(), help=note)
