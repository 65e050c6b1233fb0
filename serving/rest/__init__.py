"""REST: every address that is ours, and the layer around KServe's own.

========================================================  =====================================================
``POST /generate``, ``/generate_stream``                  prompt in, text out (``generate.py``)
``POST /v2/models/{m}[/versions/{v}]/infer``              v2 inference, JSON and binary (``open_inference.py``)
``POST /v2/models/{m}[/...]/generate[_stream]``           Open Inference text generation (``open_inference.py``)
``[/openai]/v1/models[/{m}]``, ``completions``, ...       what OpenAI's clients call (``openai.py``)
``POST /translate``, ``/detect``, ``/translate_file``,    what LibreTranslate's clients call (``libretranslate.py``)
``GET /languages``, ``/frontend/settings``
``POST /v2/translate``, ``GET /v2/languages``, ...        what DeepL's clients call (``deepl.py``)
``GET /v2/models/{m}[/versions/{v}][/ready]``             the model's metadata and readiness (``open_inference.py``)
``GET /v2``                                               the server's (``status.py``)
``GET /``                                                 a page to try the model on (``playground.py``)
``GET [/v2]/health/live``, ``/ready``, ``/health``        for probes and for people (``status.py``)
``GET /v1/health``, ``/openai/health``                    the same as ``/health``
``GET /docs``                                             a page of all addresses (``playground.py``)
``GET /openapi.json``                                     all of this as an OpenAPI document (``openapi.py``)
``GET /info``                                             what is served (``status.py``)
``GET /metrics``, ``/v2/models``                          KServe's own
``POST /v2/repository/*``, ``/v1/models/{m}:predict``     closed
========================================================  =====================================================
"""

from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from serving.auth import BearerToken
from serving.rest import deepl, generate, libretranslate, open_inference, openai, openapi, playground, status
from serving.rest.answers import http_exception
from serving.rest.middleware import RestMiddleware
from serving.service import TextService


def register(app: FastAPI, service: TextService, token: BearerToken | None = None) -> None:
    """Add our routes before KServe's, so that they win where both have the same path, and our layer around all.

    They take the place of FastAPI's ``/openapi.json``, which would describe KServe's routes: closed ones too, replaced
    ones as they are not, and none of ours.
    """
    described: dict[str, Any] = {}
    routes = [
        *open_inference.routes(service),
        *openai.routes(service),
        *generate.routes(service),
        *libretranslate.routes(service, token),
        *deepl.routes(service),
        *status.routes(service),
        *playground.routes(),
        openapi.route(described),
    ]
    described.update(openapi.document(service, routes, token is not None))
    app.router.routes[:] = routes
    app.add_middleware(RestMiddleware, service=service, routes=routes, token=token)
    if service.config.allow_origins:
        # Around it: a browser asks before it sends the token, and reads errors and streams too.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.config.allow_origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("*",),
            expose_headers=("inference-header-content-length", "retry-after", "www-authenticate"),
            allow_private_network=True,  # a page of the internet and a server at home
        )
    app.add_exception_handler(HTTPException, http_exception)
