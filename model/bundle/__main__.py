"""Verify a bundle and print what it is: ``python -m model.bundle DIR``."""

from __future__ import annotations

import sys

from model.bundle.manifest import Bundle, BundleError


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m model.bundle DIR", file=sys.stderr)
        return 2
    try:
        bundle = Bundle.load(arguments[0])
    except BundleError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{bundle.name}: {bundle.family}, {bundle.task}, {bundle.precision}, {bundle.vocab_size} tokens", end="")
    print(
        f", languages {', '.join(bundle.languages) or 'none'}, {bundle.bytes:,} bytes in {len(bundle.files)} files, ok"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
