"""A run that is killed in each of its steps, and goes on each time, ends in the same bundle as one left in peace.

One run is killed by SIGKILL when a step has begun (in training: when a checkpoint is there), and goes on, step after
step; in turn it is the runner that is killed, with which the step ends, and the step alone, with which the run fails.
The files of its bundle must have the same hashes as those of an undisturbed run of the same settings.

    python -m benchmarks.resume --out results/resume.json
    python -m benchmarks.resume --steps train-model variant-int8 --out /tmp/resume.json
"""

import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import STDOUT, Popen
from typing import Any

import psutil

from benchmarks.machine import RESULTS, BenchmarkError, heading, keep, markdown
from model.bundle.manifest import MANIFEST
from model.options import FAILED, OK, Parser, run
from model.training.saved import LAST, PROGRESS
from pipelines.provenance import code_version
from pipelines.reuse import END, TRAINING
from pipelines.reuse import STEPS as STEPS_FILE

VARIANTS = ("variant-fp32", "variant-fp16", "variant-int8")
STEPS = ("preflight", "prepare-data", "train-tokenizer", TRAINING, *VARIANTS, "gate", "publish")
SETTINGS = ("training.save_every=20", "evaluation.max_rows=4", "evaluation.loss_rows=4")
POLL = 0.01  # seconds between two looks for what a step has left

Json = dict[str, Any]


def measure(folder: Path, steps: Sequence[str], settings: Sequence[str] = SETTINGS) -> Json:
    """Run once in peace and once killed in each of ``steps``, below ``folder``; what became of both."""
    peace, disturbed = folder / "peace", folder / "disturbed"
    asked = ["--profile", "tiny", *(word for change in settings for word in ("--set", change))]
    _ended(_begin(peace, asked), peace)
    process = _begin(disturbed, asked)
    killed: list[str] = []
    while set(steps) - {*killed}:
        _kill(process, steps, disturbed, killed)
        process = _begin(disturbed, ("--resume", "latest"))
    said = _ended(process, disturbed)
    hashes = [_hashes(runs) for runs in (peace, disturbed)]
    resumed = re.search(r"resuming after step (\d+)", said)
    (run_dir,) = disturbed.glob("2*")
    summary = json.loads((run_dir / "summary.json").read_text("utf-8"))
    return {
        **heading("resume"),
        "code_version": code_version(),
        "settings": [*settings],
        "killed_in": killed,
        "went_on": len(summary["resumed"]),
        "finished": {step: len(re.findall(rf"^{END}{step}: ok", said, re.M)) for step in STEPS},
        "used_again": {step: len(re.findall(rf"^{END}{step}: used again", said, re.M)) for step in STEPS},
        "training_went_on_after_step": int(resumed[1]) if resumed else None,
        "training_steps": summary["training"]["steps"],
        "status": summary["status"],
        "bundle": hashes[0],
        "same": hashes[0] == hashes[1],
    }


def _alone(number: int) -> bool:
    """Whether the step is killed without its runner, this time."""
    return number % 2 == 1


def _begin(runs: Path, more: Sequence[str]) -> Popen[bytes]:
    with open(_log(runs), "a") as log:
        command = [sys.executable, "-m", "pipelines.run", "--runs", str(runs), *more]
        return Popen(command, stdout=log, stderr=STDOUT)


def _log(runs: Path) -> Path:
    return runs.with_suffix(".log")


def _ended(process: Popen[bytes], runs: Path) -> str:
    """What the run has said, over all its attempts, when this one has ended well."""
    status, said = process.wait(), _log(runs).read_text("utf-8")
    if status:
        raise BenchmarkError(f"a run ended with status {status}: {said[-2000:]}")
    return said


def _kill(process: Popen[bytes], steps: Sequence[str], runs: Path, killed: list[str]) -> None:
    """Kill each of the steps that are not ``killed`` yet as soon as it has something to lose, until the run ends.

    Kubeflow's runner takes the variants in any order, and goes on with the next when one has failed.
    """
    before = len(killed)
    while process.poll() is None:
        if (step := _at_work(runs)) in steps and step not in killed:
            runner = psutil.Process(process.pid)
            for victim in runner.children() if _alone(len(killed)) else [runner]:
                victim.kill()
            killed.append(step)
        time.sleep(POLL)
    if len(killed) == before:
        said = _log(runs).read_text("utf-8")[-2000:]
        raise BenchmarkError(f"of {', '.join(steps)}, only {', '.join(killed)} could be killed in time: {said}")


def _at_work(runs: Path) -> str:
    """The step that has begun, which training has with its first checkpoint; by its own record, without delay."""
    lines = [line for path in runs.glob(f"2*/{STEPS_FILE}") for line in path.read_text("utf-8").splitlines()]
    begun = re.match('{"name": "([^"]+)", "status": "running"', lines[-1] if lines else "")
    step = begun[1] if begun else ""
    learnt = step != TRAINING or any(runs.glob(f"2*/artifacts/*/{TRAINING}/checkpoint/{LAST}/step-*/{PROGRESS}"))
    return step if learnt else ""


def _hashes(runs: Path) -> dict[str, str]:
    """Of each file of the bundle that was published there, as its manifest has them."""
    manifest = json.loads((runs / "live" / "bundle" / MANIFEST).read_text("utf-8"))
    return {name: entry["sha256"] for name, entry in manifest["files"].items()}


def resume_table(result: Json) -> str:
    """Markdown: a line for each step that the run was killed in."""
    rows = []
    for number, step in enumerate(result["killed_in"]):
        counts = (str(result[key][step]) for key in ("finished", "used_again"))
        rows.append([step, "the step" if _alone(number) else "the runner", *counts])
    caption = (
        f"One run, killed {len(result['killed_in'])} times; training went on after step "
        f"{result['training_went_on_after_step']} of {result['training_steps']}. The files of its bundle "
        f"{'have' if result['same'] else 'DO NOT HAVE'} the same hashes as those of an undisturbed run. "
        f"`preflight` and `publish` run each time. Code {result['code_version']}, {result['date'][:10]}."
    )
    return f"{markdown(['killed in', 'killed was', 'finished, times', 'used again, times'], rows)}\n\n{caption}"


def parser() -> Parser:
    """The command line."""
    made = Parser("benchmarks.resume", __doc__, "Exit status: 0 the same bundle; 1 another one.")
    made.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS, help="where to kill (default: in each step)")
    made.add_argument("--out", type=Path, default=RESULTS / "resume.json", metavar="FILE", help="default: %(default)s")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run, kill, go on, compare."""
    options = parser().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="resume-") as folder:
        result = measure(Path(folder), [step for step in STEPS if step in options.steps])
    keep(result, options.out, resume_table(result))
    return OK if result["same"] else FAILED


if __name__ == "__main__":
    sys.exit(run(main))
