"""Markdown: paragraphs, headings, list items, quotes and cells of tables, without their marks.

The lines of a paragraph are one text. What is no language inside it stays, with a mark in its place: code, the targets
of links, emphasis, tags, addresses. Code blocks, front matter, comments, formulas and definitions of links stay as they
are. What Markdown reads in more than one way is read as CommonMark does, as far as text and code can be told apart by
lines.
"""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from model.documents.parts import Part, Source, joined, one_line, spaced, unless_same, without_bom

MOST_BYTES = 1 << 24
PARAGRAPH_CHARS = 1 << 16
_FENCE = re.compile(r"(`{3,}(?=[^`]*$)|~{3,})")
_PREFIX = re.compile(
    r"(?:[ \t]*>)*+[ \t]*+(?:(?:[-*+]|\d{1,9}[.)])(?:[ \t]++|(?=\r?\n?$)))*+(?:\[[ xX]\][ \t]++)?"
    r"(?:\[\^[^\]]+\]:[ \t]*+)?(?:\#{1,6}(?:[ \t]++|(?=\r?\n?$)))?(?:[ \t]*>)*+[ \t]*+"
)
_BLOCK = re.compile(r"[ \t]*(?:[-*+][ \t]|\d{1,9}[.)][ \t]|#{1,6}[ \t]|\[\^[^\]]+\]:)")  # begins a block by itself
_QUOTE = re.compile(r"[ \t]*>")
_ITEM = re.compile(r"([ \t]*)((?:[-*+]|\d{1,9}[.)])[ \t]+)")
_RULE = re.compile(r"[ \t]*(?:=+|-+|(?:[-*_][ \t]*){3,})\s*$")
_TABLE = re.compile(r"[ \t>]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?\s*$")
_DEFINITION = re.compile(r" {0,3}\[([^\[\]^][^\[\]]*)\]:[ \t]*\S")
_RAW = re.compile(r" {0,3}<(pre|script|style|textarea)\b", re.I)
_INLINE = re.compile(
    r"""(?<!`)(`+)(?!`).{0,1000}?(?<!`)\1(?!`)     # code
    | <!--.{0,2000}?--> | </?[a-zA-Z][^<>]*> | <[^\s<>]+[:@][^\s<>]+>
    | (?:\ {2,}|\\)\n                               # a line break that is meant
    | \\[!-/:-@\[-`{-~] | &\#?\w{1,32};
    | \]\((?:[^()\\]|\\.|\([^()]{0,1000}\)){0,2000}+\) | \]\[[^\[\]]{0,1000}\]
    | \[\^[^\[\]]{1,200}\] | \[(?P<label>[^\[\]]{1,200})\](?![(\[]) | !?\[ | \]
    | https?://[^\s<>()\[\]]+ | [\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+
    | \*+ | (?<!\w)_+ | _+(?!\w) | ~~""",
    re.S | re.X,
)
_SPECIAL = re.compile(r"[`*_\[\]<>|\\]")


def markdown_parts(source: Source) -> Iterator[Part]:
    """The parts of a Markdown document.

    Raises:
        DocumentError: for bytes that are not UTF-8, and a file of more than MOST_BYTES.
    """
    whole = replace(source, stream=io.BytesIO(source.whole(MOST_BYTES)))  # a link's definition may come after it
    lines = [line for _, line in without_bom(whole.lines())]
    labels = {" ".join(found[1].lower().split()) for line in lines if (found := _DEFINITION.match(line))}
    paragraph: list[str] = []
    for kind, block in _blocks(lines):
        if paragraph and (kind != "more" or sum(map(len, paragraph)) > PARAGRAPH_CHARS):
            yield from _paragraph(paragraph, labels)
            paragraph = []
        if kind == "kept":
            yield "".join(block).encode()
        elif kind == "row":
            yield from _paragraph(block, labels, table=True)
        else:
            paragraph += block
    if paragraph:
        yield from _paragraph(paragraph, labels)


