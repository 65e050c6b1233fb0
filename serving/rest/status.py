"""Health for probes, health and facts for people."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import onnxruntime
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from model.sessions import hardware
from serving.rest.errors import json_response
from serving.service import TextService
from serving.texts import MAX_SAMPLES


def routes(service: TextService) -> list[Route]:
    """``/health``, ``/health/live``, ``/health/ready`` and ``/info``."""

    async def live(request: Request) -> Response:
        return json_response({"live": service.live}, 200 if service.live else 503)

    async def ready(request: Request) -> Response:
        return json_response({"ready": service.ready}, 200 if service.ready else 503)

    async def health(request: Request) -> Response:
        status = "ok" if service.ready else "draining" if service.draining else "failed"
        stats = {name: value for name, value in service.engine.stats().items() if isinstance(value, int | float | str)}
        body = {"status": status, "live": service.live, "ready": service.ready, "engine": stats}
        return json_response(body, 200 if service.ready else 503)

    facts = info(service)

    async def show_info(request: Request) -> Response:
        return json_response(facts)

    return [
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/health", health),
        Route("/v1/health", health),  # where clients of OpenAI's API look before they leap
        Route("/openai/health", health),
        Route("/info", show_info),
    ]


def info(service: TextService) -> dict[str, Any]:
    """The bundle's facts, the server's limits, and the versions of what runs it."""
    bundle, config = service.bundle, service.config
    return {
        **service.describe(),
        "parameters": bundle.provenance.get("training", {}).get("parameters"),
        "tokenizer": bundle.tokenizer,
        "metrics": bundle.metrics,
        "limits": {
            **bundle.limits,
            "beams": service.engine.limits.beams,
            "samples": MAX_SAMPLES,
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
