"""What can go wrong with a request, in the engine's own terms.

Every protocol adapter translates these and nothing else, so each class carries both translations: ``status`` for HTTP
and ``code`` for gRPC. The texts are written for the caller and never hold prompt text or internals.
"""

from __future__ import annotations

import reprlib
from typing import Any

from model.errors import ProjectError

SHOWN = 64  # characters of a caller's value that a message repeats


def shown(value: Any) -> str:
    """A caller's value, short enough for an error message. Lists may be nested deeper than ``repr`` itself can go."""
    text = repr(value[:SHOWN]) if isinstance(value, str) else reprlib.repr(value)
    return text if len(text) <= SHOWN + 2 else text[: SHOWN - 1] + "..."


class ServingError(ProjectError):
    """Base of everything the engine raises or reports on purpose."""

    status: int = 500
    code: str = "INTERNAL"


class InvalidRequest(ServingError, ValueError):
    """The request itself is wrong; ``field`` names the part and ``message`` says what it must be."""

    status = 400
    code = "INVALID_ARGUMENT"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class Unauthorized(ServingError):
    """The call carries no access token, or a wrong one."""

    status = 401
    code = "UNAUTHENTICATED"


class PermissionDenied(ServingError):
    """The call exists and is closed to everyone."""

    status = 403
    code = "PERMISSION_DENIED"


class NotServed(ServingError):
    """The protocol has this call, this server does not."""

    status = 501
    code = "UNIMPLEMENTED"


class NotFound(ServingError):
    """The address names something that is not here."""

    status = 404
    code = "NOT_FOUND"


class ModelNotFound(NotFound):
    """The request names a model that is not served here."""

    field = "model"


class BodyTooLarge(ServingError):
    """The request is over the limit of bytes."""

    status = 413
    code = "RESOURCE_EXHAUSTED"


class BodyTooSlow(ServingError):
    """The request's body did not arrive in time."""

    status = 408
    code = "DEADLINE_EXCEEDED"


class Overloaded(ServingError):
    """The queue is full; the same request may be sent again a little later."""

    status = 429
    code = "RESOURCE_EXHAUSTED"


class DeadlineExceeded(ServingError):
    """The request's own deadline passed before its last token."""

    status = 504
    code = "DEADLINE_EXCEEDED"


class ShuttingDown(ServingError):
    """The engine is closing and takes no new requests."""

    status = 503
    code = "UNAVAILABLE"


class EngineFailed(ServingError):
    """The engine broke and every request with it; the process has to be restarted."""

    status = 500
    code = "INTERNAL"
