"""The outermost layer of REST: the access token, errors in words, one log line per request.

Pure ASGI, because Starlette's BaseHTTPMiddleware costs more than our routes. KServe's own handlers answer 422 for
malformed JSON, leak ``Type : message`` of unexpected exceptions, and close the connection after a 500; nothing reaches
them from here. Our own addresses are known in full, as there is one model, so a call finds its route in one dictionary
and never walks through the list of all of them.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.auth import BearerToken
from serving.logs import request_line
from serving.rest.answers import error_response
from serving.rest.downloads import PATH as DOWNLOAD
from serving.rest.operations import Operation
from serving.service import TextService
from serving.v2 import VERSION

log = logging.getLogger("serving.edge")
CLIENT_CLOSED = 499  # nginx's number; only ever seen in the log
# Probes and scrapes: not logged, and open to callers without a token.
PROBES = ("/health", "/v2/health/", "/v1/health", "/openai/health", "/metrics")


class RestMiddleware:
    """ASGI middleware around KServe's application.

    Args:
        routes: our own addresses.
        token: what callers must send; None when the server is open.
    """

    def __init__(self, app: ASGIApp, service: TextService, routes: Iterable[Route], token: BearerToken | None) -> None:
        self.app, self.service, self.token = app, service, token
        self.direct: dict[tuple[str, str], tuple[dict[str, str], Any]] = {}  # to path parameters and endpoint
        known = {"name": service.config.model_name, "version": VERSION}
        self.open = {route.path for route in routes if isinstance(route, Operation) and route.open}
        self.keyed = {route.path for route in routes if isinstance(route, Operation) and route.keyed}
        for route in routes:
            names = route.param_convertors.keys()
            if names <= known.keys():
                parameters = {name: known[name] for name in names}
                for method in route.methods or ():
                    self.direct.setdefault((method, route.path.format(**parameters)), (parameters, route.endpoint))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        method, path = scope["method"], scope["path"]
        probe = path.startswith(PROBES)
        if not probe:
            self.service.called = time.monotonic()
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self.token is not None and not (probe or path in self.open or path.startswith(DOWNLOAD)):
                given = next((value for name, value in scope["headers"] if name == b"authorization"), None)
                if given is not None or path not in self.keyed:
                    self.token.check(given)
            found = self.direct.get((method, path))
            if found is None:
                # What is left is KServe's, which answers GET alone; the server itself leaves out the body of a HEAD.
                await self.app({**scope, "method": "GET"} if method == "HEAD" else scope, receive, observed)
            else:
                scope["path_params"], endpoint = found
                response = await endpoint(Request(scope, receive))
                await response(scope, receive, observed)
        except asyncio.CancelledError:
            if not scope.get("serving.gone"):
                raise
            status = CLIENT_CLOSED
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        except ClientDisconnect:  # in the middle of the body
            status = CLIENT_CLOSED
        except Exception as error:
            scope["serving.error"] = self.service.count_error(error, f"{method} {path[:200]}", log)
            if status:  # too late for another answer
                raise
            await error_response(error, path)(scope, receive, observed)
        finally:
            # Taken out of the scope, which lives as long as its connection is idle.
            outcomes = scope.pop("serving.outcomes", {})
            if not probe:
                seconds, error_kind = time.perf_counter() - started, scope.get("serving.error", "")
                shown = f"{DOWNLOAD}..." if path.startswith(DOWNLOAD) else path[:200]  # who knows the rest has the file
                request_line("http", f"{method} {shown}", status, seconds, list(outcomes.values()), error_kind)
