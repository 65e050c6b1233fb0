"""k8s/autoscaling: from one pod to three by the requests that run and wait, and back, without a failed call."""

from __future__ import annotations

import os
import time

import pytest

from tests.helpers.cluster import SELECTOR, SERVICE
from tests.helpers.steady import Load

HEAVY = {"kept": 100, "new": 50, "pause": 0.0, "max_tokens": 40}  # clients that always wait for an answer
LIGHT = {"kept": 3, "new": 3, "rpc": 2}
UP_SECONDS, DOWN_SECONDS = 120, 420  # Kubernetes itself waits 300 s before it takes pods away


@pytest.fixture(scope="module")
def scaled(cluster, service, prometheus):
    """The service under k8s/autoscaling, asked of the Prometheus that PROMETHEUS names."""
    if not cluster.has("scaledobjects.keda.sh"):
        pytest.skip("this cluster has no KEDA: `make cluster-install` brings it")
    address = os.environ["PROMETHEUS"]

    def ask_ours(made: dict) -> None:
        if made["kind"] == "InferenceService":
            for metric in made["spec"]["predictor"]["autoScaling"]["metrics"]:
                metric["external"]["metric"]["serverAddress"] = address

    service.apply("k8s/base")
    service.serve(service.runs[0])
    service.apply("k8s/autoscaling", ask_ours)
    cluster.until(lambda: cluster.get("horizontalpodautoscalers")["items"], 60, "KEDA's autoscaler")
    yield service
    service.apply("k8s/base")
    cluster.kubectl("delete", "scaledobject", "--all")  # as k8s/README.md has it: KServe leaves it where it was


def running(cluster) -> int:
    return len(cluster.get("pods", "--selector", SELECTOR)["items"])


def test_one_to_three_and_back(cluster, scaled, record):
    cluster.until(lambda: cluster.settled(1), 60, "one pod")
    with Load(scaled.target(), **LIGHT) as light:
        began = time.monotonic()
        with Load(scaled.target(), **HEAVY) as heavy:
            cluster.until(lambda: len(cluster.ready_pods()) == 3, UP_SECONDS, "three ready pods")
            up = round(time.monotonic() - began, 1)
            heavy.more(500)
            assert len(cluster.pods()) == 3, "maxReplicas"
        began = time.monotonic()
        cluster.until(lambda: running(cluster) == 1, DOWN_SECONDS, f"one pod of {SERVICE} again")
        down = round(time.monotonic() - began, 1)
        light.more(20)
    facts = {"seconds_to_three": up, "seconds_to_one": down, "heavy": heavy.facts(), "light": light.facts()}
    record("autoscaling", facts)
    assert not heavy.failed
    assert not light.failed
