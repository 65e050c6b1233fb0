"""One release on a cluster: point, wait for the new pods' own word, ask them, watch them; or go back and say why."""

import json
import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from model import store as stores
from release.cluster import Cluster, ClusterError, Json, Unreachable
from release.golden import Golden, check, golden_of
from release.pods import Pod, identity, last_words
from release.service import Pointer, ReleaseError, Service, complete, refusals
from release.watch import WINDOW, Prometheus, Seen, WatchError, judge

NOWHERE = "no address, as before"  # what a service points at that was never given anything
Say = Callable[[str], None]
SERVER = "kserve-container"  # KServe's name for the container that serves
PAUSE = 2.0  # seconds between two looks
SCRAPED = 90.0  # seconds in which Prometheus must have seen a new pod; it commonly looks every 15 to 60


class Broken(Exception):
    """The new version is no good; why."""


class Overtaken(Exception):
    """Somebody else has moved the pointer meanwhile."""


@dataclass(frozen=True)
class Plan:
    """How a release is judged; seconds."""

    timeout: float = 600.0  # for the new pods to come up
    watch: float = 60.0  # under the eyes of Prometheus
    prometheus: str = ""  # its address; without one, nothing is watched
    force: bool = False  # although another release seems to be under way


@dataclass(frozen=True)
class Outcome:
    """How a release ended; ``live`` is the address that the service points at now."""

    service: str
    run_id: str
    address: str
    released: bool
    live: str
    why: str
    seconds: float

    def as_json(self) -> Json:
        """Plain data."""
        return asdict(self)


def release(service: Service, store: str, run_id: str, plan: Plan, say: Say) -> Outcome:
    """Release a published run, or go back to what was live.

    Raises:
        ReleaseError: where nothing was changed: the service, or the version, or its way to the cluster is not right.
        StoreError: where the version is not there whole.
    """
    now = service.pointer()
    place = store or store_of(now.address)
    found = stores.version(place, run_id)
    if "://" not in place:
        raise ReleaseError(f"{place}: a cluster cannot read a folder of this machine; publish to s3:// or pvc://")
    golden = golden_of(stores.read_result(place, run_id, "summary.json"), found.precision)
    live = service.live(now)
    if live is not now and now.moved_within(plan.timeout) and now.address != found.address and not plan.force:
        raise ReleaseError(
            f"{service}: a release to {now.address} began at {now.since} and is not through; wait for its end, or, if "
            "nobody sees to it any more, use --force"
        )
    say(
        f"{service}: from {live.address if live else 'nothing that serves'} to {found.address} "
        f"({found.precision}, {found.metric or 'no figures'})"
    )
    before = now.before
    if live:
        before = live.before if live.address == found.address else (*live.before, live.address)
    return _move(service, now, live, found.address, run_id, before, golden, plan, say)


def back(service: Service, plan: Plan, say: Say) -> Outcome:
    """Release what was live before.

    Raises:
        ReleaseError: where nothing was.
    """
    now = service.pointer()
    if not now.before:
        raise ReleaseError(f"{service}: no release went before {now.address}; name one with `python -m release to RUN`")
    address = now.before[-1]
    parts = stores.split(address)
    say(f"{service}: back from {now.address} to {address}")
    plan = Plan(timeout=plan.timeout)  # it has been watched when it was released
    return _move(service, now, service.live(now), address, parts[1] if parts else "", now.before[:-1], [], plan, say)


def _move(
    service: Service,
    now: Pointer,
    live: Pointer | None,
    address: str,
    run_id: str,
    before: tuple[str, ...],
    golden: list[Golden],
    plan: Plan,
    say: Say,
) -> Outcome:
    began = time.monotonic()

    def ended(released: bool, live: str, why: str) -> Outcome:
        return Outcome(str(service), run_id, address, released, live, why, round(time.monotonic() - began, 1))

    again = address == now.address and (live is None or live.address == address)
    prometheus = Prometheus(plan.prometheus) if plan.prometheus else None
    # Asked before anything is changed: a release that cannot be watched as it was asked to is not begun.
    past = prometheus.seen((live or now).run_id, service.model_name, WINDOW) if prometheus else None
    if not again:
        service.move(now, address, run_id, before)
    # A job that is told to end, as the pod of a step, goes back as for Ctrl-C.
    here = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler) if here else None
    try:
        pods = _arrive(service, address, run_id, time.monotonic() + plan.timeout, say)
        _question(service, pods, golden, say)
        if prometheus and not again:
            observe(service, prometheus, address, run_id, past, plan.watch, say)
    except Overtaken as other:
        return ended(False, str(other), f"somebody else has pointed {service} at {other} meanwhile; it is left there")
    except (Broken, ClusterError, WatchError, KeyboardInterrupt) as failure:
        why = "interrupted" if isinstance(failure, KeyboardInterrupt) else str(failure)
        if again:
            return ended(False, address, f"it is what {service} points at already, and it is not well: {why}")
        say(f"it is no good; going back to {(live or now).address or NOWHERE}")
        points, rest = _return(service, live or now, address, plan.timeout if live else 0.0)
        if isinstance(failure, KeyboardInterrupt):
            say(rest)
            raise
        return ended(False, points, f"{why}\n{rest}")
    finally:
        if here:
            signal.signal(signal.SIGTERM, handler)
    return ended(True, address, "it was live already" if again else f"all {len(pods)} pods serve it")


