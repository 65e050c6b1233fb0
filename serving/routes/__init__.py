"""REST: every address that is ours, and the layer around KServe's own.

========================================================  =====================================================
``POST /generate``                                        prompt in, text out (``generate.py``)
``POST /v2/models/{m}[/versions/{v}]/infer``              v2 inference, JSON and binary (``inference.py``)
``GET /v2``, ``/v2/models/{m}[/versions/{v}][/ready]``    v2 metadata and readiness (``inference.py``)
``GET /health``, ``/health/live``, ``/health/ready``      for people and for probes (``status.py``)
``GET /info``                                             what is served (``status.py``)
``GET /metrics``, ``/v2/health/*``, ``/v2/models``        KServe's own
``POST /v2/repository/*``, ``/v1/*``                      closed
========================================================  =====================================================
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from serving.predictor import Predictor
from serving.routes import generate, inference, status
from serving.routes.edge import Edge, http_exception


def register(app: FastAPI, predictor: Predictor) -> None:
    """Add our routes before KServe's, so that they win where both have the same path, and our layer around all."""
    # Addresses are compared one after the other, so those that are called most come first.
    routes = [*inference.routes(predictor), *generate.routes(predictor.service), *status.routes(predictor.service)]
    app.router.routes[:0] = routes
    app.user_middleware.append(Middleware(Edge, metrics=predictor.service.metrics))
    app.add_exception_handler(HTTPException, http_exception)
