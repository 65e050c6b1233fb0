"""What a document is here: its bytes in order, and between them the texts to translate, each with how it is written.

A format is a generator of parts. To write a document is to join its parts with each text replaced by its translation:
so whatever no format understands stays as it is, byte for byte, and memory does not depend on a file's size.
"""

import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import IO

from model import encoding
from model.errors import ProjectError
from model.text.spans import has_words

LINE_BYTES = 1 << 20  # a longer line is no text that anyone wrote, and would have to be held in memory
_SPACED = re.compile(r"(\s*)(.*?)(\s*)", re.S)


class DocumentError(ProjectError, ValueError):
    """A file that cannot be read; the message names the file, the line where there is one, and what to do."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A text to translate, without the white space around it, and how its translation is written in its place."""

    text: str
    encode: Callable[[str], bytes] = str.encode


Part = bytes | Segment


@dataclass(frozen=True, slots=True)
class Source:
    """A stream of bytes, the name that errors call it by, and the languages to tell a wrong encoding by."""

    stream: IO[bytes]
    name: str
    languages: tuple[str, ...] = ()

    def lines(self) -> Iterator[tuple[int, str]]:
        """Numbered lines with their ends; a byte order mark is the first one's first character.

        Raises:
            DocumentError: for bytes that are not UTF-8, with the command that makes them so, and an endless line.
        """
        for number, line in enumerate(iter(lambda: self.stream.readline(LINE_BYTES), b""), 1):
            if number == 1:
                self.check_wide(line)
            if len(line) == LINE_BYTES and line[-1:] != b"\n":
                raise DocumentError(f"{self.name}:{number}: a line longer than {LINE_BYTES >> 20} MiB; break it up")
            yield number, self.decoded(line, number)

    def blocks(self) -> Iterator[bytes]:
        """The bytes as they come, in blocks of some size."""
        return iter(lambda: self.stream.read(io.DEFAULT_BUFFER_SIZE * 8), b"")

    def whole(self, most: int) -> bytes:
        """All bytes, of a format that has to be seen whole.

        Raises:
            DocumentError: when there are more than ``most``.
        """
        data = self.stream.read(most + 1)
        if len(data) > most:
            raise DocumentError(f"{self.name}: larger than {most >> 20} MiB; split it into several files")
        self.check_wide(data)
        return data

    def decoded(self, line: bytes, number: int) -> str:
        """A line's text."""
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            page, text = encoding.guess(line[:1024], self.languages)
            cure = f"; in {page} it reads {text[:40]!r}: {encoding.cure(page)}" if page else ""
            where = f"{error.reason} at byte {error.start + 1} of the line"
            raise DocumentError(f"{self.name}:{number}: bytes that are not UTF-8 ({where}){cure}") from None

    def check_wide(self, head: bytes) -> None:
        """Refuse text in units of two or four bytes."""
        if name := encoding.wide(head[:4096]):
            raise DocumentError(f"{self.name}: the text is in {name}, not UTF-8; {encoding.cure(name)}")

    def wrong(self, number: int, problem: str) -> DocumentError:
        """What is wrong at a line."""
        return DocumentError(f"{self.name}:{number}: {problem}")


def one_line(text: str) -> str:
    """The text without line ends and tabs, as a place that holds one line needs it."""
    return " ".join(text.split()) if re.search(r"[\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", text) else text


def spaced(text: str, encode: Callable[[str], bytes] = str.encode) -> Iterator[Part]:
    """A text in its place: the white space around it is kept, and so is all of it where it has no words."""
    found = _SPACED.fullmatch(text)
    assert found  # the pattern takes any text
    before, core, after = found.groups()
    if not has_words(core):
        yield encode(text)
        return
    yield encode(before)
    yield Segment(core, encode)
    yield encode(after)


def joined(parts: Iterable[Part]) -> Iterator[Part]:
    """Parts of one paragraph as one text, with a mark ``<g1>``, ``<g2>`` for what stands between its texts.

    So a model sees whole sentences. Whoever translates keeps the marks, in their order (``model.text.spans`` does);
    where one is lost, the words matter more than where the marks stand.
    """
    found = [part for part in parts if part]
    places = [index for index, part in enumerate(found) if isinstance(part, Segment)]
    if len(places) < 2:
        yield from found
        return
    segments = [part for part in found if isinstance(part, Segment)]
    gaps = (found[start + 1 : end] for start, end in pairwise(places))
    between = [b"".join(part for part in gap if isinstance(part, bytes)).decode() for gap in gaps]
    name = "g"
    while any(f"<{name}" in segment.text for segment in segments):
        name += "g"
    text = segments[0].text
    for number, (kept, segment) in enumerate(zip(between, segments[1:], strict=True), 1):
        before, after = " " * kept[:1].isspace(), " " * kept[-1:].isspace()
        text += f"{before}<{name}{number}>{after}{segment.text}"
    yield from found[: places[0]]
    yield Segment(text, partial(_parted, segments, between, re.compile(f"<{name}[0-9]+>")))
    yield from found[places[-1] + 1 :]


def _parted(segments: list[Segment], between: list[str], mark: re.Pattern[str], translation: str) -> bytes:
    """A translation's parts in the places of the texts, with what was between them."""
    parts = mark.split(translation)
    if len(parts) != len(segments):
        words = " ".join(filter(None, map(str.strip, parts)))
        parts = [f"{words} ", *[""] * (len(segments) - 1)]
    written = bytearray()
    for segment, part, after, kept in zip(segments, parts, [*parts[1:], ""], [*between, ""], strict=True):
        core = part.strip()
        written += segment.encode(core) if core else b""
        written += _spaced_as(kept, bool(core) and part[-1:].isspace(), after[:1].isspace()).encode()
    return bytes(written)


def _spaced_as(kept: str, before: bool, after: bool) -> str:
    """What stands between two texts with space around it where a translation has some; line ends stay."""
    core = kept.strip()
    lead, tail = kept[: kept.index(core)], kept[kept.index(core) + len(core) :]
    lead = lead if "\n" in lead else (lead or " ") * before
    return lead + core + (tail if "\n" in tail else (tail or " ") * after)


def unless_same(text: str, raw: str, encode: Callable[[str], str]) -> Callable[[str], bytes]:
    """How a translation is written where many spellings mean one text: the same text stays as it was spelled."""
    return lambda translation: (raw if translation == text else encode(translation)).encode()


def without_bom(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The lines, the first without a byte order mark, for a format that knows its lines by their beginnings.

    The mark itself is told apart, by the line number 0.
    """
    for number, line in lines:
        if number == 1 and line.startswith("\ufeff"):
            yield 0, "\ufeff"
            yield 1, line.removeprefix("\ufeff")
        else:
            yield number, line
