"""The server's settings; the command line is made from them.

python -m serving --help
"""

from __future__ import annotations

import re

from pydantic import ValidationInfo, field_validator

from model.settings import Count, Natural, Settings, setting


class ServerConfig(Settings):
    """Where and within which limits the server answers."""

    bundle: str = setting("", "Directory of the bundle to serve.")
    model_name: str = setting("prometheus-mini", "Name of the model in every address.")
    host: str = setting(
        "127.0.0.1",
        "Address to listen on: 127.0.0.1 is this machine alone (::1 too), 0.0.0.0 or :: everyone, by IPv4 and IPv6.",
    )
    http_port: int = setting(8080, "Port of REST.", ge=1, le=65535)
    grpc_port: int = setting(8081, "Port of gRPC.", ge=1, le=65535)
    max_body_bytes: Count = setting(1 << 20, "Larger request bodies are refused (413 / RESOURCE_EXHAUSTED).")
    max_prompts: Count = setting(64, "Prompts in one v2 request.")
    max_logprobs: Count = setting(
        1 << 15, "Log-probabilities in one answer, texts x max_tokens x (1 + logprobs); more are refused."
    )
    max_unread_bytes: Count = setting(
        1 << 23, "Bytes of answers that may wait for slow readers, all together; beyond it the slowest are closed."
    )
    request_timeout: float = setting(
        60.0,
        "Seconds after which a request is given up (504 / DEADLINE_EXCEEDED), and its answer when it is not read.",
        gt=0,
    )
    receive_timeout: float = setting(
        30.0,
        "Seconds in which a request's head, and then its body, must arrive (408 / DEADLINE_EXCEEDED, or closed).",
        gt=0,
    )
    idle_timeout: float = setting(
        65.0, "Seconds after which a connection without a request is closed; above the 60 of most load balancers.", gt=0
    )
    drain_delay: float = setting(
        8.0,
        "Seconds after SIGTERM, at most, in which the server is not ready and answers whatever still comes, closing "
        "each connection with its answer; they end when nothing has come for a second.",
        ge=0,
    )
    grace_period: Natural = setting(30, "Seconds that running requests then get to finish.")
    allow_origins: list[str] = setting(
        [], "Origins, such as https://app.example, whose pages may call this server from a browser; * is any."
    )
    token_file: str = setting(
        "", "File with the access token that callers must send as a bearer token; none is needed when left out."
    )

    @field_validator("grpc_port")
    @classmethod
    def _differ(cls, port: int, info: ValidationInfo) -> int:
        if port == info.data.get("http_port"):
            raise ValueError(f"http_port and grpc_port must differ, both are {port}")
        return port

    @field_validator("model_name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not name or "/" in name:
            raise ValueError(f"must be a name without a slash, not {name!r}")
        return name

    @field_validator("allow_origins")
    @classmethod
    def _are_origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            if not re.fullmatch(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s]+", origin):
                raise ValueError(f"must hold origins such as https://app.example, or *, not {origin!r}")
        return origins
