"""Files that are translated for a caller: read, their texts translated a part at a time, and written."""

import asyncio
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import PurePath, PureWindowsPath

from starlette.requests import Request

from model.documents import DocumentError, Part, Segment, read, write
from serving.errors import DeadlineExceeded, InvalidRequest
from serving.rest.doors import AUTO, text_request, translations
from serving.rest.forms import File
from serving.service import TextService

# Texts that are asked for at once: a part of the queue, so that other callers find room in it.
TEXTS = 32
MOST_PARTS = 100_000  # of a file: some 30 MB in memory, whatever its bytes are
NAME_CHARS = 100


async def translated_file(request: Request, service: TextService, file: File, source: str, target: str) -> bytes:
    """A file with its texts translated, within the time of one request.

    Raises:
        InvalidRequest: naming ``file``, when it cannot be read. ServingError: when a text has no translation.
        DeadlineExceeded.
    """
    config, said = service.config, list[str]()
    parameters, names = {"source": source, "target": target}, {"text": "file"}
    try:
        async with asyncio.timeout(config.request_timeout):
            parts = await asyncio.to_thread(_parts, file, source, target, service.bundle.languages)
            texts = [part.text for part in parts if isinstance(part, Segment)]
            for some in batches(texts, min(TEXTS, config.max_prompts), config.max_chars):
                wanted = text_request(some, parameters, names, config.max_prompts)
                said += [result.text for result in await translations(request, service, wanted)]
            return await asyncio.to_thread(lambda: b"".join(write(parts, said)))
    except TimeoutError:
        raise DeadlineExceeded(
            f"file: {len(said)} of its texts were translated in {config.request_timeout:g} seconds; split it, or raise "
            "--request_timeout"
        ) from None


def _parts(file: File, source: str, target: str, languages: Sequence[str]) -> list[Part]:
    origin = "" if source == AUTO else source
    try:
        parts = read(io.BytesIO(file.content), file.name, target=target, source=origin, languages=languages)
        found = list(islice(parts, MOST_PARTS + 1))
    except DocumentError as error:
        raise InvalidRequest("file", str(error)) from None
    if len(found) > MOST_PARTS:
        raise InvalidRequest("file", f"{file.name}: more than {MOST_PARTS} parts; split it")
    return found


def batches(texts: Sequence[str], most: int, chars: int) -> Iterator[list[str]]:
    """The texts in groups of at most ``most``, and of at most ``chars`` characters where that takes more than one."""
    group: list[str] = []
    size = 0
    for text in texts:
        if group and (len(group) == most or size + len(text) > chars):
            yield group
            group, size = [], 0
        group.append(text)
        size += len(text)
    if group:
        yield group


def translated_name(name: str, target: str) -> str:
    """What a translated file is called: its own name without folders, and the language."""
    path = PurePath(re.sub(r"[^\w. -]", "_", PureWindowsPath(name).name))
    return f"{path.stem[:NAME_CHARS]}_{target}{path.suffix[:NAME_CHARS]}"
