"""Measure a bundle from the command line.

python -m evaluation BUNDLE CORPUS --out DIR
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation.evaluate import evaluate_bundle
from evaluation.results import Summary
from evaluation.table import result_table
from model.config import EvaluationConfig
from model.options import OK, Parser, read_settings, run


def parser() -> Parser:
    """The command line."""
    made = Parser("evaluation", "Measure a bundle on a corpus, through the serving engine.")
    made.add_argument("bundle", type=Path, help="folder of a bundle")
    made.add_argument("corpus", type=Path, help="folder that prepare-data wrote")
    made.add_argument("--out", type=Path, required=True, help="folder for evaluation.json and the hypotheses")
    made.add_settings(EvaluationConfig)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print the table."""
    options = parser().parse_args(argv)
    config = read_settings(EvaluationConfig, options)
    evaluation = evaluate_bundle(options.bundle, options.corpus, options.out, config)
    print(result_table(Summary(variants=[evaluation])))
    print(f"written to {options.out / 'evaluation.json'}")
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