def _blocks(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Lines by what they are: "kept", a table's "row", a paragraph's first line ("text") or a further one ("more")."""
    i, item, blank, open_ = 0, 0, True, False  # item: where the text of the last list item begins
    while i < len(lines):
        line = lines[i]
        end = _end_of_code(lines, i)
        bare = line.strip("\ufeff \t\r\n")
        indent = len(line.expandtabs(4)) - len(line.expandtabs(4).lstrip(" "))
        if not bare:
            end, blank, open_ = i + 1, True, False
        elif not end:
            if found := _ITEM.match(line):
                item = len(found[0].expandtabs(4)) if indent < item + 4 else item
            elif blank and indent < item:
                item = 0
            code = blank and not open_ and indent >= item + 4 and not found
            if code or _DEFINITION.match(line) or _RULE.match(line):
                end = i + 1
                blank, open_ = code, False
        if end:
            yield "kept", lines[i:end]
            blank, open_ = (blank, open_) if end == i + 1 else (False, False)
            i = end
            continue
        if not open_ and i + 1 < len(lines) and "|" in line and "|" in lines[i + 1] and _TABLE.match(lines[i + 1]):
            while i < len(lines) and lines[i].strip() and "|" in lines[i]:
                yield "row", [lines[i]]
                i += 1
            blank = False
            continue
        more = (
            open_
            and not _BLOCK.match(_QUOTE.sub("", line))
            and bool(_QUOTE.match(line)) == bool(_QUOTE.match(lines[i - 1]))
        )
        yield "more" if more else "text", [line]
        blank, open_ = False, not re.match(r"[ \t>]*#{1,6}[ \t]", line)
        i += 1


def _end_of_code(lines: list[str], i: int) -> int:
    """The line after a block that stays as it is and begins in line ``i``; 0 where none does."""
    bare = lines[i].strip().lstrip("\ufeff> \t")
    if item := _ITEM.match(bare):
        bare = bare[item.end() :]
    if i == 0 and bare in ("---", "+++"):
        ends = (bare, "...") if bare == "---" else (bare,)
        return next((j + 1 for j in range(1, len(lines)) if lines[j].rstrip() in ends), 0)
    if fence := _FENCE.match(bare):
        mark = fence[0]
        return next((j + 1 for j in range(i + 1, len(lines)) if _closes(lines[j], mark)), len(lines))
    if bare.startswith("<!--"):
        return next((j + 1 for j in range(i, len(lines)) if "-->" in lines[j]), len(lines))
    if bare == "$$":
        return next((j + 1 for j in range(i + 1, len(lines)) if lines[j].strip() == "$$"), 0)
    if raw := _RAW.match(lines[i]):
        return next((j + 1 for j in range(i, len(lines)) if f"</{raw[1].lower()}>" in lines[j].lower()), len(lines))
    return 0


def _closes(line: str, mark: str) -> bool:
    bare = line.strip(" \t\r\n>")
    return len(bare) >= len(mark) and not bare.strip(mark[0])


def _paragraph(lines: list[str], labels: set[str], table: bool = False) -> Iterator[Part]:
    """The parts of lines that are one text, but for what divides it."""
    prefixes, inner = list[str](), list[str]()
    for line in lines:
        found = _PREFIX.match(line)
        at = found.end() if found and (not prefixes or _QUOTE.match(line)) else len(line) - len(line.lstrip(" \t"))
        prefixes.append(line[:at])
        inner.append(line[at:].rstrip("\r\n"))
    ends = [line[len(line.rstrip("\r\n")) :] for line in lines]
    joints = iter([end + prefix for end, prefix in zip(ends, prefixes[1:], strict=False)])
    text = "\n".join(inner)

    def raw(stretch: str) -> str:
        return re.sub("\n", lambda _: next(joints), stretch)

    yield prefixes[0].encode()
    done, group = 0, list[Part]()
    pattern = re.compile(rf"{_INLINE.pattern}| \|", _INLINE.flags) if table else _INLINE
    for found in pattern.finditer(text):
        if (label := found["label"]) and " ".join(label.lower().split()) not in labels:
            continue  # brackets in a text
        group += _run(text[done : found.start()], raw)
        done, mark = found.end(), raw(found[0]).encode()
        if found[0] == "|" or found[0].endswith("\n"):  # a cell's end, or a line's that is meant
            yield from joined(group)
            yield mark
            group = []
        else:
            group.append(mark)
    group += _run(text[done:], raw)
    yield from joined(group)
    yield ends[-1].encode()


def _run(text: str, raw: Callable[[str], str]) -> Iterator[Part]:
    """A stretch of text without marks, which may go over several lines."""
    core = text.strip()
    at = text.index(core)
    yield raw(text[:at]).encode()
    joined, spelled = " ".join(core.split()), raw(core)
    yield from spaced(joined, unless_same(joined, spelled, lambda one: _escaped(one_line(one), core)))
    yield raw(text[at + len(core) :]).encode()


def _escaped(text: str, like: str) -> str:
    """The text with backslashes before what would be marks, unless the source has them as text."""
    return _SPECIAL.sub(lambda found: found[0] if found[0] in like else f"\\{found[0]}", text)
