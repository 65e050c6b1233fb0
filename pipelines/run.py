"""Run the pipeline on this machine, and tell what came out.

    python -m pipelines.run                                        # the demo, in minutes
    python -m pipelines.run --profile small --corpus pairs.tsv.zst --test docs.tsv --test ui.tsv
    python -m pipelines.run --profile tiny --set training.steps=50
    python -m pipelines.run --runner docker                        # each step in a container
    python -m pipelines.run --resume latest                        # go on where the newest run was killed, or failed

A run's folder holds request.json (what it was asked), summary.json (every figure), report.html (the same for a person),
bundle/ (what was published), artifacts/ (what every step wrote) and kfp.log. They are written for failed runs too;
runs/latest is the newest run, and runs/live the one that published last, until `make promote` names another.
"""

import shutil
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.outcome import WELL, outcome, reasons
from evaluation.report.page import render_report
from evaluation.results import Summary
from evaluation.table import result_table
from model.bundle import Bundle, BundleError
from model.config import ConfigError, Profile, to_dict
from model.corpus.files import display
from model.errors import reason
from model.files import write_json, write_text
from model.options import FAILED, INTERRUPTED, OK, Parser, run
from model.settings import describe
from model.store import StoreError, address, set_live
from model.training.tracking import chosen
from pipelines import folder
from pipelines.given import not_text
from pipelines.parameters import parameters
from pipelines.provenance import code_version, hardware, versions
from pipelines.request import Request, add_request, read_request
from pipelines.resume import as_kept, asked_of, find, read_again, without_keys
from pipelines.reuse import STEPS
from pipelines.summary import gather, read_steps

if TYPE_CHECKING:
    from pipelines.containers import Containers


def run_pipeline(
    request: Request,
    machine: str,
    publish_to: str,
    runs: Path,
    containers: "Containers | None" = None,
    run_dir: Path | None = None,
) -> int:
    """Run the whole pipeline; returns the exit status.

    Args:
        request: The settings, the sources of text and the test files.
        machine: "cpu", "gpu" or "auto": what the published bundle is for.
        publish_to: The model store; empty for the folder of the runs, so that a bundle lies in its run's folder.
        runs: Folder that holds the runs.
        containers: What runs the steps; without it they are processes.
        run_dir: Folder of the run that goes on (pipelines/resume.py); without it a new one begins.

    Raises:
        RunningError: where the run that is to go on has not ended.
    """
    for left in folder.stale(runs):
        _close(left)
    profile, now = request.profile, datetime.now(UTC)
    resumed = run_dir is not None
    run_dir = run_dir or folder.new_run(runs, now, profile.name)
    with folder.held(run_dir) as locked:
        earlier = Summary.read(run_dir) if resumed else Summary(started=now.isoformat(timespec="seconds"))
        folder.point_latest(run_dir)
        found = containers.hardware if containers else hardware()
        if machine == "auto":
            machine = "gpu" if found["gpus"] else "cpu"
        store = publish_to or str(runs)
        facts = {"run_id": run_dir.name, "code_version": code_version(), "machine": machine}
        text = ", ".join(map(display, request.corpus or profile.corpus.sources))
        first = f"run {run_dir}{' goes on' * resumed}: profile {profile.name}, {text}, for a {machine} machine"
        print(first, *(containers.notes if containers else ()), *request.notes, sep="\n", flush=True)
        arguments = parameters(
            profile,
            **facts,
            publish_to=store,
            sources=request.corpus,
            tests=request.tests,
            init_from=request.init_from,
        )
        asked = {
            **facts,
            "profile": profile.name,
            "started": earlier.started,
            "resumed": [*earlier.resumed, *([now.isoformat(timespec="seconds")] if resumed else [])],
            "seconds": earlier.seconds or 0.0,
            "status": "",
            "error": "",
            "versions": containers.versions if containers else versions(),
            "hardware": found,
            "settings": without_keys(to_dict(profile)),
        }
        if locked:
            write_json(run_dir / folder.REQUEST, {**asked, "given": as_kept(request, store, containers)})
            for name in (folder.REPORT, folder.SUMMARY, STEPS):
                (run_dir / name).unlink(missing_ok=True)
        return _run_steps(arguments, asked, run_dir, containers)


def _run_steps(arguments: dict[str, Any], asked: dict[str, Any], run_dir: Path, containers: "Containers | None") -> int:
    steps, begin = run_dir / STEPS, time.monotonic()
    interrupted, failure = False, ""
    try:
        if containers:
            containers.run(arguments, run_dir, steps)
        else:
            from pipelines.local import run_locally

            run_locally(arguments, run_dir, steps)
    except KeyboardInterrupt:
        interrupted, failure = True, "interrupted"
    except Exception as error:
        failure = str(error) or type(error).__name__
    target = address(arguments["publish_to"], run_dir.name)
    summary = {**asked, "error": failure, **gather(read_steps(steps, time.time(), interrupted), target)}
    summary["seconds"] = round(asked["seconds"] + time.monotonic() - begin, 1)
    if summary["published"] and "://" not in target:
        summary["error"] = summary["error"] or _damage(target)
    _tell(summary, run_dir)
    return INTERRUPTED if interrupted else OK if summary["status"] in WELL else FAILED


