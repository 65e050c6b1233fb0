"""Unicode's NFC in time that grows with the text: one rule for the corpus, the tokenizers and serving.

``unicodedata.normalize`` sorts a run of combining marks by insertion, so that n marks in a row take n * n steps
(python/cpython#149079): 16 KB of them held the interpreter for 0.2 s. Here long runs are put in canonical order first,
by a sort that is not quadratic, and the insertion finds nothing left to move. The result is the same to the last
character: texts that are canonically equivalent have one NFC.

    nfc("и\\u0306") == "й"
"""

import re
import unicodedata

SHORT = 256  # characters; the square of so few is no matter, and nearly all sentences are spared the search
# What may be a long run of marks: none of them is a letter, a digit or ASCII (a test looks at every character there
# is). No living text needs more than 30 in a row (UAX #15, stream-safe text format); shorter runs cost nothing.
_LONG = re.compile(r"[^\w\x00-\x7f]{31,}")
_LONG_OF_MARKS = re.compile(rb"[^\x00]{31,}")  # by their combining classes; 0 is a character that is none


def nfc(text: str) -> str:
    """The text in NFC, exactly as ``unicodedata.normalize("NFC", text)`` gives it."""
    if len(text) > SHORT and not text.isascii():
        text = _LONG.sub(_in_order, text)
    return unicodedata.normalize("NFC", text)


def _in_order(run: re.Match[str]) -> str:
    """The run decomposed, long runs of marks that follow each other in canonical order."""
    text = "".join([unicodedata.normalize("NFD", character) for character in run[0]])
    parts, end = list[str](), 0
    for marks in _LONG_OF_MARKS.finditer(bytes(map(unicodedata.combining, text))):
        parts += text[end : marks.start()], "".join(sorted(text[slice(*marks.span())], key=unicodedata.combining))
        end = marks.end()
    return "".join([*parts, text[end:]])
