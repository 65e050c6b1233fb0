"""BLEU and chrF exactly as sacreBLEU computes them, each with the signature that makes the figure comparable.

Nothing is normalised or tokenized by us first: two figures with the same signature mean the same measurement.

    python -c "from evaluation.metrics import corpus_scores; print(corpus_scores(['a cat'], ['a cat']))"
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sacrebleu.metrics import BLEU, CHRF

_SENTENCE_CHRF = CHRF()


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


def copying_chrf(sources: Sequence[str], references: Sequence[str]) -> float:
    """Corpus chrF, 0 to 100, of the sources themselves: what a model reaches that hands back the text it was given.

    chrF and not BLEU: by BLEU a copy scores 0 in most pairs of languages, and so does a weak but honest model; chrF
    has a figure for names, numbers and words in common, in any script, without a tokenizer.
    """
    return float(CHRF().corpus_score(list(sources), [list(references)]).score)


def sentence_chrf(hypothesis: str, reference: str) -> float:
    """chrF of one sentence, 0 to 100. BLEU of one sentence is mostly zeros, so samples are ranked by this."""
    return float(_SENTENCE_CHRF.sentence_score(hypothesis, [reference]).score)


def spread(scores: Sequence[float], count: int) -> list[int]:
    """Indices of ``count`` rows at evenly spaced quantiles of ``scores``, best first: a fair sample of good and bad."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    if count >= len(order):
        return order
    return [order[int((k + 0.5) * len(order) / count)] for k in range(count)]
