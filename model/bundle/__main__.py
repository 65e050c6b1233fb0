"""Verify a bundle and print what it is: python -m model.bundle DIR"""

import sys
from collections.abc import Sequence
from pathlib import Path

from model.bundle.manifest import Bundle
from model.options import OK, Parser, run


def parser() -> Parser:
    """The bundle's place."""
    made = Parser("model.bundle", __doc__)
    made.add_argument("bundle", type=Path, help="directory that holds bundle.json")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Verify and print."""
    bundle = Bundle.load(parser().parse_args(argv).bundle)
    languages = ", ".join(bundle.languages) or "none"
    print(
        f"{bundle.name}: {bundle.family}, {bundle.task}, {bundle.precision}, {bundle.vocab_size} tokens, languages "
        f"{languages}, {bundle.bytes:,} bytes in {len(bundle.files)} files, ok"
    )
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