def _damage(target: str) -> str:
    """What is wrong with a published bundle, as this machine sees it; empty if nothing."""
    try:
        Bundle.load(target, verify=True)
    except (BundleError, OSError) as error:
        return f"what was published cannot be loaded here: {error}"
    return ""


def _tell(summary: dict[str, Any], run_dir: Path) -> None:
    """Judge the run, write its summary and its report, and print the result, last of all why it failed."""
    _judge(summary)
    try:
        _write(summary, run_dir)
        if summary["status"] in WELL and (run_dir / "bundle").exists():
            set_live(str(run_dir.parent), run_dir.name)
    except OSError as error:  # the disk is full: what was found out is told all the same
        _judge(summary, f"the result could not be written: {error.filename or run_dir}: {error.strerror}")
    except StoreError as error:
        _judge(summary, f"what was published did not go live: {error}")
    print(f"\nsummary  {run_dir}/summary.json\nreport   {run_dir}/report.html\nlog      {run_dir}/kfp.log\n")
    print(result_table(Summary.model_validate(summary)), flush=True)


def _judge(summary: dict[str, Any], more: str = "") -> None:
    """Say in the summary how the run ended, and why; ``more`` is a reason that it does not know of."""
    summary["status"] = ""
    why = [*reasons(summary), *filter(None, [more])]
    summary.update(status=outcome({**summary, "error": more or summary["error"]}), error="; ".join(why) or None)


def _write(summary: dict[str, Any], run_dir: Path) -> None:
    write_json(run_dir / folder.SUMMARY, summary)
    write_text(run_dir / folder.REPORT, render_report(Summary.model_validate(summary)))


def _close(run_dir: Path) -> None:
    """Write the summary of a run whose runner was killed, or had no room to write it, and say so."""
    try:
        asked = asked_of(run_dir)
        target, log = address(asked.pop("given")["store"], run_dir.name), run_dir / "kfp.log"
        ended = (log if log.exists() else run_dir).stat().st_mtime
        summary = {**asked, **gather(read_steps(run_dir / STEPS, ended), target)}
        begun = datetime.fromisoformat([asked["started"], *asked["resumed"]][-1]).timestamp()
        summary["seconds"] = round(asked["seconds"] + max(ended - begun, 0), 1)
        summary["error"] = "the runner ended before it could write this"
        _judge(summary)
        _write(summary, run_dir)
        shutil.rmtree(run_dir / "tmp", ignore_errors=True)
        folder.forget_lock(run_dir)
        print(f"run {run_dir}: it ended before it could write its summary, which is there now")
    except (OSError, KeyError, ValueError) as error:
        print(f"run {run_dir}: it ended without a summary, and none can be made: {reason(error)}")


def parser() -> Parser:
    """The command line."""
    made = Parser(
        "pipelines.run",
        "From text to a published model: prepare, train, export, quantize, evaluate, gate, publish.",
        "Exit status: 0 published, perhaps with a variant held back, which is told; 1 refused, as no variant passed\n"
        "its gates, or failed, and the last lines say why; 2 a request that cannot be run; 130 interrupted.\n"
        "`--settings` lists everything that --set can change.",
    )
    add_request(made)
    made.add_argument(
        "--resume",
        default="",
        metavar="RUN",
        help="go on with a run that was killed or has failed: its id, or latest; what else is given is laid over what "
        "it was asked, and the steps that this changes are run again",
    )
    made.add_argument("--runner", choices=("local", "docker"), help="steps as processes (the default), or containers")
    made.add_argument("--variant", choices=("cpu", "gpu"), help="the containers' image (default: cpu)")
    made.add_argument("--machine", choices=("auto", "cpu", "gpu"), help="what will serve the model (default: auto)")
    made.add_argument("--publish_to", default="", metavar="STORE", help="folder or s3:// address (default: the runs)")
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
    chosen()  # else a tracker that there is not would be told of after the corpus and the tokenizer
    given = (options.profile, options.set, options.corpus, options.test, options.init_from, options.runs)
    run_dir = find(options.runs, options.resume) if options.resume else None
    request = read_again(run_dir, *given) if run_dir else read_request(*given)
    asked = asked_of(run_dir) if run_dir else {}
    before = asked.get("given", {})
    # Asked to end (a job's time limit, a closed terminal), a run leaves its summary as it does for Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    containers = None
    if (options.runner or before.get("runner")) == "docker":
        from pipelines.containers import Containers

        containers = Containers(options.variant or before.get("variant") or "cpu")
    machine, store = options.machine or asked.get("machine", "auto"), options.publish_to or before.get("store", "")
    return run_pipeline(request, machine, store, options.runs, containers, run_dir)


if __name__ == "__main__":
    sys.exit(run(main))
