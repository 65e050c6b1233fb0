"""Measures one bundle through the serving engine: what is measured is what will be served.

Every test set in both directions (BLEU, chrF), the held-out loss, tokens/s, peak memory, and samples drawn evenly
from the best to the worst translation, so that a reader sees what the model does badly too.

    python -m evaluation BUNDLE CORPUS --out DIR
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from evaluation.loss import measure_loss, pair_examples, text_examples
from evaluation.metrics import copying_chrf, corpus_scores, sentence_chrf, spread
from evaluation.speed import measure_speed, peak_memory_mb
from model.bundle import Bundle
from model.config import EvaluationConfig
from model.corpus import read_card, read_split, test_sets
from model.errors import ProjectError
from model.files import write_text
from model.progress import Progress
from model.row_counts import RowCount, row_count, sentence, too_long
from model.sessions import hardware
from serving.engine import Engine, EngineConfig, GenerationRequest

FORMAT_VERSION = 1
_CHUNK = 256  # rows handed to the engine at once: enough to keep its slots full, few enough for progress lines
_SPEED_ROWS = 64  # whose prompts are timed, in turn
_SAMPLE_WORDS = 4  # shorter sources teach a reader little, so they are shown only where there is nothing longer


class EvaluationError(ProjectError, ValueError):
    """A bundle and a corpus that cannot be measured together; the message says why and what to do."""


def evaluate_bundle(
    bundle_dir: str | Path, corpus_dir: str | Path, out: str | Path, variant: str, config: EvaluationConfig
) -> dict[str, Any]:
    """Measure a bundle on a corpus; writes ``out/evaluation.json`` (last, atomically) and ``out/hypotheses/*.txt``.

    Returns:
        The evaluation: rows of scores by test set and direction, loss in nats per token, tokens/s, samples.

    Raises:
        EvaluationError: where the corpus has not the languages or the kind of text that the bundle was made for.
    """
    started = time.perf_counter()
    bundle, out = Bundle.load(bundle_dir), Path(out)
    card = read_card(corpus_dir)
    _check(bundle, card, corpus_dir)
    heldout = list(read_split(corpus_dir, "heldout"))
    engine = Engine(bundle, EngineConfig(threads=config.threads))
    engine.start()
    try:
        author_of = _author_of(bundle)
        counts, total = card["counts"], len(heldout)
        loss_rows, timed = heldout[: config.loss_rows], heldout[:_SPEED_ROWS]
        beyond = {"beyond evaluation.loss_rows": total - len(loss_rows)}
        if bundle.task == "translation":
            first, second = bundle.languages
            directions = [(first, second), (second, first)]
            sets = {"heldout": heldout[: config.max_rows or None]}
            for name in test_sets(corpus_dir):
                sets[name] = list(islice(read_split(corpus_dir, f"test/{name}"), config.max_rows or None))
            rows, samples = _translate_all(engine, sets, directions, variant, out, config)
            sizes = {"heldout": total, **counts["test"]}
            row_counts = [_scored(row, sizes[row["test_set"]]) for row in rows]
            groups = {f"{s}-{t}": pair_examples(engine, loss_rows, s, t, author_of) for s, t in directions}
            for direction, examples in groups.items():
                long = {too_long(bundle.config.max_positions): len(loss_rows) - len(examples)}
                row_counts.append(row_count("loss", "heldout", total, len(examples), {**long, **beyond}, direction))
            prompts = [_prompt(engine, row[first], second, author_of(row)) for row in timed]
        else:
            rows, (samples, row_counts) = [], _continue(engine, heldout, config)
            groups = {"text": text_examples(engine, loss_rows)}
            row_counts.append(row_count("loss", "heldout", total, len(loss_rows), beyond))
            prompts = [_prompt(engine, row["text"][:40], None, None) for row in timed]
        untimed = {f"beyond the {_SPEED_ROWS} that are timed": total - len(timed)}
        cut = sum(cut for _, cut in prompts)
        row_counts.append(row_count("speed", "heldout", total, len(timed), untimed, cut=cut))
        evaluation = {
            "format_version": FORMAT_VERSION,
            "variant": variant,
            "task": bundle.task,
            "bytes": _bytes(Path(bundle_dir)),
            "rows": rows,
            **measure_loss(engine, groups, f"evaluate {variant}"),
            "loss_rows": sum(entry["used"] for entry in row_counts if entry["step"] == "loss"),
            **measure_speed(engine, [ids for ids, _ in prompts], config.speed_tokens),
            "peak_memory_mb": peak_memory_mb(),
            "decoding": "greedy, through the serving engine",
            "threads": engine.stats()["threads"],
            "provider": engine.provider,
            "hardware": hardware(),
            "row_counts": row_counts,
            "samples": samples,
        }
    finally:
        engine.close()
    print(sentence(row_counts), flush=True)
    evaluation["seconds"] = time.perf_counter() - started
    evaluation = _finite(evaluation)
    write_text(out / "evaluation.json", json.dumps(evaluation, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    return evaluation


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


def _author_of(bundle: Bundle) -> Callable[[dict], str | None]:
    known = set(bundle.authors)
    return lambda row: row.get("author") if row.get("author") in known else None


def _prompt(engine: Engine, text: str, target: str | None, author: str | None) -> tuple[list[int], bool]:
    """Prompt ids, and whether the text had to be cut to the bundle's limit (the closing token stays in its place)."""
    ids = engine.prompt(text, target=target, author=author)
    limit = engine.limits.max_prompt_tokens
    if engine.limits.context:  # prompt and answer share it: leave the answer a quarter
        limit = min(limit, engine.limits.context * 3 // 4)
    if len(ids) <= limit:
        return ids, False
    return [*ids[: limit - 1], ids[-1]], True


def _scored(row: dict[str, Any], size: int) -> RowCount:
    """The rows behind a row of scores, of a test set that holds ``size``."""
    left_out = {"beyond evaluation.max_rows": size - row["rows"]}
    return row_count("scores", row["test_set"], size, row["rows"], left_out, row["direction"], row["truncated"])


def _room(engine: Engine, prompt: list[int]) -> int:
    """Most tokens that may follow a prompt."""
    limits = engine.limits
    return min(limits.max_new_tokens, limits.context - len(prompt)) if limits.context else limits.max_new_tokens


def _translate_all(
    engine: Engine, sets: dict[str, list[dict]], directions: list[tuple[str, str]], variant: str, out: Path, config: Any
) -> tuple[list[dict], list[dict]]:
    """Translate every set both ways; returns the rows of scores and the samples."""
    characters = sum(len(row[s]) for rows in sets.values() for row in rows for s, _ in directions)
    progress = Progress(f"evaluate {variant}", characters)
    scores, samples = [], []
    for name, rows in sets.items():
        if not rows:
            continue
        for source, target in directions:
            direction = f"{source}-{target}"
            began = time.perf_counter()
            outputs, truncated = _translate(engine, rows, source, target, progress, f"{name} {direction}")
            sources, references = [row[source] for row in rows], [row[target] for row in rows]
            write_text(out / "hypotheses" / f"{name}.{direction}.txt", "".join(f"{line}\n" for line in outputs))
            scores.append(
                {
                    "test_set": name,
                    "direction": direction,
                    "rows": len(rows),
                    **corpus_scores(outputs, references),
                    "copying_chrf": copying_chrf(sources, references),
                    "truncated": truncated,
                    "seconds": time.perf_counter() - began,
                }
            )
            samples += _samples(name, direction, sources, references, outputs, config.samples)
    return scores, samples


def _translate(
    engine: Engine, rows: Sequence[dict], source: str, target: str, progress: Progress, what: str
) -> tuple[list[str], int]:
    """Greedy translations in the rows' order, one line each, and how many sources had to be cut."""
    author_of = _author_of(engine.bundle)
    prompts = [_prompt(engine, row[source], target, author_of(row)) for row in rows]
    outputs = [""] * len(rows)
    # Longest first: rows of like length share a step's work, and the estimate of the time left errs on the safe side.
    order = sorted(range(len(rows)), key=lambda i: -len(prompts[i][0]))
    for start in range(0, len(order), _CHUNK):
        chunk = order[start : start + _CHUNK]
        requests = [
            GenerationRequest(prompt_ids=ids, max_tokens=min(_room(engine, ids), 2 * len(ids) + 16))
            for ids in (prompts[i][0] for i in chunk)
        ]
        for i, result in zip(chunk, engine.generate(requests), strict=True):
            outputs[i] = re.sub(r"[\r\n]+", " ", result.text).strip()
        progress.advance(sum(len(rows[i][source]) for i in chunk), f"{what}, {start + len(chunk)} of {len(rows)} rows")
    return outputs, sum(cut for _, cut in prompts)


def _samples(
    name: str, direction: str, sources: list[str], references: list[str], outputs: list[str], count: int
) -> list[dict]:
    """``count`` rows at even quantiles of sentence chrF, best first."""
    rows = [i for i in range(len(sources)) if len(sources[i].split()) >= _SAMPLE_WORDS]
    if len(rows) < 4 * count:
        rows = list(range(len(sources)))
    scores = [sentence_chrf(outputs[i], references[i]) for i in rows]
    return [
        {
            "test_set": name,
            "direction": direction,
            "source": sources[rows[k]],
            "reference": references[rows[k]],
            "output": outputs[rows[k]],
            "chrf": scores[k],
        }
        for k in spread(scores, count)
    ]


def _continue(engine: Engine, heldout: Sequence[dict], config: EvaluationConfig) -> tuple[list[dict], list[RowCount]]:
    """Continuations of held-out openings, sampled with a fixed seed; ``chrf`` is None, for none would be right."""
    step = max(len(heldout) // max(config.samples, 1), 1)
    chosen = heldout[::step][: config.samples]
    samples, requests, cuts = [], [], 0
    for seed, row in enumerate(chosen):
        cut = row["text"].find(" ", min(40, len(row["text"]) // 2))
        opening = row["text"][: cut if cut > 0 else 40]
        ids, cut = _prompt(engine, opening, None, None)
        cuts += cut
        requests.append(
            GenerationRequest(
                prompt_ids=ids, max_tokens=min(_room(engine, ids), 160), temperature=0.8, top_p=0.95, seed=seed
            )
        )
        samples.append({"test_set": "heldout", "direction": "text", "source": opening})
        samples[-1]["reference"] = row["text"][len(opening) : len(opening) + 400]
    results = engine.generate(requests) if requests else []
    left_out = {"beyond evaluation.samples": len(heldout) - len(chosen)}
    counts = [row_count("samples", "heldout", len(heldout), len(chosen), left_out, cut=cuts)]
    told = [{**sample, "output": result.text, "chrf": None} for sample, result in zip(samples, results, strict=True)]
    return told, counts


def _bytes(bundle_dir: Path) -> int:
    return sum(path.stat().st_size for path in bundle_dir.rglob("*") if path.is_file())


def _finite(value: Any) -> Any:
    """The value with None for every NaN and infinity, which JSON has no word for; the gates fail on both alike."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
