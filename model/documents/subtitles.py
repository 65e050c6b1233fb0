"""SubRip, .srt: numbered cues, each with its times and its lines of text.

A sentence that is broken over a cue's lines is one text, and its translation is broken over as many; a line that begins
with a dash is somebody else's. Tags (``<i>``, ``{\\an8}``) stay where they are.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from model.documents.parts import DocumentError, Part, Source, joined, one_line, spaced, unless_same, without_bom

MOST_LINES = 1000  # between the times of two cues
MOST_CUES = 100_000  # a film has some thousands
_TIME = r"(\d{1,3}):(\d\d):(\d\d)[,.](\d{1,3})"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}")
_TAG = re.compile(r"(</?[a-zA-Z][^<>]*>|\{\\[^{}]*\})")
_DASH = re.compile(r"\s*[-–—]\s?")


@dataclass(frozen=True, slots=True)
class Cue:
    """A text on the screen, without tags, from ``begin`` to ``end`` in milliseconds."""

    begin: int
    end: int
    text: str


def srt_parts(source: Source) -> Iterator[Part]:
    """The parts of subtitles.

    Raises:
        DocumentError: as :func:`_blocks`.
    """
    for head, lines, _, _ in _blocks(source):
        yield "".join(head).encode()
        for said in _speakers(lines):
            yield from _said(said)


def cues(source: Source) -> list[Cue]:
    """The cues that have text, in their order in time.

    Raises:
        DocumentError: as :func:`_blocks`, and for more cues than a film can have.
    """
    found = []
    for _, lines, begin, end in _blocks(source):
        text = " ".join(_TAG.sub("", " ".join(lines)).split())
        if text and end > begin >= 0:
            found.append(Cue(begin, end, text))
        if len(found) > MOST_CUES:
            raise DocumentError(f"{source.name}: more than {MOST_CUES:,} cues; split the file")
    return sorted(found, key=lambda cue: cue.begin)


def _blocks(source: Source) -> Iterator[tuple[list[str], list[str], int, int]]:
    """Of each cue the lines to its times, those of its text and what is blank after them, and when it begins and ends.

    Raises:
        DocumentError: where lines go on and on without times.
    """
    head, lines, times = list[str](), list[str](), (-1, -1)
    for number, line in without_bom(source.lines()):
        if found := _TIMES.match(line):
            index = [lines.pop()] if lines and lines[-1].strip().isdecimal() else []
            yield (head, lines, *times) if head else (lines, [], *times)
            head, lines = [*index, line], []
            times = _milliseconds(*found.groups()[:4]), _milliseconds(*found.groups()[4:])
        else:
            lines.append(line)
        if len(lines) > MOST_LINES:
            raise source.wrong(
                number, f"{MOST_LINES:,} lines without times (00:00:01,000 --> 00:00:02,000); is it .srt?"
            )
    if not head:
        raise source.wrong(1, "no cue has times (00:00:01,000 --> 00:00:02,000); is it .srt?")
    yield (head, lines, *times)


def _milliseconds(hours: str, minutes: str, seconds: str, fraction: str) -> int:
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(fraction.ljust(3, "0"))


def _speakers(lines: list[str]) -> Iterator[list[str]]:
    """The lines in groups: what one says, and blank lines."""
    group: list[str] = []
    for line in lines:
        if group and (_DASH.match(line) or not line.strip() or not group[-1].strip()):
            yield group
            group = []
        group.append(line)
    if group:
        yield group


def _said(lines: list[str]) -> Iterator[Part]:
    """What one says in a cue: one text, with marks for tags in the middle."""
    raw = "".join(lines)
    dash = _DASH.match(raw)
    runs = _TAG.split(raw[dash.end() :] if dash else raw)
    yield dash[0].encode() if dash else b""
    yield from joined(part for index, run in enumerate(runs) for part in ([run.encode()] if index % 2 else _run(run)))


def _run(run: str) -> Iterator[Part]:
    """A stretch of text between two tags."""
    core = run.strip()
    at = run.index(core)
    text = " ".join(core.split())
    yield run[:at].encode()
    yield from spaced(text, unless_same(text, core, partial(_broken, core)))
    yield run[at + len(core) :].encode()


def _broken(like: str, text: str) -> str:
    """The text on at most as many lines as another, of about one length."""
    count = like.count("\n") + 1
    if count == 1:
        return one_line(text)
    width = max(1, -(-len(text) // count))
    while len(lines := textwrap.wrap(text, width, break_on_hyphens=False)) > count:
        width += 1
    return ("\r\n" if "\r\n" in like else "\n").join(lines)
