"""Run the pipeline on this machine, and tell what came out.

    python -m pipelines.run                                        # the demo, in minutes
    python -m pipelines.run --profile small --corpus pairs.tsv.zst --test docs.tsv --test ui.tsv
    python -m pipelines.run --profile tiny --set training.steps=50

A run's folder holds summary.json (every figure), report.html (the same for a person), bundle/ (what was published),
artifacts/ (what every step wrote) and kfp.log. They are written for failed runs too; runs/latest is the newest run.
"""

import re
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation.figures import reasons, result_table
from evaluation.report.page import render_report
from evaluation.results import Summary
from model.config import ConfigError, Profile, to_dict
from model.corpus.files import display
from model.files import write_json, write_text
from model.options import FAILED, INTERRUPTED, OK, Parser, run
from model.settings import describe
from pipelines.given import not_text
from pipelines.provenance import code_version, hardware, versions
from pipelines.request import Request, profile_names, read_request
from pipelines.summary import gather, point_latest, read_steps


def run_pipeline(request: Request, machine: str, publish_to: str, runs: Path) -> int:
    """Run the whole pipeline; returns the exit status.

    Args:
        request: The settings, the sources of text and the test files.
        machine: "cpu", "gpu" or "auto": what the published bundle is for.
        publish_to: Where to publish; empty for the run's own folder.
        runs: Folder that holds the runs.
    """
    profile, started, begin = request.profile, datetime.now(UTC), time.monotonic()
    run_dir = _new_run(runs, started, profile.name)
    found = hardware()
    if machine == "auto":
        machine = "gpu" if found["gpus"] else "cpu"
    target = publish_to or str(run_dir / "bundle")
    facts = {"run_id": run_dir.name, "code_version": code_version(), "machine": machine}
    text = ", ".join(map(display, request.corpus or profile.corpus.sources))
    print(
        f"run {run_dir}: profile {profile.name}, {text}, for a {machine} machine", *request.notes, sep="\n", flush=True
    )
    sections = {name: section for name, section in to_dict(profile).items() if name != "name"}
    arguments = sections | facts | {"sources": request.corpus, "tests": request.tests, "publish_to": target}
    steps = run_dir / "steps.jsonl"
    interrupted, failure = False, ""
    try:
        from pipelines.local import run_locally

        run_locally(arguments, run_dir, steps)
    except KeyboardInterrupt:
        interrupted, failure = True, "interrupted"
    except Exception as error:
        failure = str(error) or type(error).__name__
    shown = to_dict(profile)
    shown["corpus"]["sources"] = [*map(display, profile.corpus.sources)]
    summary = {
        **facts,
        "profile": profile.name,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - begin, 1),
        "status": "",
        "error": failure,
        "versions": versions(),
        "hardware": found,
        "settings": shown,
        **gather(read_steps(steps, time.time(), interrupted), target),
    }
    why = reasons(summary)
    summary.update(status="failed" if why else "ok", error="; ".join(why) or None)
    _tell(summary, run_dir)
    return INTERRUPTED if interrupted else FAILED if why else OK


def _new_run(runs: Path, started: datetime, name: str) -> Path:
    """Make the run's folder; ids sort by time, and two runs in one second do not meet."""
    readable = re.sub(r"[^\w.-]+", "-", Path(name).stem)[:40]  # a profile's name may be any text of any length
    run_dir = runs / f"{started:%Y%m%dT%H%M%SZ}-{readable}-{secrets.token_hex(2)}"
    run_dir.mkdir(parents=True)
    return run_dir


def _tell(summary: dict[str, Any], run_dir: Path) -> None:
    """Write the summary and its report, and print the result, last of all what failed."""
    write_json(run_dir / "summary.json", summary)
    point_latest(run_dir)
    finished = Summary.model_validate(summary)
    write_text(run_dir / "report.html", render_report(finished))
    print(f"\nsummary  {run_dir}/summary.json\nreport   {run_dir}/report.html\nlog      {run_dir}/kfp.log\n")
    print(result_table(finished), flush=True)


def parser() -> Parser:
    """The command line."""
    made = Parser(
        "pipelines.run",
        "From text to a published model: prepare, train, export, quantize, evaluate, gate, publish.",
        "Exit status: 0 all well; 1 a step or a gate failed, and the last lines say which; 2 a request that cannot be\n"
        "run; 130 interrupted. `--settings` lists everything that --set can change.",
    )
    made.add_argument("--profile", default="demo", help=f"{', '.join(profile_names())}, or a YAML file (%(default)s)")
    many: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    made.add_argument(
        "--corpus",
        metavar="SOURCE",
        help=".tsv, .txt, .jsonl or .parquet, also .gz or .zst; a file, a folder, s3://, https:// or hf:// address. "
        "Several in one value stand apart by blanks; the name of a file that exists is never taken apart. "
        "Without it: the profile's own text, corpus.sources",
        **many,
    )
    made.add_argument("--test", metavar="FILE", help="test files, each reported by its name", **many)
    made.add_argument("--set", metavar="SECTION.KEY=VALUE", help="settings of the profile to change", **many)
    made.add_argument("--machine", choices=("auto", "cpu", "gpu"), default="auto", help="what will serve the model")
    made.add_argument("--publish_to", default="", metavar="TARGET", help="folder or s3:// address; default: in the run")
    made.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (%(default)s)")
    made.add_argument("--settings", action="store_true", help="print every setting with its default, and stop")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Check the request, and run it."""
    options = parser().parse_args(argv)
    if options.settings:
        print("\n".join(describe(Profile)))
        return OK
    if problems := not_text([options.publish_to, str(options.runs)]):
        raise ConfigError("\n".join(problems))
    request = read_request(options.profile, options.set, options.corpus, options.test)
    # Asked to end (a job's time limit, a closed terminal), a run leaves its summary as it does for Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run_pipeline(request, options.machine, options.publish_to, options.runs)


if __name__ == "__main__":
    sys.exit(run(main))
