"""Bytes as text; and where they are not UTF-8, the encoding that they are in, as far as it is certain, and the cure."""

import codecs
import contextlib
import re
from collections.abc import Sequence

from model.languages import SCRIPTS, scripts

# The encodings in which text is met beside UTF-8, by its script; of several that fit as well the first is named.
_PAGES = {
    "Latin": ("cp1252", "cp1250", "iso8859-2", "cp1254", "cp1257"),
    "Cyrillic": ("cp1251", "koi8-r", "cp866", "iso8859-5"),
    "Greek": ("cp1253",),
    "Hebrew": ("cp1255",),
    "Arabic": ("cp1256",),
    "Thai": ("cp874",),
    "Han": ("gb2312", "big5", "gb18030"),
    "Japanese": ("cp932", "euc-jp"),
    "Hangul": ("cp949",),
}
_WORD = re.compile(r"[^\W\d_]+")
_UNITS = (("UTF-32LE", 4), ("UTF-32BE", 4), ("UTF-16LE", 2), ("UTF-16BE", 2))


def wide(head: bytes) -> str:
    """The encoding of text in units of two or four bytes, or ""; without a byte order mark where it is certain."""
    for name, _ in _UNITS:
        if head.startswith("\ufeff".encode(name)):
            return name.rstrip("BLE")
    zeros = head.count(0)
    if zeros < 2:
        return ""
    if not head.isascii():
        with contextlib.suppress(UnicodeDecodeError):
            codecs.getincrementaldecoder("utf-8")().decode(head)
            return ""  # UTF-8, whatever character the head's end cuts
    for name, size in _UNITS:
        units = len(head) // size
        # In the wrong units blanks and line ends are other characters; in the right ones all zeros belong to ASCII.
        text = head[: units * size].decode(name, "replace")
        ascii_letters = sum(map(len, re.findall(r"[\t\n\r -~]+", text)))
        plausible = "\0" not in text and "\ufffd" not in text[:-1] and re.search(r"[\t\n ]", text)
        high = head[size - 1 : units * size : size] if name.endswith("LE") else head[: units * size : size]
        if head.isascii() and 2 * sum(byte >= 0x20 for byte in high) > units:
            continue  # letters where the high bytes of letters should be: plain text with zeros in it
        if plausible and 50 * ascii_letters >= units and zeros >= ascii_letters * (size - 1):
            return name
    return ""


def guess(sample: bytes, languages: Sequence[str]) -> tuple[str, str]:
    """The encoding of lines that are not UTF-8, and the first of them in it; two empty strings where nothing fits."""
    best, found = 0.0, ("", "")
    names = {name for code in languages for name in scripts(code)} or set(_PAGES)
    for name in sorted((names | {"Latin"}) & set(_PAGES)):
        for page in _PAGES[name]:
            text = sample.decode(page, "replace")
            if (fit := _fit(text, name)) > best:
                best, found = fit, (page.upper().replace("GB2312", "GB18030"), text.split("\n")[0])
    return found


def _fit(text: str, script: str) -> float:
    """From 0 to 2, how well a text looks that was decoded as one in a script."""
    strange = [c for c in text if c > "\x7f"]
    if not strange or 20 * text.count("\ufffd") > len(strange):
        return 0
    # Accented letters stand among plain ones; letters of other scripts stand together.
    words = "".join(word for word in _WORD.findall(text) if not word.isascii())
    plain = sum(map(str.isascii, words))
    if 4 * plain < len(words) if script == "Latin" else 2 * plain > len(words):
        return 0
    own = [c for c in strange if re.match(f"[{SCRIPTS[script]}]", c)]
    if 5 * len(own) < 3 * len(strange) or len(own) < (1 if script == "Latin" else 4):
        return 0
    # In another page of the same script capitals stand where small letters should, or signs.
    return (len(own) + sum(c == c.lower() for c in own)) / len(strange)


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
