"""Compare our engine with those a user would pick instead, all in one interleaved run, and keep every figure.

Each engine lives in a process of its own (``worker.py``). A round gives every engine the same workload, in an order
that turns from round to round, so that a neighbour's burst of work hits all of them alike. The first figure is CPU time
per generated token on one thread, least of all rounds: it hardly feels a busy machine, which only ever adds to it. Wall
clock (median of the rounds) stands beside it.

    make bench-serving                          # installs the other engines, makes the models, runs, prints the table
    python -m benchmarks.serving --rounds 3 --family decoder --out /tmp/serving.json
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import RESULTS, ROOT, BenchmarkError, heading, keep
from benchmarks.serving.shapes import ENGINES, MIXED_MODES, NOTES, OURS, SCALES, batch_workload, mixed_workload
from benchmarks.serving.table import serving_table, targets
from benchmarks.worker import Worker
from model.options import OK, Parser, read_settings, run
from model.processors import WAITING
from model.settings import Count, Settings, setting

BENCH_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
PACKAGES = ("ctranslate2", "onnxruntime", "onnxruntime-genai", "transformers", "torch", "numpy")


class ServingSettings(Settings):
    """How much is measured."""

    rounds: Count = setting(5, "Rounds, of which the least CPU time and the median of the wall clock count.")
    threads: Count = setting(1, "Threads of every engine.")


def engine_worker(name: str, family: str, models: Path, threads: int, python: Path, log: Path) -> Worker:
    """One engine's process."""
    command = [str(python), "-m", "benchmarks.serving.worker", name, family, str(models), str(threads)]
    return Worker(name, command, environment(threads), log)


def environment(threads: int) -> dict[str, str]:
    """One thread means one, whatever library reads which variable; and nothing is looked up on the network."""
    # The other engines wait for their threads as they do by themselves; ours says so when it is imported.
    inherited = {name: value for name, value in os.environ.items() if name not in WAITING}
    return {
        **inherited,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
    }


def make_models(models: Path, scale: str, bench_python: Path) -> None:
    """Ours anew each time, as the graphs' builder may have changed; the other engines' once."""
    made = all((models / family / "ct2-int8" / "model.bin").exists() for family in ENGINES)
    makers = [(Path(sys.executable), "models"), *([] if made else [(bench_python, "reference")])]
    for python, module in makers:
        command = [str(python), "-m", f"benchmarks.serving.{module}", str(models), "--scale", scale]
        subprocess.run(command, cwd=ROOT, env=environment(2), check=True, stdout=sys.stderr)


def requests(family: str, scale: str) -> list[tuple[str, dict[str, list[dict[str, Any]]]]]:
    """Workload name -> engine -> what it is asked to run (several ways for the mixed requests of static engines)."""
    found: list[tuple[str, dict[str, list[dict[str, Any]]]]] = []
    for batch in SCALES[scale].batches:
        one = {"run": "batch", "batch": batch, "scale": scale}
        found.append((f"batch-{batch}", {engine: [one] for engine in ENGINES[family]}))
    mixed = {
        engine: [{"run": "mixed", "mode": mode, "scale": scale} for mode in MIXED_MODES[engine]]
        for engine in ENGINES[family]
        if engine in MIXED_MODES
    }
    return [*found, ("mixed", mixed)]


