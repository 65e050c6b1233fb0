"""Routes that say what they are, so that ``/openapi.json`` and ``/docs`` can tell it (``openapi.py``)."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.rest.fields import Field
from serving.service import TextService

Endpoint = Callable[[Request], Awaitable[Response]]
JSON = "application/json"
EVENTS = "text/event-stream"
BINARY = "application/octet-stream"
# A text to show a call with, by the language that it is in.
SAMPLES = {"ru": "Привет, мир!"}


class Operation(Route):
    """An address, and what it is for.

    Args:
        about: a sentence.
        fields: of its body; None takes none.
        query: of its address, likewise.
        example: a body that is answered.
        takes: media types of the body.
        gives: media types of the answer.
        closed: the status of the refusal that is all it answers.
        open: whether no token is asked for.
        keyed: whether the endpoint itself looks for the token where the headers have none.
    """

    def __init__(
        self,
        method: str,
        path: str,
        endpoint: Endpoint,
        about: str,
        *,
        fields: Mapping[str, Field] | None = None,
        query: Mapping[str, Field] | None = None,
        example: Mapping[str, Any] | None = None,
        takes: tuple[str, ...] = (JSON,),
        gives: tuple[str, ...] = (JSON,),
        closed: int = 0,
        open: bool = False,
        keyed: bool = False,
    ) -> None:
        super().__init__(path, endpoint, methods=[method])
        self.method, self.about, self.fields, self.query, self.example = method, about, fields, query, example
        self.takes, self.gives, self.closed = takes, gives, closed
        self.open, self.keyed = open, keyed


def sample(service: TextService) -> tuple[str, str]:
    """A text to try, the bundle's own where it has any, and a language to translate it into; "" where it has none."""
    introduction, languages = service.bundle.introduction, service.bundle.languages
    examples = introduction["examples"] if introduction else []
    source = examples[0]["language"] if examples else next(iter(languages), "")
    text = examples[0]["text"] if examples else SAMPLES.get(source.split("-")[0], "Hello, world!")
    return text, next((language for language in languages if language != source), "")
