"""Measures one bundle through the serving engine: what is measured is what will be served.

Every test set in both directions (BLEU, chrF), greedily and by a beam search, the held-out loss, tokens/s, peak memory,
and samples for people.
"""

import resource
import sys
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from evaluation.loss import Example, loss_examples, measure_loss
from evaluation.prompts import bounded_request, cut, directions, translation_prompt
from evaluation.quality import continuations, translations
from evaluation.results import Evaluation
from model.bundle import Bundle
from model.config import EvaluationConfig
from model.corpus import read_card, read_split
from model.errors import ProjectError
from model.files import write_json
from model.memory import held_memory
from model.row_counts import RowCount, row_count, sentence, too_long
from model.sessions import hardware
from serving.engine import Engine, EngineConfig, GenerationRequest, TokenEvent

_SPEED_ROWS = 64  # whose prompts are timed, in turn
_BATCHES = (1, 32)  # requests in flight
_RUNS = 3


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
    check_corpus(bundle, read_card(corpus_dir), corpus_dir)
    heldout = list(read_split(corpus_dir, "heldout"))
    loss_rows, timed = heldout[: config.loss_rows], heldout[:_SPEED_ROWS]
    with Engine(bundle, EngineConfig(threads=config.threads)) as engine:
        if bundle.task == "translation":
            quality = translations(engine, corpus_dir, config, out / "hypotheses")
            prompts = [translation_prompt(engine, row, *directions(bundle)[0]) for row in timed]
        else:
            quality = continuations(engine, heldout, config)
            prompts = [engine.prompt(row["text"][:40]) for row in timed]
        examples = loss_examples(engine, loss_rows)
        counts = quality.row_counts + _loss_counts(bundle, examples, len(loss_rows), len(heldout))
        prompts, shortened = cut(engine, prompts)
        untimed = {f"beyond the {_SPEED_ROWS} that are timed": len(heldout) - len(timed)}
        counts.append(row_count("speed", "heldout", len(heldout), len(timed), untimed, cut=shortened))
        evaluation = Evaluation(
            variant=bundle.precision,
            task=bundle.task,
            bytes=sum(path.stat().st_size for path in bundle.path.rglob("*") if path.is_file()),
            scores=quality.scores,
            search=quality.search,
            variations=quality.variations,
            **measure_loss(engine, examples, f"evaluate {bundle.precision}"),
            loss_rows=sum(entry["used"] for entry in counts if entry["step"] == "loss"),
            **_speed(engine, prompts, config.speed_tokens),
            peak_memory_mb=_peak_memory_mb(),
            decoding="greedy, through the serving engine",
            threads=engine.stats()["threads"],
            provider=engine.provider,
            hardware=hardware(),
            row_counts=[*bundle.provenance.get("quantization", {}).get("row_counts", []), *counts],
            samples=quality.samples,
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


def check_corpus(bundle: Bundle, card: dict[str, Any], corpus_dir: str | Path) -> None:
    """Refuse a corpus (its card) that a bundle was not made for.

    Raises:
        EvaluationError: for running text where there should be pairs, the other way round, and for other languages.
    """
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


def _speed(engine: Engine, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
    """Generated tokens per second, prefill and encoder included, with each of _BATCHES requests kept in flight.

    As in serving, a text ends where the model ends it, and a new request takes each place that falls free. The best of
    three runs after a warm-up is kept: on a shared machine the noise only ever slows a run.

    Args:
        prompts: token ids of real held-out prompts, used in turn.
        tokens: most tokens a request may generate.
    """
    if not prompts:
        return {}
    rates, lengths = {}, {}
    for batch in _BATCHES:
        total = max(12, 3 * batch)
        requests = [bounded_request(engine, prompts[i % len(prompts)], tokens) for i in range(total)]
        _in_flight(engine, requests[: max(batch, 2)], batch)
        runs = [_in_flight(engine, requests, batch) for _ in range(_RUNS)]
        rates[str(batch)] = max(generated / seconds for generated, seconds in runs)
        lengths[str(batch)] = runs[0][0] / total
    return {"tokens_per_second": rates, "speed": {"max_tokens": tokens, "mean_tokens": lengths, "runs": _RUNS}}


def _in_flight(engine: Engine, requests: list[GenerationRequest], batch: int) -> tuple[int, float]:
    """Run the requests with ``batch`` of them in flight; returns tokens generated and seconds."""
    finished: SimpleQueue[TokenEvent] = SimpleQueue()  # without streaming, the one event of a request is its last
    started, events = time.perf_counter(), []
    for place, request in enumerate(requests):
        if place >= batch:
            events.append(finished.get())
        engine.submit(request, finished.put, stream=False)
    events += [finished.get() for _ in requests[len(events) :]]
    seconds = time.perf_counter() - started
    results = [event.result for event in events if event.result is not None]
    if errors := [result.error for result in results if result.error is not None]:
        raise errors[0]
    return sum(result.generated_tokens for result in results), seconds


def _peak_memory_mb() -> float:
    """Peak resident memory of this process in MB (10^6 bytes)."""
    if peak := held_memory()[1]:
        return peak / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
