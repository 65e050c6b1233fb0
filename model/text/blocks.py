"""Text cut into blocks of bounded size, where its own structure lets it: for running text, and for sentences too long.

"".join(cut_blocks(["one two\\nthree four"], 10)) == "one two\\nthree four"
"""

import unicodedata
from collections.abc import Iterable

# Where a block may end, best first: after a paragraph, a line, a sentence, a clause, a word. Scripts that write no
# spaces between words write none after their marks.
_ENDS = (
    ("\n\n",),
    ("\n",),
    (". ", "! ", "? ", "… ", "。", "！", "？", "।", "။", "።", "។", "།", "۔"),
    ("; ", ": ", ", ", " — ", " – ", " (", "；", "：", "，", "、", "، ", "؛ "),
    (" ",),
)


def cut_blocks(parts: Iterable[str], max_chars: int) -> Iterable[str]:
    """Text, given in parts that may end anywhere, in blocks of at most ``max_chars``: together exactly the text.

    A block ends as late as possible after the best of the marks in its second half, and never within a letter that is
    several characters.
    """
    rest = ""
    for part in parts:
        rest += part
        start = 0
        while len(rest) - start > max_chars:
            end = _end(rest, start, max_chars)
            yield rest[start:end]
            start = end
        rest = rest[start:]
    if rest:
        yield rest


def _end(text: str, start: int, max_chars: int) -> int:
    end, low = start + max_chars, start + max_chars // 2
    for marks in _ENDS:
        at = max(found + len(mark) if (found := text.rfind(mark, low, end)) >= 0 else -1 for mark in marks)
        if at >= 0:
            return at
    cut = end
    while cut > low and unicodedata.category(text[cut])[0] == "M":
        cut -= 1  # a vowel's or an accent's sign stays with its letter
    return cut if cut > low else end
