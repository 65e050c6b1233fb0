"""The server's settings; the command line is made from them.

python -m serving --help
"""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from model.settings import Count, Natural, Settings, setting

Port = Annotated[int, Field(ge=1, le=65535)]
Bytes = Annotated[int, Field(ge=1, le=1 << 40)]
Seconds = Annotated[float, Field(gt=0, le=1e6)]
Origin = Annotated[str, Field(pattern=r"^(\*|null|[a-z][a-z0-9+.-]*://[^/\s]+)$")]


class ServerConfig(Settings):
    """Where and within which limits the server answers."""

    bundle: str = setting("", "Directory of the bundle to serve.")
    model_name: str = setting("prometheus-mini", "Name of the model in every address; no slash.", pattern="^[^/]+$")
    host: str = setting(
        "127.0.0.1",
        "Address to listen on: 127.0.0.1 is this machine alone (::1 too), 0.0.0.0 or :: everyone, by IPv4 and IPv6.",
    )
    http_port: Port = setting(8080, "Port of REST.")
    grpc_port: Port = setting(8081, "Port of gRPC.")
    max_body_bytes: Bytes = setting(1 << 20, "Larger request bodies are refused (413 / RESOURCE_EXHAUSTED).")
    max_chars: Count = setting(
        100_000, "Characters of text in one request, all its prompts together; more are refused."
    )
    max_prompts: Count = setting(64, "Prompts in one v2 request.")
    max_logprobs: Count = setting(
        1 << 15, "Log-probabilities in one answer, texts x max_tokens x (1 + logprobs); more are refused."
    )
    max_unread_bytes: Bytes = setting(
        1 << 23, "Bytes of answers that may wait for slow readers, all together; beyond it the slowest are closed."
    )
    request_timeout: Seconds = setting(
        60.0, "Seconds after which a request is given up (504 / DEADLINE_EXCEEDED), and its answer when it is not read."
    )
    receive_timeout: Seconds = setting(
        30.0, "Seconds in which a request's head, and then its body, must arrive (408 / DEADLINE_EXCEEDED, or closed)."
    )
    idle_timeout: Seconds = setting(
        65.0, "Seconds after which a connection without a request is closed; above the 60 of most load balancers."
    )
    drain_delay: float = setting(
        8.0,
        "Seconds after SIGTERM, at most, in which the server is not ready and answers whatever still comes, closing "
        "each connection with its answer; they end when none is open and nothing has come for a second.",
        ge=0,
        le=1e6,
    )
    grace_period: Natural = setting(30, "Seconds that running requests then get to finish.")
    allow_origins: list[Origin] = setting(
        [], "Origins, such as https://app.example, whose pages may call this server from a browser; * is any."
    )
    log_format: Literal["auto", "text", "json"] = setting(
        "auto",
        "json: a line for each request; text: for people, the address and warnings only; auto: text on a terminal.",
    )
    token_file: str = setting(
        "", "File with the access token that callers must send as a bearer token; none is needed when left out."
    )

    glossary: str = setting(
        "",
        "File of terms that every translation must use: two languages' codes, then terms, tabs between the two.",
    )

    @field_validator("grpc_port")
    @classmethod
    def _differ(cls, port: int, info: ValidationInfo) -> int:
        if port == info.data.get("http_port"):
            raise ValueError(f"http_port and grpc_port must differ, both are {port}")
        return port
