"""HTML by ``model.text.markup``: what a reader sees, a block being a text; a page is written as browsers write it."""

from collections.abc import Iterator
from functools import partial

from model.documents.parts import DocumentError, Part, Segment, Source
from model.text.markup import Markup, MarkupError

MOST_BYTES = 1 << 23


def html_parts(source: Source) -> Iterator[Part]:
    """The parts of a page: its texts, the last of which, once it has its translation, is written as the whole page.

    A page of which no text changes stays as it is.

    Raises:
        DocumentError: for bytes that are not UTF-8, a page of more than MOST_BYTES, and one that is nested too deep.
    """
    data = source.whole(MOST_BYTES)
    for number, line in enumerate(data.split(b"\n"), 1):
        source.decoded(line, number)
    try:
        page = Markup(data.decode())
    except MarkupError as error:
        raise DocumentError(f"{source.name}: {error}") from None
    given: list[str] = []
    yield from (Segment(text, partial(_written, data, page, given)) for text in page.texts)
    if not page.texts:
        yield data


def _written(data: bytes, page: Markup, given: list[str], translation: str) -> bytes:
    given.append(translation)
    if len(given) < len(page.texts):
        return b""
    return data if given == page.texts else page.filled(given).encode()
