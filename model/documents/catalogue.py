"""Gettext's catalogues: .po, whose entries are read and written where they stand, and the compiled .mo, which is read.

An entry that has a translation is left alone, be it fuzzy; one without gets it. Forms of the plural after the first get
the translation of the plural.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from model.documents.parts import DocumentError, Part, Segment, Source, without_bom
from model.text.spans import has_words

MO_BYTES = 1 << 28
MOST_LINES = 10_000  # of one entry
_LINE = re.compile(r'\s*(?:(msgctxt|msgid_plural|msgid|msgstr(?:\[(\d{1,2})\])?)\s*)?"((?:[^"\\]|\\.)*)"\s*')
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.S)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_WRITTEN = {ord(c): rf"\{name}" for name, c in _ESCAPES.items()} | {ord("\\"): r"\\", ord('"'): r"\""}


@dataclass(slots=True)
class Entry:
    """One message: its texts by keyword (``msgid``, ``msgstr[0]`` ...), and the lines that it stands on."""

    number: int = 0  # of its first line
    texts: dict[str, str] = field(default_factory=dict)
    lines: list[tuple[str, str]] = field(default_factory=list)  # (keyword that the line belongs to, or ""; the line)
    fuzzy: bool = False

    @property
    def source(self) -> str:
        """The text to translate; empty for the header."""
        return self.texts.get("msgid", "")

    @property
    def translation(self) -> str:
        """The translation of the singular, or ""."""
        return self.texts.get("msgstr") or self.texts.get("msgstr[0]", "")


def po_parts(source: Source) -> Iterator[Part]:
    """The parts of a .po: the texts of entries without a translation, which is written into them.

    Raises:
        DocumentError: as :func:`entries`.
    """
    for entry in entries(source):
        wanted = "" if entry.translation or entry.fuzzy else entry.source
        if not has_words(wanted):
            yield "".join(line for _, line in entry.lines).encode()
            continue
        for keyword, line in entry.lines:
            empty = keyword.startswith("msgstr") and not entry.texts[keyword]
            if not empty or not line.lstrip().startswith("msgstr"):
                yield b"" if empty else line.encode()
                continue
            text = entry.source if keyword in ("msgstr", "msgstr[0]") else entry.texts.get("msgid_plural", entry.source)
            core, end = text.strip(), line[len(line.rstrip("\r\n")) :]
            lead, tail = text[: text.index(core)], text[text.index(core) + len(core) :]
            yield f"{keyword} ".encode()
            yield Segment(core, partial(_msgstr, lead, tail, end or "\n"))
            yield end.encode()


def entries(source: Source) -> Iterator[Entry]:
    """The entries of a .po in their order, each with the comments before and the blank lines after it.

    Raises:
        DocumentError: for a line that is none of gettext's, and a header that names another encoding than UTF-8.
    """
    entry, keyword = Entry(), ""
    for number, line in without_bom(source.lines()):
        text = line.strip("\ufeff \t\r\n\f\v")
        if not text or text.startswith("#"):
            if keyword and text:
                yield _checked(source, entry)
                entry, keyword = Entry(), ""
            entry.fuzzy |= text.startswith("#,") and "fuzzy" in text
            entry.lines.append(("", line))
            _bounded(source, number, entry)
            continue
        found = _LINE.fullmatch(line)
        if not found or not (found[1] or keyword):
            raise source.wrong(
                number, f'not a line of a .po file, such as msgid "text" or # a remark: {line.strip()[:60]!r}'
            )
        named, _, piece = found.groups()
        if named in ("msgid", "msgctxt") and keyword.startswith("msgstr"):
            yield _checked(source, entry)
            entry = Entry()
        if named and named in entry.texts:
            raise source.wrong(number, f"a second {named} in one entry, which begins in line {entry.number}")
        keyword = named or keyword
        entry.number = entry.number or number
        entry.texts[keyword] = entry.texts.get(keyword, "") + unescaped(piece)
        entry.lines.append((keyword, line))
        _bounded(source, number, entry)
    yield _checked(source, entry)


def header(text: str) -> dict[str, str]:
    """The fields of a catalogue's header, by their names in small letters."""
    pairs = (line.partition(":") for line in text.split("\n"))
    return {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}


def mo_entries(source: Source) -> Iterator[tuple[str, str]]:
    """Text and translation of each message of a .mo, singular forms alone; the header's text is empty.

    Raises:
        DocumentError: for a file that is no .mo, cut off, or in another encoding than UTF-8.
    """
    data = source.stream.read(MO_BYTES + 1)
    order = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}.get(data[:4])
    if order is None or len(data) > MO_BYTES:
        raise DocumentError(f"{source.name}: not a compiled catalogue (.mo), or larger than {MO_BYTES >> 20} MiB")
    try:
        _, count, texts, translations = struct.unpack_from(f"{order}4I", data, 4)
        for i in range(count):
            pair = [_mo_string(data, order, table + 8 * i) for table in (texts, translations)]
            yield pair[0].rpartition("\x04")[2].partition("\0")[0], pair[1].partition("\0")[0]
    except (struct.error, IndexError):
        raise DocumentError(f"{source.name}: ends in the middle of its messages; copy it again") from None
    except UnicodeDecodeError:
        raise DocumentError(
            f"{source.name}: not in UTF-8; make it anew: `msgunfmt OLD | msgconv -t UTF-8 | msgfmt -o NEW -`"
        ) from None


def unescaped(text: str) -> str:
    """The text between a .po's quotes."""
    return _ESCAPE.sub(_character, text) if "\\" in text else text


def _character(found: re.Match[str]) -> str:
    code = found[1]
    if code[0] == "x" and len(code) == 3:
        return chr(int(code[1:], 16))
    return chr(int(code, 8)) if code[0] in "01234567" else _ESCAPES.get(code, code)


def _msgstr(lead: str, tail: str, end: str, translation: str) -> bytes:
    """A translation between the white space that its source has around it."""
    return _quoted(lead + translation + tail, end).encode()


def _quoted(text: str, end: str) -> str:
    """The text in quotes, as gettext writes it: on one line, or from the next on where it has several."""
    lines = [f'"{line.translate(_WRITTEN)}"' for line in re.split(r"(?<=\n)(?!$)", text)]
    return lines[0] if len(lines) == 1 else end.join(['""', *lines])


def _mo_string(data: bytes, order: str, at: int) -> str:
    length, start = struct.unpack_from(f"{order}2I", data, at)
    if start + length > len(data):
        raise IndexError(start)
    return data[start : start + length].decode()


def _checked(source: Source, entry: Entry) -> Entry:
    if "msgid" in entry.texts and not any(name.startswith("msgstr") for name in entry.texts):
        raise source.wrong(entry.number, "an entry without msgstr; the file ends or goes on before it")
    if not entry.source and "msgstr" in entry.texts:
        kind = header(entry.texts["msgstr"]).get("content-type", "").lower()
        charset = kind.partition("charset=")[2].strip()
        if charset not in ("", "charset", "utf-8", "utf8", "us-ascii", "ascii"):
            raise source.wrong(
                entry.number, f"the header says charset {charset}; `msgconv -t UTF-8 OLD > NEW` makes it UTF-8"
            )
    return entry


def _bounded(source: Source, number: int, entry: Entry) -> None:
    if len(entry.lines) > MOST_LINES:
        raise source.wrong(number, f"an entry of more than {MOST_LINES:,} lines; is it a .po file?")
