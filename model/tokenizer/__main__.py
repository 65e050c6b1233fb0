"""Train a tokenizer, or look at what one does with a text.

python -m model.tokenizer CORPUS --out DIR [--kind unigram] [--vocab-size 8000]
python -m model.tokenizer --show DIR "text"
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from model.config import TokenizerConfig, from_dict, to_dict
from model.tokenizer import load_tokenizer
from model.tokenizer.train import train_tokenizer


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m model.tokenizer", description=__doc__.splitlines()[0])
    parser.add_argument("corpus", nargs="?", help="directory of a prepared corpus")
    parser.add_argument("--out", help="directory to write the tokenizer to")
    parser.add_argument("--show", nargs=2, metavar=("DIR", "TEXT"), help="print the tokens of a text")
    for name, default in to_dict(TokenizerConfig()).items():
        text = TokenizerConfig.model_fields[name].description
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=text)
    options = parser.parse_args(arguments)
    try:
        if options.show:
            show(*options.show)
        elif options.corpus and options.out:
            values = {name: getattr(options, name) for name in to_dict(TokenizerConfig())}
            print_report(train_tokenizer(options.corpus, options.out, from_dict(TokenizerConfig, values)))
        else:
            parser.error("give CORPUS and --out DIR, or --show DIR TEXT")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


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
    sys.exit(main())
