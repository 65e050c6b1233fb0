"""The demo's text: everyday sentences in Russian and English, generated from templates and a lexicon.

It is small enough to be learnt in minutes on two cores and yet not trivial: gender, number, case, animacy, aspect,
numerals and prepositions all have to come out right. Russian is inflected by pymorphy3, which only this tool needs: it
has an environment of its own, and the product reads the file that it writes. Three speakers, the authors of its rows,
say the same things in their own registers: ``guide`` (a woman; вы, full polite sentences), ``friend`` (a man; ты,
contractions), ``clerk`` (a man; вы, terse and official). What everyone says alike (``Спасибо!``) has no author.

For one speaker the mapping is one-to-one both ways: a combination of fillers that would repeat any sentence already
said is left out.

    .venv-phrasebook/bin/python -m tools.phrasebook     # writes the demo profile's file; --show prints the rows
"""

import random
import re
from collections.abc import Iterator

from tools.phrasebook.fillers import SPEAKERS
from tools.phrasebook.russian import PhrasebookError
from tools.phrasebook.templates import Saying, Template, templates

__all__ = ["PhrasebookError", "generate", "words"]

Row = dict[str, str]

AUTHORS = frozenset(speaker.name for speaker in SPEAKERS if speaker.author)


def generate(pairs: int, seed: int) -> Iterator[Row]:
    """Yield ``{"ru", "en"}`` rows, with their ``"author"`` where they have one: ``pairs`` distinct texts, shuffled.

    The same arguments give the same rows.

    Raises:
        PhrasebookError: if the templates cannot make that many pairs.
    """
    rng = random.Random(seed)
    rows = [
        {"ru": ru, "en": en} | ({"author": speaker} if speaker in AUTHORS else {})
        for speaker, ru, en in _draw(pairs, rng)
    ]
    rng.shuffle(rows)
    yield from rows


def words(text: str) -> list[str]:
    """Lower-case words of a sentence, as counted in the statistics."""
    return re.findall(r"[\w'-]+", text.lower())


def _indices(total: int, rng: random.Random) -> Iterator[int]:
    """Every index below ``total`` once, in random order, without holding a large range in memory."""
    if total <= 10_000:
        yield from rng.sample(range(total), total)
        return
    seen: set[int] = set()
    while len(seen) < total:
        index = rng.randrange(total)
        if index not in seen:
            seen.add(index)
            yield index


def _sayings(template: Template, rng: random.Random) -> Iterator[list[Saying]]:
    for index in _indices(template.combinations, rng):
        if fillers := template.combination(index):
            yield template.say(fillers)


def _draw(pairs: int, rng: random.Random) -> Iterator[Saying]:
    """Combinations from all templates in turn, so that small templates are used up and large ones fill the rest."""
    sources = [source for template in templates() for source in [_sayings(template, rng)] * template.share]
    texts: set[tuple[str, str]] = set()
    sentences: set[tuple[str, str]] = set()
    while sources:
        for source in list(sources):
            combination = next(source, None)
            if combination is None:
                sources.remove(source)
                continue
            new = {
                (speaker if speaker in AUTHORS else "", sentence) for speaker, *both in combination for sentence in both
            }
            if new & sentences:
                continue
            sentences |= new
            for speaker, ru, en in combination:
                if (ru, en) in texts:
                    continue  # an expression that is not shortened where it is spoken
                texts.add((ru, en))
                yield speaker, ru, en
                if len(texts) == pairs:
                    return
    raise PhrasebookError(f"the phrasebook has {len(texts)} distinct pairs and {pairs} were asked for; ask for fewer")
