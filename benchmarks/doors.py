"""How fast texts are translated by each way in, beside the engine itself: a list in Python, and a pipe.

The engine is given the same sentences as prompts that are made already, all at once. A pipe is a process of its own,
from the first line that it takes to the last that it gives: what it needs to start is measured with an empty input and
taken off. The ways take turns, and each has its median. CPU seconds are the process's, all of its threads together.

    python -m benchmarks.doors runs/latest/bundle test_docs.tsv
"""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import translations
from benchmarks.machine import RESULTS, ROOT, BenchmarkError, heading, keep, markdown
from evaluation.figures import processor
from model.bundle import Bundle
from model.options import OK, Parser, run
from serving.engine import Engine, EngineConfig, GenerationRequest
from serving.local import load

Seconds = tuple[float, float]  # wall, CPU


def timed(who: int, act: Callable[[], object]) -> Seconds:
    """Wall and CPU seconds of an act, its CPU in this process or in its children (``resource.RUSAGE_*``)."""
    before, began = resource.getrusage(who), time.perf_counter()
    act()
    wall, after = time.perf_counter() - began, resource.getrusage(who)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def piped(bundle: Path, source: str, target: str, texts: Sequence[str]) -> Seconds:
    """Texts through a process of serving.translate, a line each."""
    command = [sys.executable, "-m", "serving.translate", "--bundle", str(bundle.resolve())]
    command += ["--from", source, "--to", target]
    lines = "".join(f"{text}\n" for text in texts).encode()

    def act() -> None:
        done = subprocess.run(command, cwd=ROOT, input=lines, capture_output=True, check=False)
        if done.returncode or done.stdout.count(b"\n") != len(texts):
            raise BenchmarkError(f"serving.translate failed: {done.stderr.decode()[-500:]}")

    return timed(resource.RUSAGE_CHILDREN, act)


def measure(bundle: Bundle, texts: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """Median seconds of each way; ``of_engine`` is the engine's seconds divided by its own."""
    source, target = bundle.languages[:2]
    found: dict[str, list[Seconds]] = {"engine": [], "list": [], "pipe": []}
    with Engine(bundle, EngineConfig(provider="cpu")) as engine, load(bundle.path) as model:
        tokens, beams = engine.limits.translation_tokens, engine.default_beams
        prompts = [
            piece.prompt for text in texts for piece in engine.pieces(text, target, source=source) if piece.prompt
        ]

        def direct() -> None:
            engine.generate([GenerationRequest(ids, max_tokens=tokens(len(ids)), beams=beams) for ids in prompts])

        for number in range(rounds + 1):
            this = resource.RUSAGE_SELF
            seconds = {
                "engine": timed(this, direct),
                "list": timed(this, lambda: model.translate(texts, to=target, source=source)),
            }
            empty, whole = (piped(bundle.path, source, target, lines) for lines in ([], texts))
            seconds["pipe"] = (whole[0] - empty[0], whole[1] - empty[1])
            if number:  # the first round warms everything up
                for way, measured in seconds.items():
                    found[way].append(measured)
    medians = {way: [statistics.median(each) for each in zip(*all_, strict=True)] for way, all_ in found.items()}
    return [
        {
            "way": way,
            "seconds": round(wall, 3),
            "cpu_seconds": round(cpu, 3),
            "of_engine": round(medians["engine"][0] / wall, 3),
            "cpu_of_engine": round(medians["engine"][1] / cpu, 3),
        }
        for way, (wall, cpu) in medians.items()
    ]


def doors_table(result: dict[str, Any]) -> str:
    """Markdown: one line per way."""
    names = {
        "engine": "the engine, prompts made",
        "list": "`model.translate` of a list",
        "pipe": "a pipe, lines in and out",
    }
    rows = [
        [
            names[record["way"]],
            f"{result['texts'] / record['seconds']:,.0f}",
            f"{record['cpu_seconds']:.2f}",
            f"{record['of_engine']:.2f}",
            f"{record['cpu_of_engine']:.2f}",
        ]
        for record in result["records"]
    ]
    head = ["", "texts/s", "CPU seconds", "speed of the engine's", "by CPU time"]
    return (
        f"{markdown(head, rows)}\n\n{result['bundle']}, {result['texts']:,} texts of {result['test_set']}, median of "
        f"{result['rounds']} rounds. {processor(result['machine'])}, {result['date'][:10]}."
    )


def parser() -> Parser:
    """What to translate, with which model, how often."""
    made = translations.parser("benchmarks.doors", __doc__, RESULTS / "doors.json")
    made.add_argument("test", type=Path, help="a test set: .tsv, or another type of a corpus")
    made.add_argument("--texts", type=int, default=1000, help="how many of its texts (%(default)s)")
    made.add_argument("--rounds", type=int, default=5, help="how often each way is measured (%(default)s)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and keep."""
    options = parser().parse_args(argv)
    bundle = translations.load(options.bundle)
    texts = [source for source, _ in translations.read(options.test, bundle.languages)][: options.texts]
    result = {
        **heading("doors"),
        "bundle": translations.named(bundle),
        "test_set": options.test.stem,
        "texts": len(texts),
        "rounds": options.rounds,
        "records": measure(bundle, texts, options.rounds),
    }
    keep(result, options.out, doors_table(result))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
