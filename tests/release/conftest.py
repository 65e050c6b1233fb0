"""A fake cluster with real predictors, versions in a real S3 API (moto), and a stand-in for Prometheus."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest

from model import store
from tests.helpers.bundles import tiny_bundle
from tests.helpers.s3 import s3_api
from tests.release.cluster import NAME, STORE, FakeCluster
from tests.release.predictors import Predictors


@pytest.fixture(scope="package")
def s3() -> Iterator[None]:
    with s3_api(STORE.removeprefix("s3://").partition("/")[0]):
        yield


@pytest.fixture(scope="package")
def made(tmp_path_factory) -> Path:
    """The one bundle that every version here is."""
    return tiny_bundle(tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture(scope="package")
def mirror(s3, made, tmp_path_factory) -> Path:
    """Versions in the store, and as the folders that a storage initializer would make of them."""
    folder = tmp_path_factory.mktemp("mirror") / "slm"
    for seed, name in enumerate(("one", "two", "bad")):
        for place in (STORE, str(folder)):
            store.publish(made, place, name, {"scores": [{"chrf": 50.0 + seed}]}, {"run_id": name, "code_version": "c"})
    weights = folder / "bad" / "bundle" / "decoder.onnx"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(bytes(data))
    # Its address says liar, and its bundle two.
    store.publish(made, STORE, "liar", {}, {"run_id": "two"})
    (folder / "liar").symlink_to("two")
    return folder


@pytest.fixture(scope="package")
def predictors(mirror) -> Iterator[Predictors]:
    started = Predictors()
    yield started
    started.close()


@pytest.fixture(scope="package")
def shared(mirror, predictors, tmp_path_factory) -> Iterator[FakeCluster]:
    cluster = FakeCluster(tmp_path_factory.mktemp("cluster"), {STORE: mirror}, predictors)
    cluster.create(f"{STORE}/one/bundle")
    for name in ("two", "bad"):  # while one starts
        predictors.of(mirror / name / "bundle")
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(shared, monkeypatch) -> FakeCluster:
    """The service, which serves version one, released by nobody."""
    monkeypatch.setenv("KUBECONFIG", str(shared.kubeconfig))
    monkeypatch.setattr("release.rollout.PAUSE", 0.02)
    shared.reset(f"{STORE}/one/bundle")
    wait(lambda: complete(shared))
    return shared


def complete(cluster: FakeCluster) -> bool:
    """Only pods of the present template, and ready."""
    with cluster.lock:
        service = cluster.services[NAME]
        service.reconcile()
        status = service.deployment()["status"]
        return status["replicas"] == status["updatedReplicas"] == status["availableReplicas"] == service.replicas


def wait(condition: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@dataclass
class StandIn:
    """A server with Prometheus's address; its answers are set by a part of the query, and the first that fits is given.

    Its queries run on a real one in tests/cluster.
    """

    url: str
    answers: dict[str, object] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def answer(self, query: str) -> tuple[int, bytes]:
        self.asked.append(query)
        found = next((value for part, value in self.answers.items() if part in query), None)
        result = [] if found is None else [{"metric": {}, "value": [1.0, str(found)]}]
        body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()
        return 400 if found == "refused" else 200, b"<html>" if found == "broken" else body


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            status, body = made.answer(parse_qs(urlparse(self.path).query)["query"][0])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = StandIn(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()
