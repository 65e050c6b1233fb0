"""Plain text, a line being a paragraph; and tables, .tsv and .jsonl, of which the wanted fields are texts."""

import json
import re
from collections.abc import Collection, Iterator

from model.documents.parts import LINE_BYTES, Part, Segment, Source, one_line, spaced, unless_same

TEXT_FIELDS = ("text", "content", "source", "prompt")  # of a .jsonl, where no fields are named
_LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
_BLANK = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder(strict=False)


def text_parts(source: Source) -> Iterator[Part]:
    """The parts of plain text: every line with letters is a text."""
    for _, line in source.lines():
        for piece in _LINES.findall(line):  # the old Mac's lines end with a mere carriage return
            yield from _in_line(piece)


def tsv_parts(source: Source, fields: Collection[str] = ()) -> Iterator[Part]:
    """The parts of tab-separated text: every cell is a text, or those of the columns ``fields``, numbered from 1.

    Raises:
        DocumentError: when a column is no number.
    """
    columns = {_column(source, field) for field in fields}
    for _, line in source.lines():
        for column, cell in enumerate(re.split(r"(?<=\t)", line), 1):
            yield from _in_line(cell) if not columns or column in columns else [cell.encode()]


def jsonl_parts(source: Source, fields: Collection[str] = ()) -> Iterator[Part]:
    """The parts of JSON lines: the strings of the fields ``fields``, or else of the first of TEXT_FIELDS that is there.

    Raises:
        DocumentError: for a line that is no JSON object, or has none of the fields.
    """
    for number, line in source.lines():
        start = _blank(line, line.startswith("\ufeff"))
        if start == len(line):
            yield line.encode()
            continue
        try:
            found = dict(_strings(line, start))
        except (ValueError, IndexError, RecursionError) as error:
            problem = "it ends too early" if isinstance(error, IndexError) else error
            raise source.wrong(number, f"not a JSON object on one line ({problem})") from None
        wanted = [name for name in fields if name in found]
        wanted = wanted or [name for name in TEXT_FIELDS if name in found and not fields][:1]
        if not wanted:
            names = ", ".join(found) or "none"
            cure = "name the ones to translate" if not fields else f"wanted: {', '.join(fields)}"
            raise source.wrong(number, f"no text field; fields with text: {names}; {cure}")
        done = 0
        for text, begin, end in sorted((found[name] for name in wanted), key=lambda span: span[1]):
            yield line[done : begin + 1].encode()
            yield from _json_string(text, line[begin + 1 : end - 1])
            done = end - 1
        yield line[done:].encode()


def _in_line(text: str) -> Iterator[Part]:
    """A text that ends with its line, or with its cell; a byte order mark before it is none of it."""
    mark = "\ufeff" * text.startswith("\ufeff")
    yield mark.encode()
    for part in spaced(text.removeprefix(mark)):
        yield part if isinstance(part, bytes) else Segment(part.text, unless_same(part.text, part.text, one_line))


def _column(source: Source, field: str) -> int:
    if not field.isdecimal() or not 1 <= int(field) <= LINE_BYTES:
        raise source.wrong(1, f"the column {field!r} is no number; the columns of a .tsv are numbered from 1")
    return int(field)


def _json_string(text: str, raw: str) -> Iterator[Part]:
    """The inside of a string's quotes: where it stays its own spelling, and else whether it escapes letters."""

    def written(translation: str) -> str:
        return json.dumps(translation, ensure_ascii=raw.isascii() and "\\u" in raw)[1:-1]

    core = text.strip()
    if raw == written(text):
        yield from spaced(text, lambda one: written(one).encode())
    else:  # white space and text cannot be told apart in a spelling of somebody else's
        lead, tail = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :] if core else ""
        yield from spaced(core or text, unless_same(core or text, raw, lambda one: written(lead + one + tail)))


def _strings(line: str, at: int) -> Iterator[tuple[str, tuple[str, int, int]]]:
    """The fields of an object that are strings: name, and text, begin and end of the value with its quotes."""
    if line[at] != "{":
        raise ValueError(f"it begins with {line[at]!r}")
    at = _blank(line, at + 1)
    comma = False
    while comma or line[at] != "}":
        if line[at] != '"':
            raise ValueError(f"a name should stand at character {at + 1}")
        name, at = _DECODER.raw_decode(line, at)
        at = _blank(line, at)
        if line[at] != ":":
            raise ValueError(f"a colon should stand at character {at + 1}")
        begin = _blank(line, at + 1)
        value, at = _DECODER.raw_decode(line, begin)
        if isinstance(value, str):
            yield name, (value, begin, at)
        at = _blank(line, at)
        if line[at] not in ",}":
            raise ValueError(f"a comma should stand at character {at + 1}")
        comma = line[at] == ","
        at = _blank(line, at + 1) if comma else at
    if _blank(line, at + 1) < len(line):
        raise ValueError(f"more than one record, from character {at + 2}")


def _blank(line: str, at: int) -> int:
    found = _BLANK.match(line, at)
    return found.end() if found else at
