"""Measure a bundle from the command line.

python -m evaluation BUNDLE CORPUS --out DIR
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from evaluation.evaluate import EvaluationError, evaluate_bundle
from evaluation.report.page import result_table
from model.bundle import Bundle, BundleError
from model.config import EvaluationConfig, from_dict
from model.corpus import CorpusError


def main() -> int:
    """Run evaluate_bundle and print its table; 2 where the inputs cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m evaluation", description="Measure a bundle on a corpus.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for evaluation.json and the hypotheses")
    parser.add_argument("--variant", help="name of the variant; the bundle's precision by default")
    for name, field in EvaluationConfig.model_fields.items():
        parser.add_argument(f"--{name}", type=int, default=field.default, help=field.description)
    arguments = vars(parser.parse_args())
    config = from_dict(
        EvaluationConfig, {name: arguments[name] for name in EvaluationConfig.model_fields}, "evaluation"
    )
    try:
        variant = arguments["variant"] or Bundle.load(arguments["bundle"]).precision
        evaluation = evaluate_bundle(arguments["bundle"], arguments["corpus"], arguments["out"], variant, config)
    except (BundleError, CorpusError, EvaluationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(result_table({"variants": [evaluation]}))
    print(f"written to {arguments['out'] / 'evaluation.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
