"""A canary on a fake cluster (cluster.py): its share is there while it is watched, and gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import yaml

from release import step
from release.rollout import Plan
from tests.helpers.servers import ROOT
from tests.release.cluster import NAME, NAMESPACE, STORE, FakeCluster, live, release

CANARY, ROUTE = f"{NAME}-canary", f"{NAME}-gateway"
ONE, TWO = f"{STORE}/one/bundle", f"{STORE}/two/bundle"


@pytest.fixture
def canary(cluster) -> Iterator[FakeCluster]:
    """A service that serves version one, a canary that has never been given anything, and two routes.

    The one is as k8s/gateway makes it. The other is KServe's own, which takes changes back.
    """
    route = yaml.safe_load((ROOT / "k8s" / "gateway" / "route.yaml").read_text("utf-8"))
    cluster.routes[route["metadata"]["name"]] = route["spec"]["rules"]
    cluster.routes[NAME] = [{"backendRefs": [{"name": f"{NAME}-predictor", "port": 80}]}]
    cluster.create("", CANARY)
    yield cluster
    del cluster.services[CANARY]


def to_two(*words: str) -> int:
    return release("to", "two", "--canary", "10", "--watch", "0", *words)


def test_all_went_well(canary, capsys):
    before = canary.routes[ROUTE]
    assert to_two() == 0
    said = capsys.readouterr().out
    assert "10 % of the traffic of prometheus-mini/prometheus-mini-gateway for" in said
    assert "prometheus-mini/prometheus-mini-canary: from nothing that serves" in said
    assert said.splitlines()[-1].startswith("RELEASED two")
    assert canary.weights == [(ROUTE, [100]), (ROUTE, [90, 10]), (ROUTE, [100])]
    assert canary.split == [
        [(f"{NAME}-predictor", port, 90), (f"{CANARY}-predictor", port, 10)] for port in (8081, 80)
    ], "gRPC and REST alike"
    assert live(canary) == live(canary, CANARY) == TWO
    after = [
        {**rule, "backendRefs": [{k: v for k, v in ref.items() if k != "weight"} for ref in rule["backendRefs"]]}
        for rule in canary.routes[ROUTE]
    ]
    assert after == before, "matches and timeouts are as they were"


def test_where_one_stands_it_goes_first_unasked(canary, capsys):
    assert release("to", "two", "--watch", "0") == 0
    assert canary.weights == [(ROUTE, [100]), (ROUTE, [90, 10]), (ROUTE, [100])]
    assert live(canary) == live(canary, CANARY) == TWO
    weights = len(canary.weights)
    assert release("to", "two", "--watch", "0") == 0
    assert len(canary.weights) == weights, "what is live already needs no trial"


def test_a_step_lets_it_go_first_too(canary, monkeypatch, capsys):
    monkeypatch.setattr(step, "Plan", partial(Plan, watch=0.0))
    assert step.put_in_place(f"{NAMESPACE}/{NAME}", STORE, "two", TWO) == TWO
    assert (ROUTE, [90, 10]) in canary.weights and live(canary, CANARY) == TWO


def test_it_can_be_left_out(canary):
    assert release("to", "two", "--canary", "0") == 0
    assert canary.weights == [] and live(canary) == TWO and not live(canary, CANARY)


@pytest.mark.parametrize("lacking", ["route", "right", "version"])
def test_none_goes_first_unasked(canary, lacking, capsys):
    """Without a way for its traffic, without the right to look for one, or with nothing to fall back to."""
    if lacking == "route":
        del canary.routes[ROUTE]
    elif lacking == "right":
        canary.forbidden = ["httproutes"]
    else:
        canary.reset("")
        canary.routes[ROUTE] = [{"backendRefs": [{"name": f"{NAME}-predictor", "port": 80}]}]
        canary.services[NAME].pods = []
    assert release("to", "two", "--store", STORE, "--watch", "0") == 0
    assert canary.weights == [] and live(canary) == TWO and not live(canary, CANARY)
    assert ("none can be looked for" in capsys.readouterr().out) == (lacking == "right")


def test_one_that_does_not_come_up_gets_no_traffic(canary, capsys):
    assert release("to", "bad", "--canary", "10", "--watch", "0") == 1
    said = capsys.readouterr().out
    assert "decoder.onnx: hash mismatch" in said and "NOT RELEASED bad" in said
    assert canary.weights == [(ROUTE, [100])] and live(canary) == ONE and not live(canary, CANARY)


def test_one_that_fails_under_its_share_does_not_go_on(canary, stand_in, capsys):
    """The first fitting answer is given: of the last ten minutes nothing is known, of the canary much that failed."""
    stand_in.answers |= {"increase": 0, "count(": 1, "request_success": 50, "request_rejected": 50}
    version = canary.services[NAME].version
    assert to_two("--prometheus", stand_in.url) == 1
    said = capsys.readouterr().out
    assert "it is no good; all traffic goes to prometheus-mini/prometheus-mini again" in said
    assert "as a canary: under traffic: 50.0% of its requests failed" in said and "NOT RELEASED two" in said
    assert canary.weights[-2:] == [(ROUTE, [90, 10]), (ROUTE, [100])]
    assert live(canary) == ONE and canary.services[NAME].version == version, "the service itself was never touched"
    assert any('run_id="two",model_name="prometheus-mini"' in query for query in stand_in.asked)


def test_one_that_somebody_else_moves_meanwhile(canary, capsys):
    def overtake(method: str, isvc) -> None:
        if isvc.name == CANARY and canary.weights[-1][1] == [90, 10]:
            isvc.spec["predictor"]["model"]["storageUri"] = ONE

    canary.on_call = overtake
    assert to_two() == 1
    assert f"somebody else has pointed prometheus-mini/{CANARY} at {ONE} meanwhile" in capsys.readouterr().out
    assert canary.weights[-1] == (ROUTE, [100]) and live(canary) == ONE


@pytest.mark.parametrize("rules", [None, [], [{"backendRefs": [{"name": "other", "port": 80}]}]])
def test_without_a_route_there_is_none(canary, rules, capsys):
    del canary.routes[ROUTE]
    if rules is not None:
        canary.routes[ROUTE] = rules
    version = canary.services[CANARY].version
    assert to_two() == 2
    said = capsys.readouterr().err
    assert (
        "there is no HTTPRoute prometheus-mini/prometheus-mini-gateway that leads to prometheus-mini-predictor" in said
    )
    assert "kubectl apply -k k8s/gateway" in said and canary.services[CANARY].version == version


def test_without_a_second_service_there_is_none(canary, capsys):
    canary.services["away"] = canary.services.pop(CANARY)
    try:
        assert to_two() == 2
    finally:
        canary.services[CANARY] = canary.services.pop("away")
    said = capsys.readouterr().err
    assert f"there is no InferenceService {CANARY} in namespace prometheus-mini" in said
    assert "kubectl apply -f k8s/canary/inferenceservice.yaml" in said
    assert live(canary) == ONE


@pytest.mark.parametrize("share", ["100", "-5"])
def test_a_share_that_is_none(canary, share, capsys):
    assert release("to", "two", f"--canary={share}") == 2
    assert "must be between 1 and 99" in capsys.readouterr().err
    assert canary.weights == []
