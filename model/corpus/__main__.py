"""Prepare a corpus from the command line.

python -m model.corpus --out corpus --test test.tsv train.tsv.zst
python -m model.corpus --out corpus --kind text --languages en book.txt
"""

from __future__ import annotations

import argparse
import sys

import yaml

from model.config import ConfigError, CorpusConfig, from_dict

from . import CorpusError, prepare_corpus


def main(arguments: list[str] | None = None) -> int:
    """Run the command; every setting of CorpusConfig is an option. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m model.corpus", description="Prepare a corpus.")
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="file, directory, s3://, https:// or hf:// address"
    )
    parser.add_argument("--out", required=True, help="the corpus directory to write")
    parser.add_argument(
        "--test", action="append", default=[], metavar="FILE", help="a test set, kept out of training; repeatable"
    )
    for name, field in ((n, f) for n, f in CorpusConfig.model_fields.items() if n != "sources"):
        parser.add_argument(
            f"--{name}",
            metavar="VALUE",
            default=argparse.SUPPRESS,
            help=str(field.description).replace("%", "%%"),
        )
    given = vars(parser.parse_args(arguments))
    sources, tests, out = given.pop("sources"), given.pop("test"), given.pop("out")
    settings = {
        name: value.split(",") if name == "languages" else yaml.safe_load(value) for name, value in given.items()
    }
    try:
        card = prepare_corpus(sources, tests, out, from_dict(CorpusConfig, settings, "corpus"))
    except (CorpusError, ConfigError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    counts = card["counts"]
    for name in ("read", "kept", "train", "valid", "heldout", "duplicates"):
        print(f"{name:<20}{counts[name]:>12,}")
    for group in ("rejected", "test"):
        for name, count in counts[group].items():
            print(f"{group + ' ' + name:<20}{count:>12,}")
    for line in card["malformed"]:
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
