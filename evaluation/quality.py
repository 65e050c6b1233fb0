"""What a bundle writes, beside what it should have: translations of every test set both ways, or continuations.

BLEU and chrF are sacreBLEU's own, each with the signature that makes the figure comparable: nothing is normalised or
tokenized by us first, so two figures with the same signature mean the same measurement. Samples are drawn evenly from
the best to the worst translation, so that a reader sees what the model does badly too.

    python -c "from evaluation.quality import corpus_scores; print(corpus_scores(['a cat'], ['a cat']))"
"""

import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from sacrebleu import corpus_chrf, sentence_chrf
from sacrebleu.metrics import BLEU, CHRF

from evaluation.examples import opening, spaced
from evaluation.prompts import bounded_request, cut, directions, known_author, translated
from evaluation.results import Sample, Score, Search
from evaluation.search import Searching
from evaluation.variations import variations
from model.config import EvaluationConfig
from model.corpus import read_split, test_sets
from model.files import write_text
from model.progress import Progress
from model.row_counts import RowCount, row_count
from serving.engine import Engine

_CHUNK = 256  # rows handed to the engine at once: enough to keep its slots full, few enough for progress lines
_SAMPLE_WORDS = 4  # shorter sources teach a reader little, so they are shown only where there is nothing longer


class Quality(NamedTuple):
    """What the test sets came to; the names are those of :class:`Evaluation`."""

    scores: list[Score]
    search: Search | None
    variations: list[Score]
    samples: list[Sample]
    row_counts: list[RowCount]


def translations(engine: Engine, corpus_dir: str | Path, config: EvaluationConfig, out: Path) -> Quality:
    """Translate the held-out split and every test set both ways; the hypotheses go to ``out``, one line a row.

    Where it is asked for of this precision, all of it once more by a beam search.
    """
    splits = {"heldout": "heldout", **{name: f"test/{name}" for name in test_sets(corpus_dir)}}
    whole = {name: list(read_split(corpus_dir, split)) for name, split in splits.items()}
    sets = {name: rows[: config.max_rows or None] for name, rows in whole.items() if rows}
    ways, searching = directions(engine.bundle), Searching(engine, config)
    times = 2 if searching.beams > 1 else 1
    characters = sum(
        len(row[source])
        for rows in sets.values()
        for source, _ in ways
        for row in (*rows * times, *rows[: config.varied_rows] * 2)  # dirty, and in pairs
    )
    progress = Progress(f"evaluate {engine.bundle.precision}", characters)
    scores, varied, samples, counts = list[Score](), list[Score](), list[Sample](), list[RowCount]()
    for (name, rows), (source, target) in product(sets.items(), ways):
        direction = f"{source}-{target}"
        sources, references = [row[source] for row in rows], [row[target] for row in rows]
        authors = [known_author(engine, row) for row in rows]
        outputs, seconds = _translate(engine, sources, target, authors, progress, f"{name} {direction}")
        write_text(out / f"{name}.{direction}.txt", "".join(f"{line}\n" for line in outputs))
        score = Score(
            test_set=name,
            direction=direction,
            segments=len(rows),
            **corpus_scores(outputs, references),
            # Not BLEU, by which a copy scores 0 in most pairs of languages, and so does a weak but honest model: chrF
            # has a figure for names, numbers and words in common, in any script, without a tokenizer.
            copying_chrf=corpus_chrf(sources, [references]).score,
            seconds=seconds,
        )
        scores.append(score)
        samples += _samples(score, sources, references, outputs, config.samples)
        beyond = {"beyond evaluation.max_rows": len(whole[name]) - len(rows)}
        counts.append(row_count("scores", name, len(whole[name]), len(rows), beyond, direction))
        if (beams := searching.beams) > 1:
            what = f"{name}, {beams} beams, {direction}"
            found, seconds = _translate(engine, sources, target, authors, progress, what, beams)
            write_text(out / f"{name}.{direction}.{beams}-beams.txt", "".join(f"{line}\n" for line in found))
            searched = Score(
                test_set=f"{name}, {beams} beams",
                direction=direction,
                segments=len(found),
                beams=beams,
                **corpus_scores(found, references),
                plain_chrf=score.chrf,
                seconds=seconds,
            )
            searching.add(searched, references, outputs, found)
        for variation in variations(sources[: config.varied_rows]):
            place = f"{name}, {variation.name}"
            wrote = [authors[rows[0]] for rows, _ in variation.rows]
            told, seconds = _translate(engine, variation.sources, target, wrote, progress, f"{place} {direction}")
            expected, plain = variation.expected(references), variation.expected(outputs)
            varied.append(
                Score(
                    test_set=place,
                    direction=direction,
                    segments=len(told),
                    **corpus_scores(told, expected),
                    plain_chrf=corpus_chrf(plain, [expected]).score,
                    seconds=seconds,
                )
            )
    return Quality(scores, searching.ended(), varied, samples, counts)


