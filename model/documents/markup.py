"""XML as a stream of tokens that together are the file, byte for byte; memory does not depend on its size.

expat reads; nothing outside the file is ever fetched, and a file that declares entities is refused, so that none can
grow beyond what it is. Bytes are told by expat's own positions, so what is not understood can be written as it was.

    for token in tokens(Source(stream, "a.tmx")): ...
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape

from model.documents.parts import Source

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
TOKEN_BYTES = 1 << 24  # a tag, a comment or a stretch of text of more is no text that anyone translates


@dataclass(slots=True)
class Token:
    """A tag's begin or end, text, or anything else; ``raw`` are its bytes; those of ``<a/>`` are its begin's."""

    kind: str  # "start", "end", "text" or "other"
    name: str = ""  # of the tag, without its prefix
    attributes: dict[str, str] = field(default_factory=dict)  # names without prefixes: xml:lang is lang
    text: str = ""
    raw: bytes = b""
    line: int = 0


def tokens(source: Source) -> Iterator[Token]:
    """The tokens of an XML document in UTF-8.

    Raises:
        DocumentError: with the line, for what is not well-formed, declares entities, or is in another encoding.
    """
    reader = _Reader(source)
    for index, block in enumerate(source.blocks()):
        if not index:
            source.check_wide(block)
        yield from reader.read(block, last=False)
    yield from reader.read(b"", last=True)


class _Reader:
    """Feeds expat, and cuts its input into tokens where the next one begins."""

    def __init__(self, source: Source) -> None:
        self._source, self._buffer, self._begin = source, bytearray(), 0
        self._pending: list[tuple[int, Token]] = []  # with the position of their first byte
        self._parser = parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = lambda name: self._add(Token("end", _local(name)))
        parser.CharacterDataHandler = lambda text: self._add(Token("text", text=text))
        parser.StartCdataSectionHandler = parser.EndCdataSectionHandler = lambda: self._add(Token("other"))
        parser.DefaultHandler = lambda _: self._add(Token("other"))
        parser.XmlDeclHandler = self._declared
        parser.EntityDeclHandler = self._entity

    def read(self, block: bytes, last: bool) -> Iterator[Token]:
        self._buffer += block
        try:
            self._parser.Parse(block, last)
        except expat.ExpatError as error:
            raise self._source.wrong(error.lineno, self._problem(error)) from None
        position = self._begin + len(self._buffer) if last else None
        ends = [at for at, _ in self._pending[1:]] + ([position] if position is not None else [])
        begin = self._begin
        for (_, token), end in zip(self._pending, ends, strict=False):
            token.raw = bytes(self._buffer[begin - self._begin : end - self._begin])
            begin = end
            yield token
        del self._pending[: len(ends)], self._buffer[: begin - self._begin]
        self._begin = begin
        if len(self._buffer) > TOKEN_BYTES:
            raise self._source.wrong(self._parser.CurrentLineNumber, f"a piece of more than {TOKEN_BYTES >> 20} MiB")

    def _add(self, token: Token) -> None:
        if token.kind == "text" and self._pending and (last := self._pending[-1][1]).kind == "text":
            last.text += token.text  # expat tells a line end, and a character reference, apart
            return
        token.line = self._parser.CurrentLineNumber
        self._pending.append((self._parser.CurrentByteIndex, token))

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._add(Token("start", _local(name), {_local(key): value for key, value in attributes.items()}))

    def _declared(self, _: str, encoding: str | None, standalone: int) -> None:
        if (encoding or "utf-8").lower() not in ("utf-8", "utf8", "us-ascii", "ascii"):
            cure = f"`iconv -f {encoding} -t UTF-8 OLD | sed '1s/{encoding}/UTF-8/' > NEW` makes it UTF-8"
            raise self._source.wrong(1, f"the file is in {encoding}; {cure}")
        self._add(Token("other"))

    def _entity(self, name: str, *_: Any) -> None:
        problem = f"declares the entity {name}, which is not read, for it may grow or name another file"
        raise self._source.wrong(self._parser.CurrentLineNumber, f"{problem}; replace it by its text")

    def _problem(self, error: expat.ExpatError) -> str:
        words = expat.errors.messages.get(error.code, "an error")
        if words in (expat.errors.XML_ERROR_NO_ELEMENTS, expat.errors.XML_ERROR_UNCLOSED_TOKEN):
            return f"ends in the middle ({words}); copy or download it again"
        return f"not well-formed XML ({words}, character {error.offset + 1} of the line)"


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def content(text: str) -> str:
    """A text as it stands between tags; what XML cannot hold is left out."""
    return escape(_FORBIDDEN.sub("", text))


def attribute(value: str) -> str:
    """A value as it stands between double quotes."""
    return escape(value, {'"': "&quot;"})
