"""k8s/canary: the Gateway's route splits calls between two predictors by weight, and takes the split back."""

from __future__ import annotations

import math
from collections import Counter

import httpx
import pytest
import yaml

from tests.helpers.cluster import ROOT, SERVICE
from tests.helpers.steady import Load, Target

WEIGHTS = (70, 30)
CALLS = 400
SPREAD = 4.0  # standard deviations on either side: one good split in 16,000 is called bad
CANARY = f"{SERVICE}-canary"


def split(made: dict) -> None:
    """The overlay's route with the weights of this test."""
    if made["kind"] == "HTTPRoute":
        for rule in made["spec"]["rules"]:
            for backend, weight in zip(rule["backendRefs"], WEIGHTS, strict=True):
                backend["weight"] = weight


def begin_canary(cluster, service) -> None:
    """The second predictor alone; its Service is there before a route names it."""
    (made,) = yaml.safe_load_all((ROOT / "k8s/canary/inferenceservice.yaml").read_text("utf-8"))
    cluster.create(made)
    cluster.until(lambda: cluster.get("service", f"{CANARY}-predictor"), 60, "the canary's Service")


def answers(target: Target, calls: int) -> Counter[str]:
    """Which run answers so many calls through the Gateway."""
    found: Counter[str] = Counter()
    url, headers = f"http://{target.host}:{target.port}", {"host": target.authority}
    with httpx.Client(base_url=url, headers=headers, timeout=20, trust_env=False) as client:
        for _ in range(calls):
            found[client.get("/info").raise_for_status().json()["bundle"]["run_id"]] += 1
    return found


@pytest.fixture(scope="module")
def gateway(cluster, service):
    service.apply("k8s/base")
    service.serve(service.runs[0])
    yield service.gateway()
    cluster.kubectl("delete", "inferenceservice", CANARY, "--ignore-not-found", "--wait=false")
    service.apply("k8s/gateway")


def test_calls_are_split_by_weight(cluster, service, gateway, record):
    first, second = service.runs
    with Load(gateway, kept=10, new=10, rpc=2) as load:
        begin_canary(cluster, service)
        service.apply("k8s/canary")  # without a share, for it has no bundle yet
        done = service.release("to", second, name=CANARY)
        assert done.status == 0, done.words
        service.apply("k8s/canary", split)
        cluster.until(lambda: set(answers(gateway, 20)) == {first, second}, 60, "both predictors answer")
        found = answers(gateway, CALLS)
        service.apply("k8s/gateway")
        cluster.until(lambda: set(answers(gateway, 20)) == {first}, 60, "the first predictor answers alone")
        load.more(50)
    record("canary", {"weights": WEIGHTS, "answers": [found[first], found[second]], "load": load.facts()})
    share = WEIGHTS[1] / sum(WEIGHTS)
    bound = SPREAD * math.sqrt(CALLS * share * (1 - share))
    assert abs(found[second] - CALLS * share) <= bound, found
    assert not load.failed


def test_a_release_tries_its_version_on_a_share_first(cluster, service, gateway, record):
    """A release does the same by itself where a canary stands: a share, then all, and no weights are left behind."""
    first, second = service.runs
    begin_canary(cluster, service)
    with Load(gateway, kept=10, new=10, rpc=2) as load:
        done = service.release("to", second)
        load.more(50)
        alone = answers(gateway, 20)
    record("release by canary", {**load.facts(), "words": done.words, "seconds": done.seconds})
    assert done.status == 0, done.words
    assert "10 % of the traffic" in done.words
    assert set(load.runs) == {first, second}
    assert set(alone) == {second}
    assert not load.failed
