"""Train a tokenizer, or look at what one does with a text.

python -m model.tokenizer CORPUS --out DIR [--kind unigram] [--vocab_size 8000]
python -m model.tokenizer --show DIR "text"
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from model.config import TokenizerConfig
from model.options import OK, Parser, read_settings, run
from model.tokenizer import load_tokenizer
from model.tokenizer.train import train_tokenizer


def parser() -> Parser:
    """What to train on and where to, with every setting of a tokenizer; or what to show."""
    made = Parser("model.tokenizer", __doc__)
    made.add_argument("corpus", nargs="?", type=Path, help="directory of a prepared corpus")
    made.add_argument("--out", type=Path, help="directory to write the tokenizer to")
    made.add_argument("--show", nargs=2, metavar=("DIR", "TEXT"), help="print the tokens of a text")
    made.add_settings(TokenizerConfig)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Train or show."""
    made = parser()
    options = made.parse_args(argv)
    if options.show:
        show(*options.show)
    elif options.corpus and options.out:
        print_report(train_tokenizer(options.corpus, options.out, read_settings(TokenizerConfig, options)))
    else:
        made.error("give CORPUS and --out DIR, or --show DIR TEXT")
    return OK


def show(directory: str, text: str) -> None:
    """Print one line per token: its id and its bytes, readable where they are whole characters."""
    tokenizer = load_tokenizer(Path(directory))
    ids = tokenizer.encode(text)
    for i in ids:
        data = tokenizer.token_bytes(i)
        print(f"{i:6d}  {f'byte {data[0]:02x}' if tokenizer.is_byte(i) else repr(data.decode())}")
    print(f"{len(ids)} tokens; decoded: {tokenizer.decode(ids)!r}")


def print_report(report: dict) -> None:
    """Print the report as a table for people."""
    short = report["vocab_size"] < report["requested_vocab_size"]
    note = f" (of {report['requested_vocab_size']} asked for: the corpus needs no more)" if short else ""
    print(
        f"{report['kind']}, {report['vocab_size']} pieces{note}, {report['sampled_lines']} lines, {report['seconds']} s"
    )
    print(f"on {report['measured_on']}:  tokens/word  tokens/character  characters as bytes")
    for language, row in report["languages"].items():
        print(
            f"  {language:<10} {row['tokens_per_word']:9.3f} {row['tokens_per_character']:13.3f} "
            f"{row['byte_fallback_rate']:16.4%}"
        )


if __name__ == "__main__":
    sys.exit(run(main))