def _translate(
    engine: Engine,
    texts: Sequence[str],
    target: str,
    authors: Sequence[str | None],
    progress: Progress,
    what: str,
    beams: int = 1,
) -> tuple[list[str], float]:
    """Translations in the texts' order, one line each, cut and put together as in serving; and their seconds."""
    outputs, began = [""] * len(texts), time.perf_counter()
    # Longest first: rows of like length share a step's work, and the estimate of the time left errs on the safe side.
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    for start in range(0, len(order), _CHUNK):
        chunk = order[start : start + _CHUNK]
        asked = [texts[i] for i in chunk], [target] * len(chunk), [authors[i] for i in chunk]
        for i, found in zip(chunk, translated(engine, *asked, beams), strict=True):
            outputs[i] = found.text
        progress.advance(sum(len(texts[i]) for i in chunk), f"{what}, {start + len(chunk)} of {len(texts)} rows")
    return outputs, time.perf_counter() - began


def corpus_scores(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """Corpus BLEU and chrF (both 0 to 100) of one hypothesis and one reference a row, with their signatures.

    Raises:
        ValueError: where the two differ in length or are empty: a score of nothing is not a score.
    """
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} references: they must pair up")
    if not hypotheses:
        raise ValueError("no rows to score")
    bleu, chrf = BLEU(), CHRF()
    return {
        "bleu": bleu.corpus_score(list(hypotheses), [list(references)]).score,
        "chrf": chrf.corpus_score(list(hypotheses), [list(references)]).score,
        "bleu_signature": str(bleu.get_signature()),
        "chrf_signature": str(chrf.get_signature()),
    }


def _samples(
    score: Score, sources: Sequence[str], references: Sequence[str], outputs: Sequence[str], count: int
) -> list[Sample]:
    """``count`` rows at even quantiles of sentence chrF, best first; BLEU of one sentence is mostly zeros."""
    rows = [i for i, source in enumerate(sources) if len(source.split()) >= _SAMPLE_WORDS]
    if len(rows) < 4 * count:
        rows = list(range(len(sources)))
    chrf = [sentence_chrf(outputs[i], [references[i]]).score for i in rows]
    place = {"test_set": score.test_set, "direction": score.direction}
    chosen = [(rows[k], chrf[k]) for k in spread(chrf, count)]
    return [Sample(**place, source=sources[i], reference=references[i], output=outputs[i], chrf=c) for i, c in chosen]


def spread(scores: Sequence[float], count: int) -> list[int]:
    """Indices of ``count`` rows at evenly spaced quantiles of ``scores``, best first: a fair sample of good and bad."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    if count >= len(order):
        return order
    return [order[int((k + 0.5) * len(order) / count)] for k in range(count)]


def continuations(engine: Engine, heldout: Sequence[dict[str, str]], config: EvaluationConfig) -> Quality:
    """Continuations of held-out openings, sampled with a fixed seed; none would be right, so none has a chrF."""
    chosen = spaced(heldout, config.samples)
    openings = [opening(row["text"]) for row in chosen]
    prompts, shortened = cut(engine, [engine.prompt(begun) for begun in openings])
    sampled = {"temperature": 0.8, "top_p": 0.95}
    requests = [bounded_request(engine, ids, 160, seed=seed, **sampled) for seed, ids in enumerate(prompts)]
    originals = [row["text"][len(begun) :][:400] for row, begun in zip(chosen, openings, strict=True)]
    samples = [
        Sample(test_set="heldout", direction="text", source=begun, reference=original, output=result.text)
        for begun, original, result in zip(openings, originals, engine.generate(requests), strict=True)
    ]
    left_out = {"beyond evaluation.samples": len(heldout) - len(chosen)}
    counts = [row_count("samples", "heldout", len(heldout), len(chosen), left_out, cut=shortened)]
    return Quality([], None, [], samples, counts)
