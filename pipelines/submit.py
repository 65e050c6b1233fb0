"""Run the pipeline on Kubeflow, and tell what came out, as a run on this machine does.

    python -m pipelines.submit --profile small --host https://kubeflow.example/pipeline --publish_to s3://models/mini
    python -m pipelines.submit --profile tiny --host http://localhost:8888 --publish_to s3://models/mini --every 12h
    python -m pipelines.submit --host http://localhost:8888 --attach a68b9ab1-7d0c-4ef5-bc14-8c3a7e0e5a11

The steps' image is $PROMETHEUS_IMAGE, built from this code (`make images`). Ctrl-C ends the waiting, not the run.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml

from model.config import ConfigError
from model.corpus.files import display
from model.options import FAILED, INTERRUPTED, OK, Parser, run
from pipelines.compile import compile_pipeline, image_names, in_the_image
from pipelines.given import not_text
from pipelines.kubeflow import Json, Kubeflow, KubeflowError, Unreachable, add_connection, connect
from pipelines.outcome import earlier_steps, tell
from pipelines.parameters import parameters
from pipelines.provenance import code_version
from pipelines.request import Request, add_request, new_run_id, read_request
from pipelines.schedule import trigger
from pipelines.watch import Watcher, step_names

EXPERIMENT = "prometheus-mini"
RELEASER = "prometheus-mini-run"  # the ServiceAccount of k8s/pipeline/, which may move an InferenceService
CHECKPOINTS = ".checkpoints"  # no run's name, so that a store does not take it for a version
_DNS = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"


def compiled(request: Request, options: argparse.Namespace, run_id: str) -> tuple[Json, Json]:
    """The pipeline as Kubeflow takes it in a run, and its parameters; without a run id a run is called as its job is.

    Raises:
        ConfigError: with what a run on this machine could do, and one on a cluster cannot.
    """
    store, problems = options.publish_to, []
    if "://" not in store or store.startswith("file:"):
        told = f"{store}: a folder of a pod is gone with it" if store else "nowhere to publish to"
        problems.append(f"{told}; give an address that pods reach, PUBLISH=s3://bucket/prefix")
    if options.release_to and not re.fullmatch(f"{_DNS}/{_DNS}", options.release_to):
        problems.append(f"{options.release_to} is no InferenceService: expected RELEASE=namespace/name")
    try:
        profile = in_the_image(request.profile, request.corpus, [*request.tests, *filter(None, [request.init_from])])
    except ConfigError as error:
        problems += str(error).splitlines()
    if problems:
        raise ConfigError("\n".join(["Nothing was run:", *problems]))

    arguments = parameters(
        profile,
        code_version(),
        publish_to=store,
        release_to=options.release_to,
        checkpoint_uri=options.checkpoint_uri or f"{store.rstrip('/')}/{CHECKPOINTS}",
        run_id=run_id,
        machine=options.machine,
        sources=request.corpus,
        tests=request.tests,
        init_from=request.init_from,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pipeline.yaml")
        compile_pipeline(path, image_names(gpu=bool(profile.resources.gpus)), arguments)
        spec, platform = yaml.safe_load_all(path.read_text("utf-8"))
    return {"pipeline_spec": spec, "platform_spec": platform}, arguments


def submit(options: argparse.Namespace) -> int:
    """Check the request, start the run or make the recurring one, and wait; the exit status."""
    starts = trigger(options.every) if options.every else None
    request = read_request(options.profile, options.set, options.corpus, options.test, options.init_from, options.runs)
    profile = request.profile.name
    name = profile if starts else new_run_id(datetime.now(UTC), profile)
    spec, arguments = compiled(request, options, "" if starts else name)
    kubeflow = connect(options)
    experiment = kubeflow.experiment(options.experiment)
    account = options.service_account or (RELEASER if options.release_to else "")
    body = {
        "display_name": name,
        "experiment_id": experiment,
        "pipeline_spec": spec,
        "runtime_config": {"parameters": arguments},
        **({"service_account": account} if account else {}),
    }
    print(*request.notes, sep="\n", end="\n" if request.notes else "")
    if starts:
        # One at a time, and none for the times that were missed: a run takes the newest text whenever it begins.
        made = kubeflow.recur(body | {"trigger": starts, "mode": "ENABLE", "max_concurrency": "1", "no_catchup": True})
        print(f"recurring run {made['recurring_run_id']}: profile {profile}, {options.every}, on {kubeflow.host}")
        print("`python -m pipelines.schedule` lists, disables and deletes recurring runs")
        return OK
    begun = kubeflow.submit(body)
    print(f"run {name}: profile {profile}, {_text(request)}, for a {arguments['machine']} machine", flush=True)
    return follow(kubeflow, begun["run_id"], options)


def _text(request: Request) -> str:
    return ", ".join(map(display, request.corpus or request.profile.corpus.sources))


def follow(kubeflow: Kubeflow, run_id: str, options: argparse.Namespace) -> int:
    """Wait for a run, and tell how it ended as pipelines.run does; the exit status."""
    print(f"at {kubeflow.address(run_id)}", flush=True)
    again = f"python -m pipelines.submit --host {kubeflow.host} --attach {run_id}"
    if options.no_wait:
        print(f"to wait for it: {again}")
        return OK
    try:
        begun = kubeflow.run(run_id)
        names = step_names(begun.get("pipeline_spec") or {})
        ended = Watcher(kubeflow, run_id, names).wait(earlier_steps(kubeflow, begun, names))
    except KeyboardInterrupt:
        print(f"\nno longer waiting; the run goes on. To wait again: {again}", flush=True)
        return INTERRUPTED
    except Unreachable as error:
        print(f"no longer waiting: {error}. The run may go on. To wait again: {again}", flush=True)
        return FAILED
    except KubeflowError as error:
        raise KubeflowError(f"{error}. The run goes on; to wait again: {again}") from None
    return tell(kubeflow, ended, names, options.runs)


def parser() -> Parser:
    """The command line."""
    made = Parser(
        "pipelines.submit",
        "From text to a published model, on Kubeflow: submit, wait, tell.",
        "Exit status: 0 all well; 1 a step or a gate failed, and the last lines say which; 2 a request that cannot be\n"
        "run, or Kubeflow refuses it; 130 no longer waiting, the run goes on.",
    )
    add_request(made)
    made.add_argument(
        "--machine", choices=("cpu", "gpu"), default="", help="what will serve it; default: the profile's"
    )
    made.add_argument("--publish_to", default="", metavar="STORE", help="s3://bucket/prefix or pvc://claim/prefix")
    made.add_argument("--release_to", default="", metavar="NAMESPACE/NAME", help="InferenceService to release to")
    made.add_argument(
        "--checkpoint_uri", default="", metavar="PLACE", help=f"keeps unfinished training; default: STORE/{CHECKPOINTS}"
    )
    made.add_argument("--experiment", default=EXPERIMENT, help="name for runs that belong together (%(default)s)")
    made.add_argument("--every", default="", metavar="WHEN", help="a recurring run: '0 2 * * *' (cron, UTC) or 12h")
    made.add_argument("--service_account", default="", help=f"of the pods; default: Kubeflow's, to release {RELEASER}")
    made.add_argument("--runs", type=Path, default=Path("runs"), help="folder for summary and report (%(default)s)")
    made.add_argument("--no_wait", action="store_true", help="submit only")
    made.add_argument("--attach", default="", metavar="RUN", help="wait for a run that was submitted before")
    made.add_argument("--cancel", default="", metavar="RUN", help="end a run")
    add_connection(made)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Submit, attach or cancel."""
    options = parser().parse_args(argv)
    if problems := not_text([options.publish_to, str(options.runs)]):
        raise ConfigError("\n".join(problems))
    if options.cancel:
        connect(options).terminate(options.cancel)
        print(f"run {options.cancel} is asked to end")
        return OK
    return follow(connect(options), options.attach, options) if options.attach else submit(options)


if __name__ == "__main__":
    sys.exit(run(main))
