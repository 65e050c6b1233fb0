"""A text of any length as pieces that a model can translate, and the gaps between them, which stay as they are.

Lines are cut into sentences by sentencex, and a sentence that is too long at clauses, else between words. What is no
language belongs to the gaps: white space at the ends of a piece, the marks of a list, emoji, lines without a word. No
piece ends within what is no language (``spans.py``).
Work and memory are bounded by the block that is being cut, not by the text: pieces are made as they are asked for.

    pieces = list(cut("- Привет! Как дела? 🙂\\n", "ru", encode, most=256))
    join(pieces, ["Hello!", "How are you?"]) == "- Hello! How are you? 🙂\\n"
"""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from sentencex import segment

from model.languages import primary, scripts
from model.text.blocks import cut_blocks
from model.text.spans import find, find_iter, has_letters, has_words

# Characters of a line that are searched for sentences together: sentencex takes the square of it where every one of
# them opens a quotation, which is a millisecond here, and seconds for a request of such.
BLOCK = 1000
# What begins an item of a list, a quotation of mail or a line of a dialogue; and emoji with what belongs to them.
_LIST_MARK = re.compile(r"\s*(?:(?:[-*+•·▪●◦‣–—>#]+|\(?\d{1,3}[.)]|\(?[^\W\d_]\))\s+)*")
_EMOJI = re.compile(
    "((?:[0-9#*]\ufe0f?\u20e3|[\u2600-\u27bf\u2b50\u2b55\U0001f000-\U0001faff][\ufe0e\ufe0f\u200d\u20e3\U000e0020-\U000e007f]*)+)"
)
_EMOJI_SIGN = re.compile("[\u20e3\u2600-\u27bf\u2b50\u2b55\U0001f000-\U0001faff]")  # each of them has one
# Scripts without a space between sentences.
_UNSPACED = {"Han", "Japanese", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan"}


class Piece(NamedTuple):
    """A prompt, the gap before it, and its words; after a text's last piece comes one without a prompt, for the gap
    behind it.
    """

    gap: str
    prompt: list[int]
    text: str = ""


def cut(text: str, language: str, encode: Callable[[str], list[int]], most: int, space: str = "") -> Iterator[Piece]:
    """The pieces of a text, in order.

    Args:
        text: as it was given: ``encode`` cleans what a model sees, and the gaps are not cleaned.
        language: its code, by which sentencex knows abbreviations.
        encode: makes a piece a prompt of token ids.
        most: tokens of a prompt that is short enough. What does not fit is cut again, down to a single character.
        space: stands between two sentences with nothing between them in the text.
    """
    gap, begun, code = "", False, primary(language)
    for line in text.splitlines(keepends=True):
        start = _LIST_MARK.match(line).end()  # type: ignore[union-attr]  # it matches nothing, too
        gap += line[:start]
        for sentence in _sentences(line[start:], code):
            first = True
            for part, prompt in _prompts(sentence, encode, most):
                if not prompt:
                    gap += part
                    continue
                yield Piece(gap or (space if begun and first else ""), prompt, part)
                gap, begun, first = "", True, False
    yield Piece(gap, [])


def join(pieces: Iterable[Piece], translations: Iterable[str]) -> str:
    """The text of a text's pieces, the last one without a prompt included, once each prompt has its translation."""
    found = iter(translations)
    return "".join(piece.gap + (next(found) if piece.prompt else "") for piece in pieces)


def space_between_sentences(language: str) -> str:
    """What a language writes between two sentences."""
    return "" if _UNSPACED.intersection(scripts(language)) else " "


def _sentences(line: str, language: str) -> Iterator[str]:
    """A line in sentences, and emoji between them: together exactly the line."""
    spans = find_iter(line)
    span, at, part = next(spans, None), 0, ""
    for sentence in _ends(line, language):
        part, at = part + sentence, at + len(sentence)
        while span and span.end <= at:
            span = next(spans, None)
        if not span or at <= span.start:
            yield part
            part = ""
    if part:
        yield part


def _ends(line: str, language: str) -> Iterator[str]:
    """A line cut wherever a sentence may end."""
    for block in cut_blocks([line], BLOCK):
        for part in _EMOJI.split(block) if _EMOJI_SIGN.search(block) else [block]:
            yield from segment(language, part) if has_letters(part) else [part]


def _prompts(text: str, encode: Callable[[str], list[int]], most: int) -> Iterator[tuple[str, list[int]]]:
    """A sentence as it fits: each part with its prompt, and with none where it is no language."""
    inner = text.strip()
    if not has_words(inner):
        yield text, []
        return
    start = text.index(inner)
    yield text[:start], []
    prompt = encode(inner)
    if len(prompt) <= most or len(inner) == 1:
        yield inner, prompt
    else:
        for part in _parts(inner):
            yield from _prompts(part, encode, most)
    yield text[start + len(inner) :], []


def _parts(text: str) -> Iterable[str]:
    """A sentence that is too long, in parts that are not: between its spans, else at its clauses."""
    edges = [0, *(edge for span in find(text) for edge in (span.start, span.end)), len(text)]
    if len(edges) == 2:
        return cut_blocks([text], max(1, 3 * len(text) // 4))
    return (text[start:end] for start, end in pairwise(edges))
