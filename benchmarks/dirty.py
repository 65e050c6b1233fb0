"""What dirt costs: chrF of rows as they are, and of the same rows as people send them.

The rows are varied as evaluation does it (:mod:`evaluation.variations`), but there are more of them: a run looks at 200
of each test set, of which a few may make the difference.

    python -m benchmarks.dirty runs/latest/bundle runs/latest/artifacts/prometheus-mini/prepare-data/holdout --rows 1000
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import translations as common
from benchmarks.machine import RESULTS, heading, keep, markdown
from evaluation.figures import change, processor
from evaluation.quality import translations
from evaluation.results import Score
from model.config import EvaluationConfig
from model.options import OK, Parser, read_settings, run
from model.settings import Count, Settings, setting
from serving.engine import Engine, EngineConfig

FIGURES = ("test_set", "direction", "segments", "chrf", "plain_chrf")


class DirtySettings(Settings):
    """How much is measured."""

    rows: Count = setting(1000, "Rows of each test set and direction.")


def measure(engine: Engine, corpus: Path, rows: int) -> list[dict[str, Any]]:
    """A record for each variation of each test set in each direction."""
    config = EvaluationConfig(max_rows=rows, varied_rows=rows, beams=0)
    with tempfile.TemporaryDirectory(prefix="dirty-") as folder:
        found = translations(engine, corpus, config, Path(folder)).variations
    return [score.model_dump(include=set(FIGURES)) for score in found]


def dirty_table(result: dict[str, Any]) -> str:
    """Markdown: one line per record."""
    rows = [
        [
            f"{record['test_set']} {record['direction']}",
            f"{record['segments']:,}",
            f"{record['plain_chrf']:.1f}",
            f"{record['chrf']:.1f}{change(Score.model_validate(record))}",
        ]
        for record in result["records"]
    ]
    about = f"{result['bundle']}, {result['precision']}, {result['steps']:,} steps of training, greedy"
    return (
        f"{markdown(['', 'texts', 'chrF, as they are', 'chrF'], rows)}\n\n{about}. {processor(result['machine'])}, "
        f"{result['date'][:10]}."
    )


def parser() -> Parser:
    """Which model, and on what."""
    made = common.parser("benchmarks.dirty", __doc__, RESULTS / "dirty.json")
    made.add_argument("corpus", type=Path, help="the corpus, or the part of it that holds the test sets")
    made.add_settings(DirtySettings)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and keep."""
    options = parser().parse_args(argv)
    bundle = common.load(options.bundle)
    with Engine(bundle, EngineConfig(provider="cpu")) as engine:
        records = measure(engine, options.corpus, read_settings(DirtySettings, options).rows)
    result = {**heading("dirty"), "bundle": common.named(bundle), "precision": bundle.precision}
    result |= {"steps": bundle.provenance["training"]["steps"], "records": records}
    keep(result, options.out, dirty_table(result))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
