"""Measures one bundle through the serving engine: what is measured is what will be served.

Every test set in both directions (BLEU, chrF), the held-out loss, tokens/s, peak memory, and samples for people.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from evaluation.loss import Example, loss_examples, measure_loss
from evaluation.prompts import cut, directions, translation_prompt
from evaluation.quality import continuations, translations
from evaluation.results import Evaluation
from evaluation.speed import measure_speed, peak_memory_mb
from model.bundle import Bundle
from model.config import EvaluationConfig
from model.corpus import read_card, read_split
from model.errors import ProjectError
from model.files import write_json
from model.row_counts import RowCount, row_count, sentence, too_long
from model.sessions import hardware
from serving.engine import Engine, EngineConfig

_SPEED_ROWS = 64  # whose prompts are timed, in turn


class EvaluationError(ProjectError, ValueError):
    """A bundle and a corpus that cannot be measured together; the message says why and what to do."""


def evaluate_bundle(
    bundle_dir: str | Path, corpus_dir: str | Path, out: str | Path, config: EvaluationConfig
) -> Evaluation:
    """Measure a bundle on a corpus; writes ``out/evaluation.json`` (last, atomically) and ``out/hypotheses/*.txt``.

    Raises:
        EvaluationError: where the corpus has not the languages or the kind of text that the bundle was made for.
    """
    started = time.perf_counter()
    bundle, out = Bundle.load(bundle_dir), Path(out)
    _check(bundle, read_card(corpus_dir), corpus_dir)
    heldout = list(read_split(corpus_dir, "heldout"))
    loss_rows, timed = heldout[: config.loss_rows], heldout[:_SPEED_ROWS]
    with Engine(bundle, EngineConfig(threads=config.threads)) as engine:
        if bundle.task == "translation":
            scores, samples, counts = translations(engine, corpus_dir, config, out / "hypotheses")
            prompts = [translation_prompt(engine, row, *directions(bundle)[0]) for row in timed]
        else:
            scores, (samples, counts) = [], continuations(engine, heldout, config)
            prompts = [engine.prompt(row["text"][:40]) for row in timed]
        examples = loss_examples(engine, loss_rows)
        counts += _loss_counts(bundle, examples, len(loss_rows), len(heldout))
        prompts, shortened = cut(engine, prompts)
        untimed = {f"beyond the {_SPEED_ROWS} that are timed": len(heldout) - len(timed)}
        counts.append(row_count("speed", "heldout", len(heldout), len(timed), untimed, cut=shortened))
        evaluation = Evaluation(
            variant=bundle.precision,
            task=bundle.task,
            bytes=sum(path.stat().st_size for path in bundle.path.rglob("*") if path.is_file()),
            scores=scores,
            **measure_loss(engine, examples, f"evaluate {bundle.precision}"),
            loss_rows=sum(entry["used"] for entry in counts if entry["step"] == "loss"),
            **measure_speed(engine, prompts, config.speed_tokens),
            peak_memory_mb=peak_memory_mb(),
            decoding="greedy, through the serving engine",
            threads=engine.stats()["threads"],
            provider=engine.provider,
            hardware=hardware(),
            row_counts=counts,
            samples=samples,
            seconds=time.perf_counter() - started,
        )
    print(sentence(counts), flush=True)
    write_json(out / "evaluation.json", evaluation.model_dump())
    return evaluation


def _loss_counts(bundle: Bundle, examples: dict[str, list[Example]], asked: int, total: int) -> list[RowCount]:
    """Of the rows behind the loss; running text is cut into windows, so none of it is too long."""
    counts = []
    for name, found in examples.items():
        used, direction = (asked, "") if bundle.task == "text" else (len(found), name)
        left_out = {too_long(bundle.config.max_positions): asked - used, "beyond evaluation.loss_rows": total - asked}
        counts.append(row_count("loss", "heldout", total, used, left_out, direction))
    return counts


def _check(bundle: Bundle, card: dict[str, Any], corpus_dir: str | Path) -> None:
    kind = "parallel" if bundle.task == "translation" else "text"
    if card["kind"] != kind:
        raise EvaluationError(
            f"{corpus_dir} holds {card['kind']} text, and the bundle {bundle.path} does {bundle.task}: "
            f"evaluate it on a {kind} corpus"
        )
    if bundle.task == "translation" and sorted(card["languages"]) != sorted(bundle.languages):
        raise EvaluationError(
            f"{corpus_dir} has the languages {card['languages']}, and the bundle {bundle.path} {bundle.languages}: "
            "evaluate it on a corpus of its own languages"
        )
