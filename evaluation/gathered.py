"""The figures of a run, gathered from what its steps wrote: the middle of summary.json, wherever the run ran.

Every part comes from an artifact's own manifest, so that it can only hold what a step has really written; a step that
has written nothing leaves its part empty.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.results import Evaluation, Verdict
from model.row_counts import RowCount, row_count

Json = dict[str, Any]


def gather(
    corpus: str | None = None,
    tokenizer: str | None = None,
    checkpoint: str | None = None,
    evaluations: Sequence[str] = (),
    verdict: str | None = None,
) -> Json:
    """The parts by name, of the folders of these artifacts; ``corpus`` may be the holdout.

    ``row_counts`` is what became of every row, from the first step to the last, as each step counted it.
    """
    card = _manifest(corpus, "corpus.json")
    cut = _manifest(tokenizer, "tokenizer_report.json")
    training = _manifest(checkpoint, "training.json")
    measured = [Evaluation.read(path) for path in evaluations]
    judged = Verdict.read(verdict) if verdict else None
    counted = [_prepared(card)] if card else []
    told = [part.get("row_counts", []) for part in (cut, training)]
    for entries in (*told, *(evaluation.row_counts for evaluation in measured)):
        # The variants are measured on the same rows: what is told again is not told twice.
        counted += [entry for entry in entries if entry not in counted]
    return {
        "corpus": card,
        "tokenizer": cut,
        "training": training,
        "row_counts": counted,
        "curves": [json.loads(line) for line in _text(checkpoint, "curves.jsonl").splitlines()],
        "variants": [evaluation.model_dump() for evaluation in measured],
        "gates": [result.model_dump() for result in judged.gates] if judged else [],
        "chosen": judged.variant if judged else "",
        "generation": judged.generation.model_dump() if judged else {},
    }


def _text(folder: str | None, name: str) -> str:
    path = Path(folder, name) if folder else None
    return path.read_text(encoding="utf-8") if path and path.exists() else ""


def _manifest(folder: str | None, name: str) -> Json:
    return json.loads(_text(folder, name) or "{}")


def _prepared(card: Mapping[str, Any]) -> RowCount:
    """The rows that prepare-data read, kept and left out, in the form of the steps after it."""
    counts = card["counts"]
    left_out = {**counts.get("rejected", {}), "duplicates": counts.get("duplicates", 0)}
    return row_count("prepare-data", "what was read", counts["read"], counts["kept"], left_out)
