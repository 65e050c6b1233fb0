"""The card of a corpus as a page that needs nothing else: what is in it, and what each rule took away, with examples.

python -m evaluation.report.corpus corpus > corpus.html

A run's report has the same list in its section on the corpus.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.report.page import ENVIRONMENT
from evaluation.report.rules import rules
from model.corpus import read_card
from model.options import OK, Parser, run


def render_corpus(card: Mapping[str, Any]) -> str:
    """The page of a card, what ``corpus.json`` says."""
    settings = json.dumps(card.get("config", {}), ensure_ascii=False, indent=1)
    return ENVIRONMENT.get_template("corpus.html.j2").render(card=card, rules=rules(card), settings=settings)


def parser() -> Parser:
    """The command line."""
    made = Parser("evaluation.report.corpus", "Print the page of a corpus.")
    made.add_argument("corpus", type=Path, help="folder made by python -m model.corpus")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Print the page."""
    print(render_corpus(read_card(parser().parse_args(argv).corpus)))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
