"""What preparing a corpus costs: pairs per second, CPU seconds and peak memory, at several sizes.

    python -m benchmarks.corpus --rows 100000 1000000 5000000 --work /tmp/work --pairs train.tsv.zst --test test.tsv

Without ``--pairs`` the sentences are random words, which are as long as technical text and never near to each other.
With a file its pairs are taken, again and again where it has too few; each further time every side gets one word more.
"""

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import RESULTS, BenchmarkError, heading, keep, markdown
from evaluation.figures import processor
from model.config import CorpusConfig
from model.corpus.files import SourceFile
from model.corpus.reading import read_pairs
from model.corpus.tally import Tally
from model.options import OK, Parser, read_settings, run

EVERY = 0.1  # seconds between two looks at the memory
LETTERS = ("абвгдежзиклмнопрстуфхцчшыэюя", "abcdefghijklmnopqrstuvwxyz")
WORDS = 50_000


def made_up(seed: int = 0) -> Iterator[tuple[str, str]]:
    """Pairs of random words, without end."""
    chance = random.Random(seed)
    spelled = [["".join(chance.choices(letters, k=chance.randint(2, 10))) for _ in range(WORDS)] for letters in LETTERS]
    while True:
        count = chance.randint(3, 15)
        first, second = (" ".join(chance.choices(words, k=count)).capitalize() + "." for words in spelled)
        yield first, second


def repeated(file: str, languages: Sequence[str]) -> Iterator[tuple[str, str]]:
    """A file's pairs, again and again, each time with another last word."""
    for again in itertools.count():
        for number, (first, second, _) in enumerate(read_pairs(SourceFile(file, file), languages, Tally(languages))):
            word = f" {again * 7919 + number:x}" if again else ""
            yield first + word, second + word


def write_pairs(path: Path, rows: int, pairs: Iterator[tuple[str, str]]) -> None:
    """Write the first ``rows`` of the pairs, a line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines("\t".join(pair) + "\n" for pair in itertools.islice(pairs, rows))


def watch(command: Sequence[str]) -> dict[str, float]:
    """What a command took: seconds, CPU seconds, and the peak of its memory in megabytes, of one process and of all.

    Raises:
        BenchmarkError: where it fails.
    """
    began, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as told:
        process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=told)
        while process.status() != psutil.STATUS_ZOMBIE:
            peak = max(peak, sum(_resident(one) for one in (process, *process.children(recursive=True))))
            time.sleep(EVERY)
        seconds = time.perf_counter() - began
        _, status, used = os.wait4(process.pid, 0)
        if status:
            told.seek(0)
            raise BenchmarkError(f"{' '.join(command)} has failed:\n{told.read()[-2000:]}")
    return {
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mb_of_one_process": round(used.ru_maxrss / 1024),
        "peak_mb_of_all_processes": round(peak / 1e6),
    }


def measure(source: Path, out: Path, given: Sequence[str]) -> dict[str, Any]:
    """Prepare a corpus in a process of its own, with options, and say what it took."""
    took = watch([sys.executable, "-m", "model.corpus", str(source), "--out", str(out), *given])
    counts = json.loads((out / "corpus.json").read_text("utf-8"))["counts"]
    return {
        "rows": counts["read"],
        "pairs_per_second": round(counts["read"] / took.pop("seconds")),
        "cpu_microseconds_per_pair": round(took.pop("cpu_seconds") / counts["read"] * 1e6, 1),
        **took,
        "counts": counts,
    }


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has ended meanwhile
        return 0


def corpus_table(result: dict[str, Any]) -> str:
    """Markdown: a line for each size."""
    rows = [
        [
            f"{size['rows']:,}",
            f"{size['counts']['kept']:,}",
            f"{size['pairs_per_second']:,}",
            f"{size['cpu_microseconds_per_pair']:.0f}",
            f"{size['peak_mb_of_one_process']:,}",
            f"{size['peak_mb_of_all_processes']:,}",
        ]
        for size in result["sizes"]
    ]
    heads = ["pairs", "kept", "pairs/s", "CPU µs a pair", "MB, of one process", "MB, of all"]
    text = f"Pairs of {result['pairs']}" if result["pairs"] else "Pairs of random words"
    beside = f", {result['tests']:,} test sets beside them" if result["tests"] else ""
    changed = "".join(f", {name}={value}" for name, value in result["settings"].items())
    where = f"{processor(result['machine'])}, load {result['machine']['load_average']} before, {result['date'][:10]}"
    return f"{markdown(heads, rows)}\n\n{text}{beside}{changed}; whole preparations, memory at its peak. {where}."


def parser() -> Parser:
    """Sizes, text, and every setting of a corpus."""
    made = Parser("benchmarks.corpus", __doc__)
    made.add_argument("--rows", type=int, nargs="+", default=[100_000], help="sizes, one after the other")
    made.add_argument("--pairs", help="file of sentence pairs (default: random words)")
    made.add_argument("--test", action="append", default=[], metavar="FILE", help="a test set; repeatable")
    made.add_argument("--work", type=Path, required=True, help="folder for the text and the corpus, which are removed")
    made.add_argument("--out", type=Path, default=RESULTS / "corpus.json", help="default: %(default)s")
    made.add_settings(CorpusConfig, leave_out=["sources"])
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each size, keep and show."""
    options = parser().parse_args(argv)
    config = read_settings(CorpusConfig, options)
    changed = {name: value for name, value in config.model_dump(exclude_defaults=True).items() if name != "languages"}
    given = [word for name, value in changed.items() for word in (f"--{name}", str(value))]
    given += ["--languages", *config.languages, *(word for file in options.test for word in ("--test", file))]
    sizes: list[dict[str, Any]] = []
    result = {**heading("corpus"), "pairs": Path(options.pairs).name if options.pairs else ""}
    result |= {"tests": len(options.test), "settings": changed, "sizes": sizes}
    for rows in options.rows:
        pairs = repeated(options.pairs, config.languages) if options.pairs else made_up()
        source, out = options.work / f"pairs-{rows}.tsv", options.work / f"corpus-{rows}"
        write_pairs(source, rows, pairs)
        sizes.append(measure(source, out, given))
        source.unlink()
        shutil.rmtree(out)
    keep(result, options.out, corpus_table(result))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
