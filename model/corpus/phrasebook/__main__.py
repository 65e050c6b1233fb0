"""Command line of the phrasebook: samples as TSV, or statistics.

python -m model.corpus.phrasebook --pairs 20 --seed 0
python -m model.corpus.phrasebook
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

from model.corpus.phrasebook import capacity, generate, words
from model.corpus.phrasebook.templates import templates


def statistics(pairs: int, seed: int) -> list[str]:
    """Lines of figures about a generated corpus."""
    started = time.perf_counter()
    rows = list(generate(pairs, seed))
    seconds = time.perf_counter() - started
    lines = [
        f"templates\t{len(templates())}",
        f"rows possible (upper bound)\t{capacity()}",
        f"rows\t{len(rows)}",
        f"distinct pairs\t{len({(row['ru'], row['en']) for row in rows})}",
        f"held-out rows\t{sum(row['heldout'] for row in rows)}",
        f"seconds\t{seconds:.1f}",
    ]
    lines += [f"rows by {author}\t{count}" for author, count in sorted(Counter(row["author"] for row in rows).items())]
    for language in ("ru", "en"):
        counts = Counter(word for row in rows for word in words(row[language]))
        total = sum(counts.values())
        lines.append(f"{language} vocabulary\t{len(counts)} words, {total} running, {total / len(rows):.1f} a sentence")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m model.corpus.phrasebook", description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, help="print this many pairs as TSV: author, split, Russian, English")
    parser.add_argument("--seed", type=int, default=0, help="seed of the generator (default 0)")
    options = parser.parse_args()
    if options.pairs is None:
        print("\n".join(statistics(24_000, options.seed)))
        return
    for row in generate(options.pairs, options.seed):
        print(row["author"], "heldout" if row["heldout"] else "train", row["ru"], row["en"], sep="\t")


if __name__ == "__main__":
    main()
