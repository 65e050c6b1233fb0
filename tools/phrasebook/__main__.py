"""Write the demo's text, or show it.

.venv-phrasebook/bin/python -m tools.phrasebook
.venv-phrasebook/bin/python -m tools.phrasebook --show --pairs 20 --seed 1
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import zstandard

from tools.phrasebook import PhrasebookError, Row, generate, words

OUT = Path("pipelines/profiles/demo.jsonl.zst")
LEVEL = 19


def packed(rows: Iterable[Row]) -> bytes:
    """The rows as the corpus reads them, one JSON object a line; with one version of zstd always the same bytes."""
    lines = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
    return zstandard.ZstdCompressor(level=LEVEL).compress("".join(lines).encode())


def statistics(rows: Sequence[Row]) -> list[str]:
    """What the rows hold, in figures."""
    speakers = Counter(row.get("author", "everyone") for row in rows)
    lines = [f"{len(rows):,} rows: " + ", ".join(f"{name} {count:,}" for name, count in sorted(speakers.items()))]
    for language in ("ru", "en"):
        counts = Counter(word for row in rows for word in words(row[language]))
        lines.append(f"{language}: {len(counts):,} words, {counts.total() / len(rows):.1f} a sentence")
    return lines


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    found = argparse.ArgumentParser(prog="python -m tools.phrasebook", description="Write the demo's text, or show it.")
    found.add_argument("--out", type=Path, default=OUT, metavar="FILE", help="file to write (%(default)s)")
    found.add_argument("--pairs", type=int, default=24_000, help="distinct pairs (%(default)s)")
    found.add_argument("--seed", type=int, default=0, help="seed of the generator (%(default)s)")
    found.add_argument("--show", action="store_true", help="print author, Russian and English instead of writing")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    options = parser().parse_args(argv)
    try:
        rows = list(generate(options.pairs, options.seed))
    except PhrasebookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(
            f"error: {error}; run it with .venv-phrasebook/bin/python (make .venv-phrasebook/.stamp)", file=sys.stderr
        )
        return 2
    if options.show:
        for row in rows:
            print(row.get("author", ""), row["ru"], row["en"], sep="\t")
        return 0
    options.out.write_bytes(packed(rows))
    print("\n".join(statistics(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
