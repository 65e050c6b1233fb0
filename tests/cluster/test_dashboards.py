"""k8s/monitoring: the cluster's Prometheus understands every query of the dashboard, and has figures for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.helpers.cluster import NAMESPACE, SERVICE, Cluster
from tests.helpers.steady import Load

INTERVALS = {"__rate_interval": "1m", "__interval": "15s", "__range": "15m"}  # as Grafana fills them in


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in board.get("panels", ()):
        yield panel
        yield from panels(panel)


def queries() -> list[tuple[str, str]]:
    """Title and query of every panel of every dashboard, its variables filled in."""
    found = []
    for made in Cluster().rendered("k8s/monitoring"):
        if made["kind"] != "ConfigMap":
            continue
        for text in made["data"].values():
            board = json.loads(text)
            own = {each["name"]: ".*" for each in board.get("templating", {}).get("list", ())}
            values = {**own, "namespace": NAMESPACE, "service": SERVICE, **INTERVALS}
            for panel in panels(board):
                for target in panel.get("targets", ()):
                    expression = target["expr"]
                    for name, value in values.items():
                        expression = re.sub(rf"\$\{{?{name}(:\w+)?\}}?(?!\w)", value, expression)
                    found.append((panel.get("title", ""), expression))
    return found


@pytest.fixture(scope="module")
def used(service, prometheus):
    """The service after some calls, a few of them refused, and long enough for two scrapes."""
    service.apply("k8s/base")
    service.serve(service.runs[0])
    with Load(service.target(), kept=5, new=5, rpc=2) as load:
        for _ in range(10):
            load.more(40)
            refused = httpx.post(f"http://{load.target.host}:{load.target.port}/generate", json={}, trust_env=False)
            assert refused.status_code == 400
        yield service


def test_every_query_runs(used, prometheus, cluster, record):
    found, empty = queries(), []
    assert found
    cluster.until(lambda: prometheus("query", query="sum(rate(slm_request_success_total[1m]))")["result"], 60, "rates")
    for title, expression in found:
        assert "$" not in expression, f"{title}: a variable that nobody fills in: {expression}"
        if not prometheus("query", query=expression)["result"]:
            empty.append(title)
    record("dashboard", {"queries": len(found), "without figures": empty})
    assert not empty
