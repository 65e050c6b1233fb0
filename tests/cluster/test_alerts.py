"""Every alert of k8s/monitoring fires in the cluster's own Prometheus, each by what it is there for.

Thresholds are the rules' own. Only their waits are left out and their windows of minutes are seconds here, or this
would take an hour; tests/k8s tests the real times with promtool.
"""

from __future__ import annotations

import os
import re
import subprocess
import time

import pytest
import yaml

from tests.helpers.cluster import SERVICE, restarts
from tests.helpers.steady import Load

WINDOW = "30s"
# One request at a time, 500 that wait, 640 clients that never pause: more than fits, and more than the time allows, on
# a fast processor too.
STRAITS = {
    "args": ["--slots=1", "--queue=500", "--request_timeout=3"],
    "resources": {"limits": {"cpu": "1"}},
}
CROWD = {"kept": 640, "new": 0, "rpc": 0, "pause": 0.0, "max_tokens": 100, "to_the_end": True}


@pytest.fixture(scope="module")
def rules(cluster, service, prometheus, tmp_path_factory):
    """Load the rules: by RULES, a command that takes their file, or as the operator's object. Their names."""
    made = cluster.rendered("k8s/monitoring")
    (rule,) = (each for each in made if each["kind"] == "PrometheusRule")
    for group in rule["spec"]["groups"]:
        for each in group["rules"]:
            each.pop("for", None)
            each["expr"] = re.sub(r"\[5m\]", f"[{WINDOW}]", each["expr"])
    if command := os.environ.get("RULES"):
        path = tmp_path_factory.mktemp("rules") / "prometheus-mini.yaml"
        path.write_text(yaml.safe_dump(rule["spec"]), "utf-8")
        subprocess.run(f"{command} {path}", shell=True, check=True)
    elif cluster.has("prometheusrules.monitoring.coreos.com"):
        for each in made:
            for endpoint in each["spec"].get("podMetricsEndpoints", ()) if each["kind"] == "PodMonitor" else ():
                endpoint["interval"] = "2s"
        cluster.create(*made)
    else:
        pytest.skip("neither RULES, a command that loads a file of rules, nor Prometheus's operator is there")
    names = {each["alert"] for group in rule["spec"]["groups"] for each in group["rules"]}
    cluster.until(lambda: names <= loaded(prometheus), 60, "Prometheus has the rules")
    return names


def loaded(prometheus) -> set[str]:
    return {rule["name"] for group in prometheus("rules")["groups"] for rule in group["rules"]}


def test_every_alert_fires(cluster, service, prometheus, rules, kill, record):
    began = time.monotonic()

    def fired() -> set[str]:
        since = int(time.monotonic() - began) + 1
        query = f'max_over_time(ALERTS{{alertstate="firing"}}[{since}s])'
        return {each["metric"]["alertname"] for each in prometheus("query", query=query)["result"]} & rules

    def fires(*names: str) -> None:
        cluster.until(lambda: set(names) <= fired(), 90, f"{names} fire")

    service.apply("k8s/base")
    service.serve(service.runs[0])
    # Another bundle, on a pod that takes too little: for a while two bundles are served at once.
    change = {"storageUri": service.address(service.runs[1]), **STRAITS}
    cluster.patch(f"inferenceservice/{SERVICE}", {"spec": {"predictor": {"model": change}}})
    cluster.until(lambda: set(service.answers()) == {service.runs[1]} and cluster.settled(1), 150, "the narrow pod")
    fires("PrometheusMiniTwoBundles")
    with Load(service.target(), **CROWD) as crowd:
        fires("PrometheusMiniRefuses", "PrometheusMiniQueues", "PrometheusMiniSlow", "PrometheusMiniErrors")
    for _ in range(2):
        (pod,) = cluster.ready_pods()
        name, before = pod["metadata"]["name"], restarts(pod)
        kill(pod)
        cluster.until(lambda: restarts(cluster.get("pod", name)) > before, 60, "a restart")  # noqa: B023
        cluster.until(lambda: cluster.settled(1), 120, "a ready pod")
    fires("PrometheusMiniRestarts")
    cluster.patch(f"inferenceservice/{SERVICE}", {"spec": {"predictor": {"minReplicas": 0}}})
    fires("PrometheusMiniDown")
    record("alerts", {"fired": sorted(fired()), "crowd": crowd.facts(), "seconds": round(time.monotonic() - began)})
    assert fired() == rules
    cluster.patch(f"inferenceservice/{SERVICE}", {"spec": {"predictor": {"model": dict.fromkeys(STRAITS)}}})
