"""Measures one bundle through the serving engine: what is measured is what will be served.

Every test set in both directions (BLEU, chrF), the held-out loss, tokens/s, peak memory, and samples for people.

    python -m evaluation BUNDLE CORPUS --out DIR
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.loss import Example, measure_loss, pair_examples, text_examples
from evaluation.prompts import Prompt, pair_prompt, text_prompt
from evaluation.quality import Rows, continuations, translations
from evaluation.results import Evaluation, Sample, Score
from evaluation.speed import measure_speed, peak_memory_mb
from model.bundle import Bundle
from model.config import EvaluationConfig
from model.corpus import read_card, read_split, test_sets
from model.errors import ProjectError
from model.files import write_json
from model.row_counts import RowCount, row_count, sentence, too_long
from model.sessions import hardware
from serving.engine import Engine, EngineConfig

_SPEED_ROWS = 64  # whose prompts are timed, in turn


class EvaluationError(ProjectError, ValueError):
    """A bundle and a corpus that cannot be measured together; the message says why and what to do."""


@dataclass
class _Measured:
    """What the two kinds of text are measured by differently."""

    scores: list[Score] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    examples: dict[str, list[Example]] = field(default_factory=dict)  # of the loss, by direction
    prompts: list[Prompt] = field(default_factory=list)  # to be timed
    row_counts: list[RowCount] = field(default_factory=list)


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
    with Engine(bundle, EngineConfig(threads=config.threads)) as engine:
        if bundle.task == "translation":
            measured = _translation(engine, corpus_dir, heldout, config, out)
        else:
            measured = _text(engine, heldout, config)
        untimed = {f"beyond the {_SPEED_ROWS} that are timed": len(heldout) - len(measured.prompts)}
        cut = sum(prompt.cut for prompt in measured.prompts)
        timed = row_count("speed", "heldout", len(heldout), len(measured.prompts), untimed, cut=cut)
        counts = [*measured.row_counts, timed]
        evaluation = Evaluation(
            variant=bundle.precision,
            task=bundle.task,
            bytes=sum(path.stat().st_size for path in bundle.path.rglob("*") if path.is_file()),
            scores=measured.scores,
            **measure_loss(engine, measured.examples, f"evaluate {bundle.precision}"),
            loss_rows=sum(entry["used"] for entry in counts if entry["step"] == "loss"),
            **measure_speed(engine, [prompt.ids for prompt in measured.prompts], config.speed_tokens),
            peak_memory_mb=peak_memory_mb(),
            decoding="greedy, through the serving engine",
            threads=engine.stats()["threads"],
            provider=engine.provider,
            hardware=hardware(),
            row_counts=counts,
            samples=measured.samples,
            seconds=time.perf_counter() - started,
        )
    print(sentence(counts), flush=True)
    write_json(out / "evaluation.json", evaluation.model_dump())
    return evaluation


def _translation(
    engine: Engine, corpus_dir: str | Path, heldout: Rows, config: EvaluationConfig, out: Path
) -> _Measured:
    first, second = engine.bundle.languages
    directions = [(first, second), (second, first)]
    measured = _Measured(prompts=[pair_prompt(engine, row, first, second) for row in heldout[:_SPEED_ROWS]])
    sets: dict[str, Rows] = {"heldout": heldout}
    sets |= {name: list(read_split(corpus_dir, f"test/{name}")) for name in test_sets(corpus_dir)}
    for score, samples, counted in translations(engine, sets, directions, config, out / "hypotheses"):
        measured.scores.append(score)
        measured.samples += samples
        measured.row_counts.append(counted)
    rows = heldout[: config.loss_rows]
    for source, target in directions:
        examples = pair_examples(engine, rows, source, target)
        long = {too_long(engine.bundle.config.max_positions): len(rows) - len(examples)}
        measured.examples[f"{source}-{target}"] = examples
        measured.row_counts.append(_loss_rows(heldout, len(rows), len(examples), long, f"{source}-{target}"))
    return measured


def _text(engine: Engine, heldout: Rows, config: EvaluationConfig) -> _Measured:
    rows = heldout[: config.loss_rows]
    samples, counted = continuations(engine, heldout, config)
    return _Measured(
        samples=samples,
        examples={"text": text_examples(engine, rows)},
        prompts=[text_prompt(engine, row["text"][:40]) for row in heldout[:_SPEED_ROWS]],
        row_counts=[counted, _loss_rows(heldout, len(rows), len(rows), {}, "")],
    )


def _loss_rows(heldout: Rows, asked: int, used: int, long: dict[str, int], direction: str) -> RowCount:
    left_out = {**long, "beyond evaluation.loss_rows": len(heldout) - asked}
    return row_count("loss", "heldout", len(heldout), used, left_out, direction)


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
