"""Prepare a corpus from the command line.

python -m model.corpus train.tsv.zst --out corpus --test test.tsv
python -m model.corpus book.txt --out corpus --kind text --languages en
"""

import contextlib
import sys
from collections.abc import Sequence

from model.config import CorpusConfig
from model.corpus import prepare_corpus
from model.options import OK, Parser, read_settings, run


def parser() -> Parser:
    """The text, the test sets, and every setting of a corpus."""
    made = Parser("model.corpus", __doc__)
    made.add_argument("sources", nargs="+", metavar="SOURCE", help="file, folder, s3://, https:// or hf:// address")
    made.add_argument("--out", required=True, help="folder of the corpus")
    made.add_argument("--test", action="append", default=[], metavar="FILE", help="a test set; repeatable")
    made.add_settings(CorpusConfig, leave_out=["sources"])
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare the corpus, and print what it holds; what is told on the way goes to standard error."""
    options = parser().parse_args(argv)
    with contextlib.redirect_stdout(sys.stderr):
        config = read_settings(CorpusConfig, options)
        card = prepare_corpus(options.sources, options.test, options.out, config)
    counts = card["counts"]
    for name in ("read", "kept", "train", "valid", "heldout", "duplicates"):
        print(f"{name:<20}{counts[name]:>12,}")
    for group in ("rejected", "masked", "test"):
        for name, count in counts[group].items():
            print(f"{group + ' ' + name:<20}{count:>12,}")
    for line in card["malformed"]:
        print(line)
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
