"""Bytes as text; and where they are not UTF-8, the encoding that they are in, as far as it is certain, and the cure."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence

from model.languages import SCRIPTS, scripts

# The encodings in which text is met beside UTF-8, by its script; of several that fit as well the first is named.
_PAGES = {
    "Latin": ("cp1252", "cp1250", "cp1254", "cp1257"),
    "Cyrillic": ("cp1251", "koi8-r", "cp866", "iso8859-5"),
    "Greek": ("cp1253",),
    "Hebrew": ("cp1255",),
    "Arabic": ("cp1256",),
    "Thai": ("cp874",),
    "Han": ("gb18030", "big5"),
    "Japanese": ("cp932", "euc-jp"),
    "Hangul": ("cp949",),
}
_HIGH = re.compile(rb"[\x80-\xff]+")
_UNITS = (("UTF-32LE", 4), ("UTF-32BE", 4), ("UTF-16LE", 2), ("UTF-16BE", 2))
_BOMS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def wide(head: bytes) -> str:
    """The encoding of text in units of two or four bytes, or ""; without a byte order mark where it is certain."""
    for bom, name in _BOMS:
        if head.startswith(bom):
            return name
    zeros = head.count(0)
    if zeros < 2 or (not head.isascii() and _is_utf8(head)):
        return ""
    for name, size in _UNITS:
        units = len(head) // size
        # In the wrong units blanks and line ends are other characters; in the right ones all zeros belong to ASCII.
        text = head[: units * size].decode(name, "replace")
        ascii_letters = sum(map(len, re.findall(r"[\t\n\r -~]+", text)))
        plausible = "\0" not in text and "\ufffd" not in text[:-1] and re.search(r"[\t\n ]", text)
        if head.isascii() and max(head[size - 1 :: size] if name.endswith("LE") else head[::size]) >= 0x20:
            continue  # letters where the high bytes of letters should be: plain text with zeros in it
        if plausible and 50 * ascii_letters >= units and zeros >= ascii_letters * (size - 1):
            return name
    return ""


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def guess(line: bytes, languages: Sequence[str]) -> tuple[str, str]:
    """The most likely encoding of a line that is not UTF-8, and the line's text in it; two empty strings if none is."""
    runs = [len(run) for run in _HIGH.findall(line)]
    alone = sum(runs) < 2 * len(runs)  # accented letters stand alone among plain ones
    names = {name for code in languages for name in scripts(code)} or set(_PAGES)
    names = names & {"Latin"} if alone else names - {"Latin"}
    best = ("", "", 0.0)
    for name in sorted(names & set(_PAGES)):
        letters = re.compile(f"[{SCRIPTS[name]}]")
        for page in _PAGES[name]:
            try:
                text = line.decode(page)
            except UnicodeDecodeError:
                continue
            own = letters.findall(text)
            # In a page of the same script with its letters elsewhere, capitals stand where small letters should.
            score = len(own) + sum(map(str.islower, own))
            if score > best[2]:
                best = (page, text, score)
    return best[0].upper(), best[1]


def cure(encoding: str) -> str:
    """The command that makes a file one that can be read."""
    return f"convert it with `iconv -f {encoding} -t UTF-8 OLD > NEW`"


def decode(data: bytes) -> str:
    """UTF-8, and what some programs write for it: characters beyond U+FFFF as two surrogates of three bytes each."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return whole(data.decode("utf-8", "surrogatepass"))


def whole(text: str) -> str:
    """The text with its surrogates joined in pairs, and the lone ones, which no encoding can write, left out."""
    return text if text.isprintable() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
