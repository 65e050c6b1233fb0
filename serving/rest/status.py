"""Health for probes, health and facts for people, the server's v2 metadata."""

import platform
from collections.abc import Callable
from importlib import metadata
from typing import Any

import onnxruntime
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from model.bundle.introduction import sentence
from model.sessions import hardware
from serving import v2
from serving.engine.limits import DEFAULT_MAX_TOKENS
from serving.parameters import DEFAULT_TEMPERATURE
from serving.rest.answers import json_response
from serving.rest.operations import Operation
from serving.service import TextService
from serving.texts import MAX_SAMPLES


def routes(service: TextService) -> list[Route]:
    """``/health``, ``/health/live``, ``/health/ready``, v2's words for the same, ``/v2`` and ``/info``."""
    facts = info(service)

    def health() -> dict[str, Any]:
        status = "ok" if service.ready else "draining" if service.draining else "failed"
        stats = {name: value for name, value in service.engine.stats().items() if isinstance(value, int | float | str)}
        return {"status": status, "live": service.live, "ready": service.ready, "engine": stats}

    def route(path: str, about: str, content: Callable[[], dict[str, Any]], healthy: Callable[[], bool]) -> Route:
        async def show(request: Request) -> Response:
            return json_response(content(), 200 if healthy() else 503)

        return Operation("GET", path, show, about)

    live, ready = "Whether the process works; 503 when only a new one helps.", "Whether calls are taken; 503 when not."
    server = "The server's protocol and its extensions."
    return [
        route("/health/live", live, lambda: {"live": service.live}, lambda: service.live),
        route("/health/ready", ready, lambda: {"ready": service.ready}, lambda: service.ready),
        route("/v2/health/live", live, lambda: v2_health("live", service.live), lambda: service.live),
        route("/v2/health/ready", ready, lambda: v2_health("ready", service.ready), lambda: service.ready),
        # The last two are where clients of OpenAI's API look before they leap.
        *(
            route(path, "Both, and the engine's figures.", health, lambda: service.ready)
            for path in ("/health", "/v1/health", "/openai/health")
        ),
        *(route(path, server, v2.server_metadata, lambda: True) for path in ("/v2", "/v2/")),
        route("/info", "What is served: the bundle, its scores, limits, versions.", lambda: facts, lambda: True),
    ]


def v2_health(word: str, healthy: bool) -> dict[str, Any]:
    """As KServe's own routes say it."""
    return {word: True} if healthy else {"error": f"Server is not {word}."}


def info(service: TextService) -> dict[str, Any]:
    """The bundle's facts, the server's limits, and the versions of what runs it."""
    bundle, config = service.bundle, service.config
    intro = bundle.introduction
    return {
        **service.describe(),
        "parameters": bundle.provenance.get("training", {}).get("parameters"),
        "about": sentence(intro, bundle.languages if bundle.task == "translation" else []) if intro else "",
        "introduction": intro,
        "tokenizer": bundle.tokenizer,
        "metrics": bundle.metrics,
        "defaults": {
            "temperature": DEFAULT_TEMPERATURE[bundle.task],
            "max_tokens": DEFAULT_MAX_TOKENS,
            "beams": service.engine.default_beams,  # of what is not streamed
        },
        "limits": {
            **bundle.limits,
            "beams": service.engine.limits.beams,
            "samples": MAX_SAMPLES,
            "max_chars": config.max_chars,
            "max_prompts": config.max_prompts,
            "max_body_bytes": config.max_body_bytes,
            "request_timeout": config.request_timeout,
            "receive_timeout": config.receive_timeout,
        },
        "providers_listed": onnxruntime.get_available_providers(),  # built in; "provider" is the one that works
        "hardware": hardware(),
        "versions": {
            "bundle_format": bundle.format_version,
            "python": platform.python_version(),
            "kserve": metadata.version("kserve"),
            "onnxruntime": onnxruntime.__version__,
        },
    }
