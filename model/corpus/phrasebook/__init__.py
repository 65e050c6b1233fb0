"""The embedded demo corpus: a Russian-English phrasebook generated from templates and a lexicon.

It lets the whole factory run with no data at all, on a language small enough to be learnt in minutes on two cores and
yet not trivial: gender, number, case, animacy, aspect, numerals and prepositions all have to come out right. Russian is
inflected by pymorphy3. Three authors say the same things in their own registers: ``guide`` (a woman; вы, full polite
sentences), ``friend`` (a man; ты, contractions), ``clerk`` (a man; вы, terse and official).

For one author the mapping is one-to-one both ways: a combination of fillers that would repeat any sentence already
said is left out. About 5 % of the combinations are held out, for all authors at once.

    python -m model.corpus.phrasebook --pairs 20 --seed 0      # samples as TSV; without --pairs, statistics
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

from model.corpus.phrasebook.fillers import Filler
from model.corpus.phrasebook.russian import PhrasebookError
from model.corpus.phrasebook.templates import Template, templates

__all__ = ["PhrasebookError", "capacity", "generate", "words"]

HELDOUT_SHARE = 0.05
Said = list[tuple[str, str, str]]


def generate(pairs: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield ``{"ru", "en", "author", "heldout"}`` rows holding exactly ``pairs`` distinct (ru, en) texts, shuffled.

    The same arguments give the same rows. No sentence, Russian or English, is in both a held-out and a training row,
    and every word of the held-out rows is in some training row.

    Raises:
        PhrasebookError: if the templates cannot make that many pairs.
    """
    rng = random.Random(seed)
    combinations = _draw(pairs, rng)
    heldout = _hold_out(combinations, rng)
    rows = [
        {"ru": ru, "en": en, "author": author, "heldout": held}
        for said, held in zip(combinations, heldout, strict=True)
        for author, ru, en in said
    ]
    rng.shuffle(rows)
    yield from rows


def capacity() -> int:
    """Upper bound of the number of rows that all templates can make."""
    return sum(template.combinations * len(template.patterns) for template in templates())


def words(text: str) -> list[str]:
    """Lower-case words of a sentence, as counted in the statistics and by the held-out guarantee."""
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


def _sayings(template: Template, rng: random.Random) -> Iterator[Said]:
    for index in _indices(template.combinations, rng):
        fillers: dict[str, Filler] | None = template.combination(index)
        if fillers:
            yield template.say(fillers)


def _draw(pairs: int, rng: random.Random) -> list[Said]:
    """Combinations from all templates in turn, so that small templates are used up and large ones fill the rest."""
    sources = [_sayings(template, rng) for template in templates()]
    drawn: list[Said] = []
    texts: set[tuple[str, str]] = set()
    sentences: set[str] = set()
    while len(texts) < pairs:
        if not sources:
            raise PhrasebookError(
                f"the phrasebook has {len(texts)} distinct pairs and {pairs} were asked for; ask for fewer"
            )
        for source in list(sources):
            said = next(source, None)
            if said is None:
                sources.remove(source)
                continue
            new = {sentence for _, *both in said for sentence in both}
            if new & sentences:
                continue
            sentences |= new
            drawn.append([])
            for author, ru, en in said:
                if len(texts) < pairs:
                    texts.add((ru, en))
                    drawn[-1].append((author, ru, en))
            if len(texts) == pairs:
                break
    return drawn


def _hold_out(combinations: list[Said], rng: random.Random) -> list[bool]:
    """Mark combinations as held out, but none with a word that no training combination has."""
    heldout = [rng.random() < HELDOUT_SHARE for _ in combinations]
    vocabulary = [{word for _, *both in said for text in both for word in words(text)} for said in combinations]
    known = {word for vocab, held in zip(vocabulary, heldout, strict=True) if not held for word in vocab}
    for index, vocab in enumerate(vocabulary):
        if heldout[index] and not vocab <= known:
            heldout[index] = False
            known |= vocab
    return heldout