def _arrive(service: Service, address: str, run_id: str, deadline: float, say: Say) -> list[Pod]:
    """Wait until every pod is of the new address, ready, and says the run itself; those pods."""
    told = ""
    while True:
        deployment, pods, state = {}, list[Pod](), "the API server does not answer"
        try:
            if (points := service.pointer().address) != address:
                raise Overtaken(points)
            deployment = service.deployment()
            pods = [pod for pod in service.pods() if pod.address == address and not pod.leaving]
            state = ", ".join(f"{pod.name} {pod.state()}" for pod in pods) or "no pod has been made for it yet"
            _despair(service.cluster, pods)
            if complete(deployment, address) and pods and all(pod.ready for pod in pods):
                _ask_who(service.cluster, pods, run_id)
                return pods
        except ClusterError as error:
            if error.status in (400, 401, 403, 422):  # it will go on answering so; a pod that has just gone is a 404
                raise
            state = str(error)
        if state != told:
            say(state)
            told = state
        if time.monotonic() > deadline:
            refused = refusals(deployment)
            words = next((last_words(service.cluster, pod, SERVER) for pod in pods if not pod.ready), "")
            more = f"{f'; {refused}' if refused else ''}{f'; its last words:{chr(10)}{words}' if words else ''}"
            raise Broken(f"it is not up in time: {state}{more}")
        time.sleep(PAUSE)


def _despair(cluster: Cluster, pods: list[Pod]) -> None:
    for pod in pods:
        if trouble := pod.trouble():
            container, why = trouble
            words = last_words(cluster, pod, container)
            raise Broken(
                f"pod {pod.name}, container {container}: {why}{f'; its last words:{chr(10)}{words}' if words else ''}"
            )


def _ask_who(cluster: Cluster, pods: list[Pod], run_id: str) -> None:
    """Every pod's own word for what it serves; where no run is expected, whatever it says is right."""
    for pod in pods:
        said = identity(cluster, pod).get("run_id", "")
        if run_id and said != run_id:
            raise Broken(f"pod {pod.name} is ready and says that it serves run {said or 'unknown'}, not {run_id}")


def _question(service: Service, pods: list[Pod], golden: list[Golden], say: Say) -> None:
    for pod in pods:

        def ask(method: str, path: str, body: Json | None, pod: Pod = pod) -> bytes:
            return service.cluster.ask(pod.data, method, path, body)

        try:
            info = json.loads(ask("GET", "/info", None))
        except Unreachable:
            raise
        except ClusterError as error:
            if error.status not in (401, 403):
                raise
            say(
                "no golden requests: the predictor demands a token, which the API server does not hand on; run this in "
                "the cluster with --token_file to have them sent"
            )
            return
        wrong, seen = check(ask, info, golden)
        if wrong:
            raise Broken(f"pod {pod.name}: golden request {wrong}")
        say(f"{pod.name}: {seen}")


def observe(
    service: Service,
    prometheus: Prometheus | None,
    address: str,
    run_id: str,
    past: Seen | None,
    seconds: float,
    say: Say,
) -> None:
    """Watch a version's pods, and through Prometheus its errors and latency; what is too bad is told at once.

    Raises:
        Broken: where the version is worse than the one before (``past``), or a pod did not stay up.
        Overtaken: where somebody else has moved the service's pointer.
        WatchError: where Prometheus does not answer.
    """
    if prometheus:
        say(f"watching {prometheus.url} for {seconds:g} s; before: {past}")
    began, end, stood = time.monotonic(), math.inf, set[str]()
    while time.monotonic() < end:
        if (points := service.pointer().address) != address:
            raise Overtaken(points)
        pods = [pod for pod in service.pods() if pod.address == address and not pod.leaving]
        # One that the autoscaler has just added may take its time; one that was ready may not stop being so.
        fallen = [f"{pod.name} {pod.state()}" for pod in pods if pod.trouble() or (pod.name in stood and not pod.ready)]
        if fallen:
            raise Broken(f"a pod did not stay up: {', '.join(fallen)}")
        stood = {pod.name for pod in pods if pod.ready}
        seen = prometheus.seen(run_id, service.model_name) if prometheus else None
        if seen is None or seen.pods:  # nothing is watched before the pods are scraped for the first time
            end = min(end, time.monotonic() + seconds)
        elif time.monotonic() > began + SCRAPED:
            raise Broken(f"Prometheus knows no metrics of run {run_id} after {SCRAPED:g} s: are its pods scraped?")
        if seen and (worse := judge(seen, past)):
            raise Broken(f"under traffic: {worse}")
        time.sleep(max(min(PAUSE, end - time.monotonic()), 0))
    if seen:
        say(f"after: {seen}{'' if seen.requests else '; nobody asked, so that there was nothing to judge'}")


def _return(service: Service, past: Pointer, ours: str, timeout: float) -> tuple[str, str]:
    """Point back, and wait until only the pods of before are left; where it points now, and how that went."""
    try:
        if (points := service.pointer().address) != ours:
            return points, f"somebody else has pointed {service} at {points} meanwhile; it is left there"
        service.restore(past)
        end = time.monotonic() + timeout
        while not complete(service.deployment(), past.address):
            if time.monotonic() > end:
                return (
                    past.address,
                    f"{past.address or NOWHERE} is pointed at again, but its pods are not all up: see the status",
                )
            time.sleep(PAUSE)
    except (ClusterError, ReleaseError) as error:
        return "", f"NOT moved back: {error}"
    return past.address, f"{past.address} is live, as before"


def store_of(address: str) -> str:
    """The store that an address is in.

    Raises:
        ReleaseError: where it is in none.
    """
    parts = stores.split(address)
    if not parts:
        raise ReleaseError(f"{address} is in no store (STORE/RUN/bundle); name the store with --store")
    return parts[0]
