"""What translators' tools exchange: .xliff (1.2 and 2) and .tmx, units of a source and its translation in XML.

A unit that has a translation is left alone; one without gets it. Tags inside a source (``<g>``, ``<ph>``) are taken
over into the translation, and are marks in the text; what a format calls code (``<bpt>`` ...) is never translated.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from model.documents.markup import Token, attribute, content, tokens
from model.documents.parts import Part, Source, joined, spaced
from model.languages import primary
from model.text.spans import has_words

UNIT_TOKENS = 100_000
# Elements whose text is markup of another format, and not language.
CODES = frozenset(("bpt", "ept", "ph", "it", "ut", "x", "bx", "ex", "sc", "ec", "cp"))
_UNITS = frozenset(("trans-unit", "segment", "tu"))
_OWNERS = {"source": ("trans-unit", "segment"), "target": ("trans-unit", "segment"), "seg": ("tuv",)}
# Where a document says what its sides are in: the element, and the attributes of source and target.
_SAYS = {"file": ("source-language", "target-language"), "xliff": ("srcLang", "trgLang"), "header": ("srclang", "")}
_CDATA = (b"<![CDATA[", b"]]>")


@dataclass(slots=True)
class Side:
    """A text in one language: the tokens of its element, ``begin`` being the first one's place in the unit."""

    name: str
    language: str
    begin: int
    tokens: list[Token] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What it says, without codes."""
        return "".join(run if isinstance(run, str) else "" for run in runs(self)).strip()


@dataclass(slots=True)
class Unit:
    """One unit: its tokens, its sides, and the languages that the document says they are in."""

    tokens: list[Token]
    source_language: str
    target_language: str
    sides: list[Side] = field(default_factory=list)

    def side(self, language: str) -> Side | None:
        """The first side in a language; another country's will do where there is none of its own."""
        own = next((side for side in self.sides if side.language.lower() == language.lower()), None)
        return own or next((side for side in self.sides if primary(side.language) == primary(language)), None)


def xliff_parts(source: Source, target: str) -> Iterator[Part]:
    """The parts of an .xliff: the sources of units without a target, which is written into them.

    Raises:
        DocumentError: for what is not well-formed, and a file whose targets are in another language than ``target``.
    """
    for piece in pieces(source):
        if isinstance(piece, Token):
            yield piece.raw
            continue
        found = {side.name: side for side in piece.sides}
        if (says := piece.target_language) and primary(says) != primary(target):
            raise source.wrong(piece.tokens[0].line, f"the file's targets are in {says}, not in {target}")
        yield from _filled(piece, found.get("source"), found.get("target"), "target")


def tmx_parts(source: Source, target: str, origin: str = "") -> Iterator[Part]:
    """The parts of a .tmx: of units without a text in the language ``target`` those in ``origin``.

    Without ``origin`` it is what the file says its sources are in, or whatever comes first.

    Raises:
        DocumentError: for what is not well-formed.
    """
    for piece in pieces(source):
        if isinstance(piece, Token):
            yield piece.raw
            continue
        language = origin or piece.source_language
        others = (side for side in piece.sides if primary(side.language) != primary(target))
        side = piece.side(language) if language and language != "*all*" else next(others, None)
        yield from _filled(piece, side, piece.side(target), f'tuv xml:lang="{attribute(target)}"')


def pieces(source: Source) -> Iterator[Token | Unit]:
    """A document's units, and the tokens between them.

    Raises:
        DocumentError: for what is not well-formed, and a unit that does not end.
    """
    says, unit, path, language = ("", ""), None, list[str](), ""
    for token in tokens(source):
        if unit is None:
            if token.kind != "start" or token.name not in _UNITS:
                if token.kind == "start" and token.name in _SAYS:
                    names = _SAYS[token.name]
                    says = (token.attributes.get(names[0], says[0]), token.attributes.get(names[1], says[1]))
                yield token
                continue
            unit, path = Unit([], *says), []
        unit.tokens.append(token)
        if token.kind == "start":
            if token.name == "tuv":
                language = token.attributes.get("lang", "")
            if path and path[-1] in _OWNERS.get(token.name, ()) and len(path) <= 2:
                own = language if token.name == "seg" else says[token.name == "target"]
                unit.sides.append(Side(token.name, token.attributes.get("lang", own), len(unit.tokens) - 1))
            path.append(token.name)
        elif token.kind == "end":
            path.pop()
            for side in unit.sides:
                if not side.tokens and side.name == token.name and len(path) == 1 + (token.name == "seg"):
                    side.tokens = unit.tokens[side.begin :]
            if not path:
                yield unit
                unit = None
        if unit and len(unit.tokens) > UNIT_TOKENS:
            raise source.wrong(token.line, f"a unit of more than {UNIT_TOKENS:,} pieces; split it")


def runs(side: Side) -> Iterator[str | bytes]:
    """What is between a side's tags: stretches of text, and what stands between them as it is."""
    depth, text = 0, ""
    for token in side.tokens[1:-1]:
        if token.name in CODES:
            depth += {"start": 1, "end": -1}[token.kind]
        if token.kind == "text" and not depth:
            text += token.text
        elif token.raw and token.raw not in _CDATA:
            if text:
                yield text
            text = ""
            yield token.raw
    if text:
        yield text


def _filled(unit: Unit, side: Side | None, goal: Side | None, element: str) -> Iterator[Part]:
    """The unit with a translation of ``side`` in ``goal``, or in a new element; as it is where nothing is to do."""
    if side is None or (goal and goal.text) or not has_words(side.text):
        yield b"".join(token.raw for token in unit.tokens)
        return
    new = goal is None
    if goal:
        before, after = unit.tokens[: goal.begin], unit.tokens[goal.begin + len(goal.tokens) :]
        opening = re.sub(rb"\s*/>$", b">", goal.tokens[0].raw)
    else:
        last = side.begin + len(side.tokens) if side.name == "source" else len(unit.tokens) - 1
        before, after = unit.tokens[:last], unit.tokens[last:]
        prefix = _prefix(side)
        opening = f"<{prefix}{element}>".encode() + (f"<{prefix}seg>".encode() if side.name == "seg" else b"")
    indent = next((token.raw for token in unit.tokens[1:2] if token.kind == "text" and not token.text.strip()), b"")
    if new and side.name == "seg" and before and before[-1].kind == "text":
        before, after = before[:-1], [before[-1], *after]  # the line end before </tu> stays there
    yield b"".join(token.raw for token in before)
    yield (indent if new else b"") + opening
    yield from joined(chain.from_iterable(map(_parts, runs(side))))
    yield b"".join(b"</%s>" % tag for tag in reversed(re.findall(rb"<([^\s/>]+)", opening)))
    yield b"".join(token.raw for token in after)


def _parts(run: str | bytes) -> Iterator[Part]:
    if isinstance(run, bytes):
        yield run
    else:
        yield from spaced(run, lambda text: content(text).encode())


def _prefix(side: Side) -> str:
    """The namespace's prefix of a side's element, with its colon."""
    found = re.match(rb"<([^\s/>]+:)", side.tokens[0].raw)
    return found[1].decode() if found else ""