def measure(family: str, scale: str, models: Path, threads: int, rounds: int, bench_python: Path) -> dict[str, Any]:
    """All workloads of one family; ``{"runs": [...], "engines": [...]}``."""
    workers: dict[str, Worker] = {}
    loaded: dict[str, dict[str, Any]] = {}
    runs: list[dict[str, Any]] = []
    try:
        for name in ENGINES[family]:
            python = Path(sys.executable) if name in OURS else bench_python
            workers[name] = engine_worker(name, family, models, threads, python, models / f"{family}-{name}.log")
            loaded[name] = workers[name].answer()
        for workload, asked in requests(family, scale):
            jobs = [(name, request) for name, wanted in asked.items() for request in wanted]
            for name, request in jobs:
                workers[name].run(request)  # prepares its inputs, and is not counted
            seen: list[list[dict[str, Any]]] = [[] for _ in jobs]
            for turn in range(rounds):
                for place in range(len(jobs)):
                    at = (place + turn * max(1, len(jobs) // rounds)) % len(jobs)
                    name, request = jobs[at]
                    seen[at].append(workers[name].run(request))
            for (name, request), answers in zip(jobs, seen, strict=True):
                runs.append(_figures(family, scale, workload, name, request, answers))
                print(f"  {family} {workload} {name}: {runs[-1]['cpu_us_per_token']:.1f} us/token", file=sys.stderr)
        engines = [
            {
                "family": family,
                "engine": name,
                "bytes": _bytes(models / family, name),
                "load_seconds": round(loaded[name]["load_seconds"], 3),
                "rss_mb": {
                    "loaded": round(loaded[name]["rss_mb"], 1),
                    **{run["workload"]: run["rss_mb"] for run in runs if run["engine"] == name},
                },
            }
            for name in workers
        ]
    finally:
        for worker in workers.values():
            worker.close()
    return {"runs": runs, "engines": engines}


def _figures(
    family: str, scale: str, workload: str, name: str, request: dict[str, Any], answers: list[dict[str, Any]]
) -> dict[str, Any]:
    if workload == "mixed":
        tokens = mixed_workload(SCALES[scale]).tokens  # the useful ones, whatever a padded batch ran beyond them
    else:
        tokens = batch_workload(SCALES[scale], family, request["batch"]).tokens
    cpu, wall = [answer["cpu"] for answer in answers], [answer["wall"] for answer in answers]
    return {
        "family": family,
        "workload": workload,
        "mode": request.get("mode", ""),
        "engine": name,
        "tokens": tokens,
        "cpu_us_per_token": round(min(cpu) / tokens * 1e6, 2),
        "tokens_per_second": round(tokens / median(wall), 1),
        "cpu_seconds": [round(value, 5) for value in cpu],
        "wall_seconds": [round(value, 5) for value in wall],
        "rss_mb": round(max(answer["rss_mb"] for answer in answers), 1),
    }


def _bytes(folder: Path, name: str) -> int:
    """What an engine has to read from disk: weights and graphs, without tokenizers and manifests."""
    folder = folder / ("." if name == "torch" else name)
    kinds = ("*.safetensors",) if name in ("torch", "hf") else ("*.onnx", "*.onnx.data", "model.bin")
    return sum(file.stat().st_size for kind in kinds for file in folder.glob(kind))


def versions(bench_python: Path) -> dict[str, str]:
    """Versions of the other engines' environment, and of the ONNX Runtime that ours runs on."""
    import onnxruntime

    code = (
        f"import json; from importlib.metadata import version as v; print(json.dumps({{p: v(p) for p in {PACKAGES}}}))"
    )
    done = subprocess.run([str(bench_python), "-c", code], capture_output=True, text=True, check=True)
    return {**json.loads(done.stdout), "onnxruntime (ours)": onnxruntime.__version__}


def parser() -> Parser:
    """What to compare, and how often."""
    made = Parser("benchmarks.serving", __doc__)
    made.add_argument("--out", type=Path, default=RESULTS / "serving.json", help="where the result is kept")
    made.add_argument("--models", type=Path, default=ROOT / "build" / "bench-serving", help="where they are made")
    made.add_argument("--family", choices=sorted(ENGINES), help="one family only")
    made.add_argument("--scale", choices=sorted(SCALES), default="full", help="tiny is for the tests")
    made.add_argument("--bench_python", type=Path, default=BENCH_PYTHON, help="where the other engines are installed")
    made.add_settings(ServingSettings)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Make the models, run everything, and keep the result."""
    options = parser().parse_args(argv)
    given, scale = read_settings(ServingSettings, options), SCALES[options.scale]
    if not options.bench_python.exists():
        raise BenchmarkError(f"{options.bench_python} is missing: `make bench-serving` installs the other engines")
    families = [options.family] if options.family else list(ENGINES)
    make_models(options.models, options.scale, options.bench_python)
    started = time.time()
    result: dict[str, Any] = {
        **heading("serving"),
        "versions": versions(options.bench_python),
        "threads": given.threads,
        "rounds": given.rounds,
        "lengths": {
            name: getattr(scale, name)
            for name in ("prompt", "output", "requests", "mixed_prompt", "mixed_output", "mixed_batch", "least_seconds")
        },
        "networks": {family: scale.networks[family] for family in families},
        "notes": NOTES,
        "runs": [],
        "engines": [],
    }
    for family in families:
        found = measure(family, options.scale, options.models, given.threads, given.rounds, options.bench_python)
        result["runs"] += found["runs"]
        result["engines"] += found["engines"]
    result["seconds"] = round(time.time() - started, 1)
    result["load_average_after"] = os.getloadavg()[0]
    result["targets"] = targets(result)
    keep(result, options.out, serving_table(result))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
