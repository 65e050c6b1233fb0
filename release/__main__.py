"""Release a published version, go back, and see what is live: python -m release status

python -m release versions                               # what this machine's runs have published
python -m release to 20261129T014008Z-demo-1a2b          # make serve serves it from now on
python -m release to RUN --service prometheus-mini/prometheus-mini --store s3://models/prometheus-mini
python -m release back --service prometheus-mini/prometheus-mini
python -m release prune --keep 5 --yes
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from model import store as stores
from model.bundle import Bundle
from model.options import FAILED, OK, Parser, run
from release import rollout
from release.canary import SHARE, release_carefully
from release.cluster import Cluster
from release.report import status_json, status_text, versions_text
from release.service import ReleaseError, Service, read_name

RUNS = "runs"
COMMANDS = ("status", "to", "back", "versions", "prune")


def parser() -> Parser:
    """The command line."""
    made = Parser(
        "release",
        "Release a published version of the model, go back to the one before, and tell what is live.\n"
        "With --service, on a cluster: the version is put in place, asked and watched, and taken back where it is no\n"
        "good. Without, on this machine: the link STORE/live, which `make serve` serves.",
        "Exit status: 0 done, or all well; 1 the version was no good and was taken back, or (status) not all is well;\n"
        "2 nothing could be done.",
    )
    made.add_argument("command", choices=COMMANDS, help="what to do")
    made.add_argument("run", nargs="?", default="", metavar="RUN", help="to: the run to release")
    made.add_argument(
        "--store", default="", help=f"folder, s3://... or pvc://...; default: {RUNS}, or the one that the service uses"
    )
    made.add_argument("--service", default="", metavar="NAMESPACE/NAME", help="an InferenceService on a cluster")
    made.add_argument(
        "--prometheus", default="", metavar="URL", help="to: watch errors and latency there before deciding"
    )
    made.add_argument("--watch", type=float, default=60.0, metavar="SECONDS", help="to: for how long (%(default)g)")
    made.add_argument(
        "--canary",
        type=int,
        metavar="PERCENT",
        help="to: first give NAME-canary this share of the traffic for as long (k8s/canary); 0: no canary; default: "
        f"{SHARE} where NAME-canary and the route NAME-gateway stand",
    )
    made.add_argument(
        "--timeout", type=float, default=600.0, metavar="SECONDS", help="for pods to come up (%(default)g)"
    )
    made.add_argument(
        "--reach",
        choices=("auto", "direct", "proxy"),
        default="auto",
        help="how pods are asked: directly, or through the API server; auto: directly inside the cluster",
    )
    made.add_argument("--token_file", type=Path, metavar="FILE", help="the access token that the predictor demands")
    made.add_argument("--force", action="store_true", help="to: although another release seems to be under way")
    made.add_argument(
        "--keep", type=int, default=5, metavar="N", help="prune: how many of the newest stay (%(default)s)"
    )
    made.add_argument("--yes", action="store_true", help="prune: really remove; else it only tells")
    made.add_argument("--json", action="store_true", help="the result for machines; words go to standard error")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Do it, and tell how it went."""
    options = parser().parse_args(argv)
    if options.command == "to" and not options.run:
        parser().error("to: which RUN? `python -m release versions` lists them")
    if options.command != "to" and options.run:
        parser().error(f"{options.command} takes no RUN")

    def say(text: str) -> None:
        print(text, file=sys.stderr if options.json else sys.stdout, flush=True)

    service = None
    if options.service:
        token = options.token_file.read_text("utf-8").strip() if options.token_file else ""
        namespace, name = read_name(options.service)
        service = Service(Cluster(options.reach, token), namespace, name)
    if options.command in ("versions", "prune"):
        return _versions(service, options.store, options.keep, options.command == "prune", options.yes, options.json)
    if service is None:
        return _here(options.command, options.store or RUNS, options.run, options.json)
    if options.command == "status":
        found = status_json(service)
        print(json.dumps(found) if options.json else status_text(found))
        return OK if found["well"] else FAILED
    plan = rollout.Plan(options.timeout, options.watch, options.prometheus, options.force)
    if options.command == "to":
        outcome = release_carefully(service, options.store, options.run, plan, say, options.canary)
    else:
        outcome = rollout.back(service, plan, say)
    if options.json:
        print(json.dumps(outcome.as_json()))
    what = outcome.run_id or outcome.address
    say(f"{'RELEASED' if outcome.released else 'NOT RELEASED'} {what} in {outcome.seconds:.0f} s: {outcome.why}")
    return OK if outcome.released else FAILED


def _here(command: str, store: str, run_id: str, as_json: bool) -> int:
    """On this machine: the link STORE/live."""
    if command == "to":
        Bundle.load(stores.version(store, run_id).address)  # every hash
        stores.set_live(store, run_id)
    elif command == "back":
        stores.go_live_back(store)
    now = stores.live(store)
    link = Path(store, "live")
    since = datetime.fromtimestamp(link.lstat().st_mtime, UTC).isoformat(timespec="seconds") if now else ""
    whole = bool(now) and (link / "bundle" / "bundle.json").is_file()
    found = {"store": store, "live": now, "since": since, "before": stores.history(store), "well": whole}
    if as_json:
        print(json.dumps(found))
    elif now:
        before = ", ".join(reversed(stores.history(store))) or "none"
        print(f"live    {now}{'' if whole else ', WHICH IS NOT THERE'}\nsince   {since}\nbefore  {before}")
        print(
            f"`make serve` serves {link}/bundle; a server that runs already keeps what it has until it is started again"
        )
    else:
        print(f"nothing is live in {store}: `make pipeline-run` makes a version live that passes its gates")
    return OK if whole else FAILED


def _versions(service: Service | None, store: str, keep: int, prune: bool, yes: bool, as_json: bool) -> int:
    """List the store's versions, or remove the old ones."""
    served: set[str] = set()
    before: list[str] = []
    if service is not None:
        now = service.pointer()
        served, before = {now.address, *(pod.address for pod in service.pods())}, [*now.before]
        store = store or rollout.store_of(now.address)
    elif prune and "://" in store:
        raise ReleaseError(f"{store}: what is live there only a service knows; name it with --service")
    store = store or RUNS
    if prune:
        # The way back stays open.
        found = stores.prune(store, keep, {*served, *before, *stores.history(store)[-1:]}, dry_run=not yes)
    else:
        found = stores.versions(store, served)
    if as_json:
        print(json.dumps([asdict(each) for each in found], default=str))
    elif found:
        print(versions_text(found))
    if prune and not as_json:
        print(f"{len(found)} {'removed' if yes else 'would be removed; --yes does it'}")
    elif not as_json and not found:
        print(f"nothing is published in {store}")
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
