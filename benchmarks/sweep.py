"""How well a profile's network learns with one pair of learning rates and with another, in short runs.

A point of the grid is a whole run of ``python -m model.training`` in a process of its own, on a prepared corpus, with a
schedule fitted to its steps. A point that the result holds already, from the same inputs and the same training code, is
not run again: a sweep that was stopped goes on, and a later one, with other settings, adds its points.

    python -m benchmarks.sweep corpus tokenizer --set training.steps=200 --adam_lr 3e-3 8e-3 --muon_lr 0.01 0.02
    python -m benchmarks.sweep corpus tokenizer --set training.steps=200 training.schedule=cosine
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT, BenchmarkError, heading, keep, markdown
from benchmarks.options import profile_of, training_parser
from evaluation.figures import processor
from model.config import Profile, to_dict
from model.corpus import read_card
from model.options import OK, Parser, run
from model.settings import from_dict
from model.tokenizer import load_tokenizer
from model.training.checkpoint import INFO
from model.training.remote import run_key

RATES = ("adam_lr", "muon_lr")
FIGURES = ("valid_loss", "steps", "train_tokens", "seconds", "precision", "threads")  # taken from training.json

Json = dict[str, Any]


def points(profile: Profile, adam_lrs: Sequence[float], muon_lrs: Sequence[float]) -> Iterator[Profile]:
    """The grid; no rates given for one of the two means the profile's own."""
    for adam_lr in adam_lrs or [profile.training.adam_lr]:
        for muon_lr in muon_lrs or [profile.training.muon_lr]:
            rates = {"adam_lr": adam_lr, "muon_lr": muon_lr}
            yield from_dict(Profile, {**to_dict(profile), "training": {**to_dict(profile.training), **rates}})


def measure(profile: Profile, corpus: Path, tokenizer: Path) -> Json:
    """Train one point from its first step to its last.

    Raises:
        BenchmarkError: when that fails, with what training said.
    """
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        given = to_dict(profile.network) | to_dict(profile.training)
        command = [sys.executable, "-m", "model.training", str(corpus), str(tokenizer), "--out", folder]
        command += [f"--{name}={value}" for name, value in given.items()]
        environment = os.environ | {"PROMETHEUS_TRACKING": "off"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            rates = ", ".join(f"{name} {given[name]:g}" for name in RATES)
            raise BenchmarkError(f"the point {rates} has failed: {done.stderr.strip()[-2000:]}")
        info = json.loads((Path(folder) / INFO).read_text("utf-8"))
    return {name: info[name] for name in FIGURES}


def sweep(grid: Sequence[Profile], corpus: Path, tokenizer: Path, out: Path) -> Json:
    """Measure what ``out`` does not hold yet, and write it after each point."""
    result = {**heading("sweep"), "points": json.loads(out.read_text("utf-8"))["points"] if out.exists() else []}
    shards = [shard["sha256"] for shard in read_card(corpus)["shards"]]
    text = {"corpus": shards, "tokenizer": load_tokenizer(tokenizer).content_hash()}
    for number, profile in enumerate(grid, 1):
        settings = {"network": to_dict(profile.network), "training": to_dict(profile.training)}
        key = run_key({**text, **settings})
        if key not in {point["key"] for point in result["points"]}:
            point = {"key": key, "profile": profile.name, "training": settings["training"]}
            result["points"].append(point | measure(profile, corpus.resolve(), tokenizer.resolve()))
            keep(result, out, sweep_table(result))
        print(f"  point {number} of {len(grid)}", file=sys.stderr)
    return result


def sweep_table(result: Json) -> str:
    """Markdown: a line for each point, the best one first, with the settings in which points differ."""
    found = sorted(result["points"], key=lambda point: point["valid_loss"])
    every = [point["training"] for point in found]
    differ = [name for name in every[0] if name not in RATES and len({str(settings[name]) for settings in every}) > 1]
    rows = [
        [
            *(f"{point['training'][name]:g}" for name in RATES),
            *(str(point["training"][name]) for name in differ),
            f"{point['valid_loss']:.3f}",
            f"{point['train_tokens'] / 1e6:.2f}",
            f"{point['seconds']:.0f}",
        ]
        for point in found
    ]
    first = every[0]
    caption = (
        f"Validation loss in nats per token at the end of a run of {first['steps']:,} steps of "
        f"{first['grad_accum_steps'] * first['batch_tokens']:,} tokens a side, profile `{found[0]['profile']}`, one "
        f"seed. {processor(result['machine'])}, {result['date'][:10]}."
    )
    return f"{markdown([*RATES, *differ, 'validation loss', 'M tokens', 'seconds'], rows)}\n\n{caption}"


def parser() -> Parser:
    """Where from, and which points."""
    made = training_parser("sweep", __doc__)
    for name in RATES:
        made.add_argument(f"--{name}", type=float, nargs="+", default=[], help="values to try (default: the profile's)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the points that are missing, and print all of them."""
    options = parser().parse_args(argv)
    grid = list(points(profile_of(options), options.adam_lr, options.muon_lr))
    print(sweep_table(sweep(grid, options.corpus, options.tokenizer, options.out)))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
