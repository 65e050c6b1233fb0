"""What can go wrong with a request, in the engine's own terms.

Every protocol adapter translates these and nothing else, so each class carries both translations: ``status`` for HTTP
and ``code`` for gRPC. The texts are written for the caller and never hold prompt text or internals.
"""

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

    status = 500
    code = "INTERNAL"

    def __init_subclass__(cls, status: int = 0, code: str = "") -> None:
        cls.status, cls.code = status or cls.status, code or cls.code


class InvalidRequest(ServingError, ValueError, status=400, code="INVALID_ARGUMENT"):
    """The request itself is wrong; ``field`` names the part and ``message`` says what it must be."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class Unauthorized(ServingError, status=401, code="UNAUTHENTICATED"):
    """The call carries no access token (``missing``), or a wrong one."""

    def __init__(self, message: str, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


class PermissionDenied(ServingError, status=403, code="PERMISSION_DENIED"):
    """The call exists and is closed to everyone."""


class NotServed(ServingError, status=501, code="UNIMPLEMENTED"):
    """The protocol has this call, this server does not."""


class NotFound(ServingError, status=404, code="NOT_FOUND"):
    """The address names something that is not here."""


class ModelNotFound(NotFound):
    """The request names a model that is not served here."""

    field = "model"


class BodyTooLarge(ServingError, status=413, code="RESOURCE_EXHAUSTED"):
    """The request is over the limit of bytes."""


class BodyTooSlow(ServingError, status=408, code="DEADLINE_EXCEEDED"):
    """The request's body did not arrive in time."""


class Overloaded(ServingError, status=429, code="RESOURCE_EXHAUSTED"):
    """The queue is full; the same request may be sent again a little later."""


class DeadlineExceeded(ServingError, status=504, code="DEADLINE_EXCEEDED"):
    """The request's own deadline passed before its last token."""


class ShuttingDown(ServingError, status=503, code="UNAVAILABLE"):
    """The engine is closing and takes no new requests."""


class EngineFailed(ServingError):
    """The engine broke and every request with it; the process has to be restarted."""


class InternalError(ServingError):
    """Nobody foresaw it."""


def public(error: BaseException) -> ServingError:
    """An error as its caller hears of it, and as it is counted: of an unexpected one nothing but that it happened."""
    return error if isinstance(error, ServingError) else InternalError("internal error; the server's log says more")
