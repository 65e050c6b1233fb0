"""Java's .properties: ``key = value`` lines with escapes, of which the values are texts.

A file that has letters beyond ASCII is UTF-8, as Java reads it since version 9; in one that has none translations are
written with ``\\u`` escapes, which every version reads.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import replace

from model.documents.parts import Part, Segment, Source, without_bom
from model.text.spans import has_words

MOST_BYTES = 1 << 26
_CONTINUED = re.compile(r"(?:^|[^\\])(?:\\\\)*\\\r?\n$")
_BLANK = r"(?:[ \t\f]|\\\r?\n)*+"
_KEY = re.compile(rf"[ \t\f]*+(?:[^\\ \t\f=:\r\n]|\\\r?\n[ \t\f]*+|\\.)*+{_BLANK}[=:]?{_BLANK}", re.S)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|\r?\n[ \t\f]*|.)", re.S)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f"}


def properties_parts(source: Source) -> Iterator[Part]:
    """The parts of a .properties file.

    Raises:
        DocumentError: for bytes that are not UTF-8, and lines without end.
    """
    whole = replace(source, stream=io.BytesIO(source.whole(MOST_BYTES)))  # it tells by its letters how to write others
    lines = [line for _, line in without_bom(whole.lines())]
    ascii_only = all(line.isascii() for line in lines if line != "\ufeff")
    pending = ""
    for line in [*lines, ""]:
        comment = not pending and line.lstrip(" \t\f").startswith(("#", "!"))
        pending += line
        if line and not comment and _CONTINUED.search(line):
            continue
        if comment or not pending.strip():
            yield pending.encode()
        else:
            yield from _pair(pending, ascii_only)
        pending = ""


def _pair(line: str, ascii_only: bool) -> Iterator[Part]:
    found = _KEY.match(line)
    at = found.end() if found else 0
    raw = line[at:].rstrip("\r\n")
    text = _ESCAPE.sub(_character, raw)
    core = text.strip()
    yield line[:at].encode()
    if has_words(core):
        lead, tail = text[: text.index(core)], text[text.index(core) + len(core) :]

        def encode(one: str) -> bytes:
            return (raw if one == core else _escaped(lead + one + tail, ascii_only)).encode()

        yield Segment(core, encode)
    else:
        yield raw.encode()
    yield line[at + len(raw) :].encode()


def _character(found: re.Match[str]) -> str:
    code = found[1]
    if code[0] == "u" and len(code) == 5:
        return chr(int(code[1:], 16))
    return "" if code[0] in "\r\n" else _ESCAPES.get(code, code)


def _escaped(text: str, ascii_only: bool) -> str:
    text = text.replace("\\", "\\\\")
    for name, character in _ESCAPES.items():
        text = text.replace(character, f"\\{name}")
    text = f"\\{text}" if text.startswith(" ") else text
    if ascii_only:
        units = text.encode("utf-16-be")
        codes = (int.from_bytes(units[i : i + 2]) for i in range(0, len(units), 2))
        text = "".join(chr(code) if code < 0x80 else f"\\u{code:04x}" for code in codes)
    return text
