"""Canary: a share of the Gateway's traffic for a new version, before all pods become it.

The canary is an InferenceService of its own, NAME-canary, and the split is weights in the HTTPRoute NAME-gateway, both
as in k8s/canary: KServe 0.20 makes pods for its own ``spec.canary``, and its route never sends anything there. Its own
route, which is called NAME, is left alone: it would take every change back.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from model.store import address as address_of
from release.cluster import ClusterError, Json
from release.rollout import Broken, Outcome, Overtaken, Plan, Say, observe, release, store_of
from release.service import CANARY, FORBIDDEN, NOT_FOUND, ReleaseError, Service
from release.watch import WINDOW, Prometheus, WatchError

SHARE = 10  # per cent that a canary gets where nobody says how much


def release_carefully(
    service: Service, store: str, run_id: str, plan: Plan, say: Say, share: int | None = None
) -> Outcome:
    """Release by way of the canary where one stands and something is live, else at once.

    Args:
        share: Per cent of the traffic for the canary, which must then stand; 0: none, although it may. None: 10 where
            the service has a canary and a route that can give it traffic, and serves another version now.

    Raises:
        ReleaseError: as :func:`release` and :func:`release_by_canary`.
    """
    if share is None:
        share = SHARE if _stands(service, store, run_id, say) else 0
    if not share:
        return release(service, store, run_id, plan, say)
    return release_by_canary(service, store, run_id, share, plan, say)


def _stands(service: Service, store: str, run_id: str, say: Say) -> bool:
    """Whether a canary can go first: there is one, a way for its traffic, and a version to fall back to."""
    try:
        Route(service).refs()
        _canary(service).resource()
    except ReleaseError:
        return False
    except ClusterError as error:
        if error.status != FORBIDDEN:
            raise
        say(f"no canary goes first, for none can be looked for: {error}")
        return False
    now = service.pointer()
    live = service.live(now)
    return live is not None and live.address != address_of(store or store_of(now.address), run_id)


def _canary(service: Service) -> Service:
    return Service(service.cluster, service.namespace, f"{service.name}{CANARY}")


def release_by_canary(service: Service, store: str, run_id: str, weight: int, plan: Plan, say: Say) -> Outcome:
    """Release to the canary, give it its share and watch; then, if all went well, release to the service itself.

    Raises:
        ReleaseError: where there is no canary or no route, or the share is none.
    """
    if not 0 < weight < 100:
        raise ReleaseError(
            f"--canary {weight}: must be between 1 and 99, the per cent of traffic that it gets, or 0 for no canary"
        )
    began = time.monotonic()
    route, canary = Route(service), _canary(service)
    now = service.pointer()
    prometheus = Prometheus(plan.prometheus) if plan.prometheus else None
    live = service.live(now) or now
    past = prometheus.seen(live.run_id, service.model_name, WINDOW) if prometheus else None
    route.split(canary.name, 0)  # a share of a service without ready pods is answered with 503
    # The canary may never have been given anything: the store is the service's own.
    outcome = release(canary, store or store_of(now.address), run_id, replace(plan, prometheus=""), say)
    if not outcome.released:
        return replace(outcome, service=str(service), live=now.address)
    why = ""
    try:
        with route.shared(canary.name, weight):
            say(f"{weight} % of the traffic of {route} for {canary} for {plan.watch:g} s")
            observe(canary, prometheus, outcome.address, run_id, past, plan.watch, say)
    except (Broken, ClusterError, WatchError) as failure:
        why = f"as a canary: {failure}"
    except Overtaken as other:
        why = f"somebody else has pointed {canary} at {other} meanwhile"
    if why:
        say(f"it is no good; all traffic goes to {service} again")
        seconds = round(time.monotonic() - began, 1)
        return Outcome(str(service), run_id, outcome.address, False, now.address, why, seconds)
    say(f"all traffic goes to {service} again; now all its pods")
    return release(service, store, run_id, plan, say)


class Route:
    """The HTTPRoute NAME-gateway (k8s/gateway), by which the Gateway's traffic comes to the service."""

    def __init__(self, service: Service) -> None:
        self._service, self._cluster, self.name = service, service.cluster, f"{service.name}-gateway"
        self._path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{service.namespace}/httproutes/{self.name}"

    def __str__(self) -> str:
        return f"{self._service.namespace}/{self.name}"

    def refs(self) -> list[Json]:
        """The rules, each with the service's own predictor among its backends.

        Raises:
            ReleaseError: where there is no such route.
        """
        try:
            rules = self._cluster.get(self._path)["spec"].get("rules") or []
        except ClusterError as error:
            if error.status != NOT_FOUND:
                raise
            rules = []
        own = f"{self._service.name}-predictor"
        if not rules or any(own not in [ref["name"] for ref in rule.get("backendRefs") or []] for rule in rules):
            raise ReleaseError(
                f"there is no HTTPRoute {self} that leads to {own}; `kubectl apply -k k8s/gateway` makes one"
            )
        return rules

    @contextmanager
    def shared(self, canary: str, weight: int) -> Iterator[None]:
        """Give the canary its share of every rule, and take it away at the end, whatever happened."""
        self.split(canary, weight)
        try:
            yield
        finally:
            self.split(canary, 0)

    def split(self, canary: str, weight: int) -> None:
        """Give the canary so many per cent of every rule; at 0, it is none of the backends.

        Raises:
            ReleaseError: where there is no such route.
        """
        rules, own, other = self.refs(), f"{self._service.name}-predictor", f"{canary}-predictor"
        for rule in rules:
            mine = next(ref for ref in rule["backendRefs"] if ref["name"] == own)
            rule["backendRefs"] = [{**mine, "weight": 100 - weight}]
            if weight:
                rule["backendRefs"].append({**mine, "name": other, "weight": weight})
        self._cluster.patch(self._path, {"spec": {"rules": rules}})
