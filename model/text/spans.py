"""What of a text is no language, and comes out of a translation as it went in.

Addresses, placeholders, tags, entities, code, options, paths, mentions: a model that has seen few of them copies
some, and loses or spells anew the others. So a text that has any is tried in up to three ways, the first good one wins:

1. as it is: the translation is good if its spans are those of the text, each as often as there, tags in their order;
2. without what stands at its ends, and with a short stand-in for each span inside, which models copy more often;
3. what is between the spans by itself, with the spans put in between, which cannot fail.

A text without spans is translated as it is, and its translation is not looked at.

    for attempt in attempts("Откройте %s на https://example.com"):
        if (text := attempt.join([translate(source) for source in attempt.sources])) is not None:
            break
"""

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

# Every repeat is bounded or ends at what it may not hold, so that a search takes time as the text's length.
_KINDS = (
    r"`{1,3}[^`\n]{1,200}`{1,3}",  # code
    # Addresses, without the punctuation that follows them; of mail, too.
    r"(?:(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9+.-]{1,15}://|www\.)[^\s<>\"`«»“”]*[^\s<>\"`«»“”.,;:!?'()\[\]{}…]",
    r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,63}",
    r"</?[A-Za-z][\w:.-]{0,63}(?:\s[^<>=\n]{0,200}=[^<>\n]{0,1000})?\s?/?>|<!--[^\n]{0,200}?-->",  # tags
    r"&(?:[A-Za-z]\w{1,31}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});",  # entities
    r"[$#%]?\{\{?[^{}\n]{0,100}\}\}?",  # {name}, {0}, {{ x }}, ${x}, %{x}
    r"%[A-Z_]{3,64}%|%\(\w{1,64}\)[-+#0 ]?\d{0,3}(?:\.\d{1,3})?[A-Za-z]",  # %PATH%, %(name)s
    r"%(?:\d{1,2}\$)?[-+#0']{0,4}(?:\d{1,3}|\*)?(?:\.(?:\d{1,3}|\*))?"  # %s, %1$d, %-5.2f, %lu
    r"(?:hh|h|ll|l|L|q|j|z|t)?(?:p[A-Z]|[diouxXeEfFgGaAcCsSpnqvTtmDRE])(?![A-Za-z]{3})|%%|%L?\d{1,2}(?![\d%])",  # %1
    r"\$[A-Za-z_]\w{0,63}",  # $HOME
    r"(?<![\w@-])--[A-Za-z][\w-]{0,63}",  # --option
    r"(?<![\w@.])@[A-Za-z_]\w{0,63}",  # @mention
    # Paths.
    r"(?<![\w/.~:])[~.]{0,2}(?:/[A-Za-z0-9_.@+-]{0,127}[A-Za-z0-9_]){2,32}/?|(?<!\w)[A-Za-z]:\\[\w\\.$%-]{1,200}",
)
_SPAN = re.compile("|".join(_KINDS))
# Each of them has one of these, which most texts have not: a text without is told in a twentieth of the time.
_SIGN = re.compile(r"[`@<&{%$/\\]|www\.|--")
_STAND_IN, _STOOD_IN = "%{}", re.compile(r"%(\d{1,2})(?!\d)")
_OPENING, _CLOSING = re.compile(r"^\W+"), " \t\n([\"'«„“—–-,:;"
MOST_STAND_INS = 9  # of more, some are always lost

Listed = tuple[Counter[str], list[str]]


@dataclass(frozen=True)
class Span:
    """A part of a text, from ``start`` to ``end``, and what its translation has in its place."""

    start: int
    end: int
    kept: str


@dataclass(frozen=True)
class Attempt:
    """Texts to translate, and what their translations make; None where that is not good."""

    sources: tuple[str, ...]
    join: Callable[[Sequence[str]], str | None]


def has_letters(text: str) -> bool:
    """Whether anything in a text is a letter of any script."""
    return any(map(str.isalpha, text))


def words_of(text: str) -> str:
    """A text without its spans."""
    return _SPAN.sub(" ", text) if _SIGN.search(text) else text


def has_words(text: str) -> bool:
    """Whether a text has a letter that is no part of a span."""
    return has_letters(text) and has_letters(words_of(text))


def find(text: str) -> list[Span]:
    """The spans of a text that are no language, in order."""
    return list(find_iter(text))


def find_iter(text: str) -> Iterator[Span]:
    """As :func:`find`, one after the other: a long text may have many."""
    return (Span(*match.span(), match[0]) for match in (_SPAN.finditer(text) if _SIGN.search(text) else ()))


def kept(source: str, translation: str) -> tuple[int, int]:
    """How many of a source's spans its translation has, each as often as the source; and how many the source has."""
    wanted, found = _counted(source), _counted(translation)
    return sum(count for span, count in wanted.items() if found[span] == count), wanted.total()


