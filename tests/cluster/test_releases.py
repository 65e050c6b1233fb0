"""Releases and accidents under load, with the two replicas of k8s/production: no call fails, and `release` says why.

Nothing that a client sends is sent twice, except where a server is killed: what was under way on it cannot be answered
by anybody, so there the clients do what a client may that knows its calls to change nothing: they ask again.
"""

from __future__ import annotations

import time

import pytest

from tests.helpers.cluster import restarts
from tests.helpers.steady import Load


@pytest.fixture(scope="module")
def two(cluster, service):
    """The service with two replicas, serving the first run."""
    service.apply("k8s/production")
    service.serve(service.runs[0], replicas=2)
    return service


def test_a_release_and_the_way_back(two, record):
    first, second = two.runs
    with Load(two.target()) as load:
        to = two.release("to", second)
        load.more(100)
        back = two.release("back")
        load.more(100)
    record("release and back under load", {**load.facts(), "release": to.seconds, "back": back.seconds})
    assert to.status == 0, to.words
    assert back.status == 0, back.words
    assert second in to.words
    assert first in back.words
    assert not load.failed
    assert set(load.runs) == {first, second}
    assert two.live() == first


def test_a_pod_is_deleted(cluster, two, record):
    with Load(two.target()) as load:
        gone = cluster.ready_pods()[0]["metadata"]["name"]
        cluster.kubectl("delete", "pod", gone, "--wait=false")
        cluster.until(lambda: cluster.settled(2), 150, "two pods again, the old one gone")
        load.more(100)
    record("pod deleted under load", load.facts())
    assert gone not in {pod["metadata"]["name"] for pod in cluster.pods()}
    assert not load.failed


def test_a_server_is_killed(cluster, two, kill, record):
    with Load(two.target(), retries=5) as load:
        victim = cluster.ready_pods()[0]
        name, before = victim["metadata"]["name"], restarts(victim)
        kill(victim)
        cluster.until(lambda: restarts(cluster.get("pod", name)) > before, 60, "the server started again")
        cluster.until(lambda: cluster.settled(2), 60, "two ready pods")
        load.more(100)
    record("server killed under load", load.facts())
    assert not load.failed


def test_a_wrong_address(cluster, two, record):
    """Nothing is there: `release` refuses before it touches anything; put there by hand, the old version answers on."""
    refused = two.release("to", "no-such-run")
    assert refused.status == 2, refused.words
    assert "no-such-run" in refused.words
    assert two.live() == two.runs[0]
    with Load(two.target()) as load:
        two.point("no-such-run")
        cluster.until(lambda: len(cluster.pods()) == 3, 60, "a pod that looks for the bundle")
        time.sleep(10)
        status = two.release("status")
        load.more(100)
        back = two.release("to", two.runs[0], "--force")
    record("wrong storageUri under load", {**load.facts(), "status": status.words, "back": back.words})
    assert not load.failed
    assert set(load.runs) == {two.runs[0]}
    assert status.status == 1
    assert "no-such-run" in status.words
    assert back.status == 0, back.words


def test_a_corrupted_bundle(cluster, two, record):
    bad = two.corrupt(two.runs[1])
    with Load(two.target()) as load:
        done = two.release("to", bad)
        load.more(100)
    record("corrupted bundle under load", {**load.facts(), "status": done.status, "words": done.words})
    assert done.status == 1, done.words
    assert not load.failed
    assert set(load.runs) == {two.runs[0]}
    assert two.live() == two.runs[0]
    cluster.until(lambda: cluster.settled(2), 60, "the two old pods, and no other")
