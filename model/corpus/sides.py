"""Sentence pairs from two files, one for each language: the same lines (``train.ru``, ``train.en``), or subtitles.

Lines belong together by their number. Subtitles of one film (``film.ru.srt``, ``film.en.srt``) belong together by time:
two cues that share more than half of the shorter one's time are one text, and so are the few that hang together in this
way, as where one language has a sentence in two cues. What is seen alone has no pair. Subtitles of different releases,
which begin at different times, do not fit; nothing here moves them.
"""

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from model import encoding
from model.corpus.bilingual import as_corpus, document
from model.corpus.files import MAX_LINE_BYTES, CorpusError, SourceFile, extensions
from model.corpus.lines import text_blocks
from model.corpus.tally import Tally
from model.documents.subtitles import Cue, cues

MOST_CUES = 4  # of one language in a pair; more hang together by chance


def side_of(name: str, languages: Sequence[str]) -> tuple[int, str] | None:
    """Which language's side of a pair a file is, by its name, and the name without the language and compression.

    ``("news.ru.gz", ["ru", "en"])`` -> ``(0, "news")``; ``film.en.srt`` is the side 1 of ``film.srt``.
    """
    kind, compression = extensions(name)
    plain = name[: len(name) - len(compression)]
    tail = kind if kind in (".srt", ".txt") else ""
    base, dot, code = plain[: len(plain) - len(tail)].rpartition(".")
    codes = [language.lower() for language in languages]
    return (codes.index(code.lower()), base + tail) if dot and base and code.lower() in codes else None


def paired(files: list[SourceFile], languages: Sequence[str], roles: Collection[str]) -> list[SourceFile]:
    """The files, of which two sides of a pair are one, the first language's; one without the other is left out.

    Args:
        roles: of the files that are looked at; the others stay as they are.
    """
    found: dict[str, dict[int, SourceFile]] = {}
    rest = []
    for file in files:
        if file.role in roles and (side := side_of(file.name, languages)):
            found.setdefault(side[1], {})[side[0]] = file
        else:
            rest.append(file)
    for sides in found.values():
        first, *others = (sides[index] for index in sorted(sides))
        rest.append(
            replace(first, other=others[0]) if others else replace(first, role="the other language's file is not there")
        )
    return sorted(rest, key=lambda file: file.name)


def side_pairs(file: SourceFile, tally: Tally) -> Iterator[tuple[str, str]]:
    """The pairs of a file and its other side.

    Raises:
        CorpusError: when either cannot be read, or they have not as many lines.
    """
    assert file.other
    yield from _timed(file, file.other, tally) if file.format == ".srt" else _lines(file, file.other, tally)


def _lines(one: SourceFile, other: SourceFile, tally: Tally) -> Iterator[tuple[str, str]]:
    for number, pair in enumerate(itertools.zip_longest(_split(one), _split(other)), 1):
        first, second = pair
        if first is None or second is None:
            short, long = (one, other) if first is None else (other, one)
            raise CorpusError(
                f"{short.name}: ends after line {number - 1:,}, and {long.name} goes on: their lines are no pairs; "
                f"copy or download both again"
            )
        tally.count()
        try:
            yield encoding.decode(first), encoding.decode(second)
        except UnicodeDecodeError as error:
            tally.reject_bytes(number, error)
        if not number % 1000:
            tally.check_file(whole=False)


def _split(file: SourceFile) -> Iterator[bytes]:
    rest = b""
    for block in text_blocks(file):
        *lines, rest = (rest + block).split(b"\n") if rest else block.split(b"\n")
        yield from lines
        if len(rest) > MAX_LINE_BYTES:
            raise CorpusError(f"{file.name}: a line longer than {MAX_LINE_BYTES >> 20} MiB; is it text?")
    if rest:
        yield rest


def _timed(one: SourceFile, other: SourceFile, tally: Tally) -> Iterator[tuple[str, str]]:
    with as_corpus():
        sides = [cues(document(file, tally.languages)) for file in (one, other)]
    for first, second in aligned(*sides):
        tally.count()
        yield " ".join(cue.text for cue in first), " ".join(cue.text for cue in second)


def aligned(one: list[Cue], other: list[Cue]) -> Iterator[tuple[list[Cue], list[Cue]]]:
    """Cues that are seen together, in order; one that is seen alone stands beside an empty list."""
    i = j = 0
    while i < len(one) or j < len(other):
        if j == len(other) or (i < len(one) and not _together(one[i], other[j]) and one[i].end <= other[j].end):
            yield [one[i]], []
            i += 1
        elif i == len(one) or not _together(one[i], other[j]):
            yield [], [other[j]]
            j += 1
        else:
            begin = i, j
            i, j = i + 1, j + 1
            while True:  # a sentence may be several cues on either side
                if i < len(one) and _together(one[i], other[j - 1]):
                    i += 1
                elif j < len(other) and _together(one[i - 1], other[j]):
                    j += 1
                else:
                    break
            groups = one[begin[0] : i], other[begin[1] : j]
            if max(map(len, groups)) <= MOST_CUES:
                yield groups
            else:
                yield from (([cue], []) for cue in groups[0])


def _together(one: Cue, other: Cue) -> bool:
    shared = min(one.end, other.end) - max(one.begin, other.begin)
    return 2 * shared > min(one.end - one.begin, other.end - other.begin)
