"""HTML: the texts that a reader sees, to be translated, and the page with their translations in place.

A text is what stands in one block (a paragraph, a cell, a title, a line before ``<br>``), with marks ``<g1>``, ``<g2>``
for its inline tags. model.text.spans keeps marks in their order, so a translation that is parted at its marks fills the
places between the same tags: tags and entities come from the parser alone. Attributes that are read or heard (``alt``,
``title``, ``placeholder``, ``aria-label``) are texts too. Scripts, styles, code, ``<pre>``, ``<textarea>``, SVG, and
what is marked ``translate="no"`` or ``class="notranslate"`` stay as they are.

A page comes out as a page, a part of one as a part. It is written as browsers write it: a tag that was left open is
closed, and ``&nbsp;`` is the character.

    page = Markup("<p>Нажмите <b>Пуск</b></p>")
    page.texts  # ["Нажмите <g1>Пуск<g2>"]
    page.filled(["Press <g1>Start<g2>"])  # "<p>Press <b>Start</b></p>"
"""

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from lxml import etree
from lxml.html import HTMLParser, document_fromstring

from model.errors import ProjectError

# Elements within a line of text, and those that are left alone with all that is in them.
INLINE = {
    "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "img", "ins",
    "kbd", "label", "mark", "math", "q", "s", "samp", "script", "small", "span", "strong", "style", "sub", "sup",
    "svg", "time", "tt", "u", "var", "wbr",
}  # fmt: skip
UNTOUCHED = {
    "code", "kbd", "math", "noscript", "pre", "samp", "script", "style", "svg", "template", "textarea", "tt", "var",
}  # fmt: skip
ATTRIBUTES = ("alt", "title", "placeholder", "aria-label")
VOID = {
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
}  # without an end tag  # fmt: skip
_WHOLE = re.compile(r"\s*(?:<!--.*?-->\s*)*<(!doctype|html|head|body)\b", re.I | re.S)
_ENDS = re.compile(r"</(?:body|html)\s{0,99}>", re.I)
_SPACE = re.compile(r"[ \t\n\r\f]+")  # HTML's: not the no-break space

Place = tuple[Any, str]  # an element, and "text", "tail" or an attribute's name


class MarkupError(ProjectError, ValueError):
    """HTML that is not taken; the message says why."""


class Markup:
    """A page, or a part of one.

    Attributes:
        texts: what is to be translated, each one line.

    Raises:
        MarkupError: for elements nested more than some 250 deep.
    """

    def __init__(self, html: str) -> None:
        # The parser opens no address, and HTML declares no entities.
        parser = HTMLParser(no_network=True, huge_tree=False)
        whole = _WHOLE.match(html)
        # A part of a page is a page's body, which it cannot end.
        page = html if whole else f"<html><body>{_ENDS.sub('', html)}</body></html>"
        root = document_fromstring(page, parser=parser)
        if any("Excessive depth" in error.message for error in parser.error_log):
            raise MarkupError("the HTML has elements nested more than 250 deep; send a part of it")
        self._root, self._part = root, "" if not whole else whole[1].lower()
        self._blocks: list[_Block] = []
        self._places: list[Place] = []
        self._read(root)
        self._end()
        self.texts = [block.text for block in self._blocks]

    def filled(self, translations: Sequence[str]) -> str:
        """The page with a translation for each of its texts; the last ones stay as they are where there are fewer."""
        for block, translation in zip(self._blocks, translations, strict=False):
            block.fill(translation)
        if self._part in ("head", "body"):
            return _written(self._root.find(self._part))
        if not self._part:
            return _inner(self._root.find("body"))
        before, after = list(self._root.itersiblings(preceding=True)), self._root.itersiblings()
        doctype = self._root.getroottree().docinfo.doctype
        return "\n".join(filter(None, [doctype, *map(_written, [*before[::-1], self._root, *after])]))

    def _read(self, element: Any) -> None:
        for name in ATTRIBUTES:
            if name in element.attrib:
                self._add([(element, name)])
        self._places.append((element, "text"))
        for child in element:
            inline = not isinstance(child.tag, str) or child.tag in INLINE  # a comment has no name
            if not inline:
                self._end()
            if not _untouched(child):
                self._read(child)
            if not inline:
                self._end()
            self._places.append((child, "tail"))

    def _end(self) -> None:
        """A block's text ends here."""
        self._add(self._places)
        self._places = []

    def _add(self, places: list[Place]) -> None:
        if any(map(str.isalpha, "".join(map(_get, places)))):
            self._blocks.append(_Block(places))


class _Block:
    """Places of a page that make one text."""

    def __init__(self, places: list[Place]) -> None:
        self._places = places
        parts = list(map(_get, places))
        joined = "".join(parts)
        # Of marks that are no part of the text themselves.
        name = next(
            letters for letters in ("g" * count for count in range(1, len(joined) + 2)) if f"<{letters}" not in joined
        )
        self._mark = re.compile(f"<{name}[0-9]+>")
        marked = parts[0] + "".join(f"<{name}{number}>{part}" for number, part in enumerate(parts[1:], 1))
        text = marked.strip()
        self._before, self._after = marked[: marked.index(text)], marked[marked.index(text) + len(text) :]
        self.text = _SPACE.sub(" ", text)

    def fill(self, translation: str) -> None:
        parts = self._mark.split(f"{self._before}{translation}{self._after}")
        if len(parts) != len(self._places):  # a mark was lost: the words matter more than where the tags stand
            parts = ["".join(parts)] + [""] * (len(self._places) - 1)
        for place, part in zip(self._places, parts, strict=True):
            _set(place, part)


def _get(place: Place) -> str:
    element, name = place
    return (getattr(element, name) if name in ("text", "tail") else element.get(name)) or ""


def _set(place: Place, text: str) -> None:
    element, name = place
    text = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]", "", text)  # which lxml refuses
    if name in ("text", "tail"):
        setattr(element, name, text)
    else:
        element.set(name, text)


def _written(element: Any) -> str:
    """An element as HTML. lxml's own way would spell addresses anew, those with placeholders too: `{{ x }}`."""
    if not isinstance(element.tag, str):
        return etree.tostring(element, encoding="unicode", with_tail=False)
    attributes = "".join(f' {name}="{_escaped(value)}"' for name, value in element.items())
    start = f"<{element.tag}{attributes}>"
    return start if element.tag in VOID else f"{start}{_inner(element)}</{element.tag}>"


def _escaped(value: str) -> str:
    return escape(value, quote=False).replace('"', "&quot;")


def _inner(element: Any) -> str:
    raw = element.tag in ("script", "style")

    def text(part: str | None) -> str:
        return (part or "") if raw else escape(part or "", quote=False)

    return text(element.text) + "".join(_written(child) + text(child.tail) for child in element)


def _untouched(element: Any) -> bool:
    if not isinstance(element.tag, str) or element.tag in UNTOUCHED or element.get("translate", "").lower() == "no":
        return True
    return "notranslate" in element.get("class", "").split()