def attempts(text: str, terms: Sequence[Span] = (), used: Callable[[str], bool] | None = None) -> list[Attempt]:
    """Ways to translate a text so that its spans stay, to be tried in order until one is good; the last one always is.

    Of a text that has none it is one, the text itself.

    ``terms`` are parts of the text whose translation is given; ``used`` tells whether a translation has them already.
    """
    spans = _merged(text, find(text), terms)
    if not spans:
        return [Attempt((text,), lambda translations: translations[0])]
    wanted = _listed(text)

    def as_it_is(translations: Sequence[str]) -> str | None:
        found = translations[0]
        return found if _listed(found) == wanted and (used is None or used(found)) else None

    edges = [0, *(edge for span in spans for edge in (span.start, span.end)), len(text)]
    gaps = [text[start:end] for start, end in list(pairwise(edges))[::2]]
    whole = [span.kept for span in spans]
    found = [Attempt((text,), as_it_is)] if any(gaps) else []
    if 0 < sum(span.start > 0 and span.end < len(text) for span in spans) <= MOST_STAND_INS:
        found.append(_with_stand_ins(gaps, whole, wanted))
    return [*found, _between(gaps, whole, wanted)]


def translated(ways: Sequence[Iterable[Attempt]], translate: Callable[[list[str]], Sequence[str]]) -> list[str]:
    """What becomes of several texts, each by its own attempts; ``translate`` gets all that is to be tried at once."""
    found: list[str | None] = [None] * len(ways)
    turns = list(map(iter, ways))
    while left := [index for index, text in enumerate(found) if text is None]:
        tried = [next(turns[index]) for index in left]
        answers = iter(translate([source for attempt in tried for source in attempt.sources]))
        for index, attempt in zip(left, tried, strict=True):
            found[index] = attempt.join([next(answers) for _ in attempt.sources])
    return [text for text in found if text is not None]


def trying(ways: Iterable[Attempt]) -> Generator[tuple[str, ...], Sequence[str], str]:
    """What becomes of one text: yields what to translate next, is sent the translations, and returns the text."""
    for attempt in ways:
        translations = yield attempt.sources
        if (text := attempt.join(translations)) is not None:
            return text
    raise AssertionError("the last attempt is always good")


def _with_stand_ins(gaps: list[str], spans: list[str], wanted: Listed) -> Attempt:
    """Gaps without letters are at the ends alone; the spans there are left out, the others have stand-ins."""
    first, last = not gaps[0], len(spans) - (not gaps[-1])
    inner = spans[first:last]
    numbers = [str(number + 1) for number in range(len(inner))]  # one digit each, so that as words they are in order
    after = zip(numbers, gaps[first + 1 : last + 1], strict=True)
    text = gaps[first] + "".join(_STAND_IN.format(number) + gap for number, gap in after)

    def join(translations: Sequence[str]) -> str | None:
        parts = _STOOD_IN.split(translations[0])
        if sorted(parts[1::2]) != numbers:
            return None
        parts[1::2] = [inner[int(number) - 1] for number in parts[1::2]]
        found = "".join([*spans[:first], _around(text, "".join(parts)), *spans[last:]])
        return found if _listed(found) == wanted else None

    return Attempt((_core(text),), join)


def _between(gaps: list[str], spans: list[str], wanted: Listed) -> Attempt:
    """Each gap by itself."""
    written = [gap for gap in gaps if gap]

    def join(translations: Sequence[str]) -> str:
        # What a model makes up is no span of the text.
        found = iter([_around(gap, _SPAN.sub("", one)) for gap, one in zip(written, translations, strict=True)])
        parts = [
            part for gap, span in zip(gaps, [*spans, ""], strict=True) for part in (next(found) if gap else "", span)
        ]
        text = "".join(parts)
        # A word that has come to stand at a span's edge can make another span of it, or none: `-c/--all`.
        return text if _listed(text) == wanted else " ".join(filter(None, parts))

    return Attempt(tuple(map(_core, written)), join)


def _core(gap: str) -> str:
    """A gap without the white space and the marks that tie it to the spans beside it."""
    return _OPENING.sub("", gap).rstrip(_CLOSING)


def _around(gap: str, translation: str) -> str:
    """A translation of a gap's core, in its place."""
    core = _core(gap)
    start = gap.index(core)
    return gap[:start] + translation.strip() + gap[start + len(core) :]


def _merged(text: str, spans: list[Span], terms: Sequence[Span]) -> list[Span]:
    """Spans and terms in order, joined with each other and with the text's ends where no letter is between."""
    found: list[tuple[int, int, list[str]]] = []
    end = 0
    for span in sorted([*spans, *terms], key=lambda one: (one.start, -one.end)):
        if span.start < end:
            continue  # a term inside of a span
        gap = text[end : span.start]
        if found and not has_letters(gap):
            found[-1][2].extend((gap, span.kept))
            found[-1] = (found[-1][0], span.end, found[-1][2])
        elif not found and not has_letters(gap):
            found.append((0, span.end, [gap, span.kept]))
        else:
            found.append((span.start, span.end, [span.kept]))
        end = span.end
    if found and not has_letters(text[end:]):
        start, _, parts = found.pop()
        found.append((start, len(text), [*parts, text[end:]]))
    return [Span(start, end, "".join(parts)) for start, end, parts in found]


def _listed(text: str) -> Listed:
    """How often a text has each span, and its tags in order."""
    found = [match[0] for match in _SPAN.finditer(text)]
    return Counter(found), [span for span in found if span.startswith("<")]


def _counted(text: str) -> Counter[str]:
    return _listed(text)[0]
