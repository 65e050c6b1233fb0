"""k8s/monitoring: alerts and dashboard speak of metrics that the real server has, and a real Prometheus runs them.

promtool and Prometheus come with Debian's package prometheus; without them those tests are skipped, and say so.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.helpers.bundles import tiny_bundle
from tests.helpers.manifests import FOLDER, build, load, one
from tests.helpers.servers import Server, free_ports, start_server

MONITORING = FOLDER / "monitoring"
RULES = one(load(MONITORING), "PrometheusRule")["spec"]
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text("utf-8"))
QUERIES = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
SCALING = re.findall(r"(?:slm|process)_\w+", (FOLDER / "autoscaling/component/kustomization.yaml").read_text("utf-8"))
NAMESPACE, POD = "prometheus-mini", "prometheus-mini-predictor-0"


def need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"no {program} (Debian: apt install prometheus): k8s/monitoring is NOT run by it")
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """The real server, after a call of each outcome."""
    folder = tmp_path_factory.mktemp("server")
    with start_server(tiny_bundle(folder / "bundle"), folder / "log") as started:
        started.post("/generate", {"prompt": "hello", "target": "ru"})
        started.post("/generate", {"prompt": 7})
        yield started


def metrics(query: str) -> set[str]:
    """Names of metrics in a query; label matchers, whose values are words too, left out."""
    return set(re.findall(r"\b(?:slm|process)_\w+", re.sub(r"\{[^}]*\}", "", query)))


def labels(query: str) -> set[str]:
    """Names of labels in a query's matchers and groupings."""
    inside = " ".join(re.findall(r"\{([^}]*)\}", query))
    grouped = ",".join(re.findall(r"(?:by|on) \(([^)]*)\)", query))
    return set(re.findall(r"(\w+)\s*=", inside)) | {name.strip() for name in grouped.split(",") if name.strip()}


def test_every_metric_and_label_is_one_that_the_real_server_has(server):
    text = server.get("/metrics").text
    exported = {re.split(r"[{ ]", line)[0] for line in text.splitlines() if not line.startswith("#")}
    known = set(re.findall(r'[{,](\w+)="', text)) | {"namespace", "pod"}  # these two are Prometheus's
    told = [rule["expr"] for rule in ALERTS] + [query for _, query in QUERIES] + SCALING
    assert set().union(*map(metrics, told)) <= exported
    assert set().union(*map(labels, told)) <= known
    assert len(SCALING) == 2 and len(QUERIES) > 15


def test_every_reason_that_an_alert_names_is_an_error_of_the_server():
    from serving import errors

    text = " ".join(rule["expr"] for rule in ALERTS)
    reasons = {word for found in re.findall(r'reason=~?"([^"]+)"', text) for word in found.split("|")}
    assert len(reasons) > 3 and all(hasattr(errors, reason) for reason in reasons)


def test_the_dashboard_is_one_that_grafana_can_draw():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]}
    assert len(places) == len(ids)
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD)))
    assert used - {"__rate_interval"} == variables == {"datasource", "namespace"}


def test_the_dashboard_is_found_by_grafana_and_the_pods_by_prometheus():
    documents = build("monitoring")
    board = one(documents, "ConfigMap")
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(board["data"]["dashboard.json"]) == DASHBOARD
    monitor = one(documents, "PodMonitor")["spec"]
    services = {d["metadata"]["name"] for d in build("base") + build("canary") if d["kind"] == "InferenceService"}
    (expression,) = monitor["selector"]["matchExpressions"]
    assert expression == {"key": "serving.kserve.io/inferenceservice", "operator": "In", "values": sorted(services)}
    (endpoint,) = monitor["podMetricsEndpoints"]
    ports = one(build("base"), "ServingRuntime")["spec"]["containers"][0]["ports"]
    assert (endpoint["port"], endpoint["path"]) == (ports[0]["name"], "/metrics")


def test_each_alert_fires_when_it_should_and_only_then(tmp_path):
    """promtool runs Prometheus's own evaluation over made-up series."""
    promtool = need("promtool")
    cases = (Path(__file__).parent / "alerts.test.yaml").read_text("utf-8")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES))
    (tmp_path / "alerts.test.yaml").write_text(cases)
    for words in (["check", "rules", "rules.yaml"], ["test", "rules", "alerts.test.yaml"]):
        done = subprocess.run([promtool, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    tested = {
        (case["alertname"], bool(case["exp_alerts"]))
        for t in yaml.safe_load(cases)["tests"]
        for case in t["alert_rule_test"]
    }
    assert tested == {(rule["alert"], fires) for rule in ALERTS for fires in (True, False)}


class Prometheus:
    """A real one, at a port of 127.0.0.1, that scrapes one server every half second."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path: str, **parameters: str) -> Any:
        answer = httpx.get(f"{self.url}/{path}", params=parameters, timeout=20, trust_env=False)
        if answer.status_code == 503:
            raise httpx.TransportError("it is starting")
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def until(self, query: str, seconds: float = 60) -> list[Any]:
        """The query's answer, once there is one."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if found := self.ask("query", query=query)["result"]:
                    return found
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise AssertionError(f"no answer in {seconds} s: {query}")


@pytest.fixture(scope="module")
def prometheus(server, tmp_path_factory) -> Iterator[Prometheus]:
    """Prometheus with our rules, which fire as soon as they hold, and the labels that the operator would set."""
    program, folder = need("prometheus"), tmp_path_factory.mktemp("prometheus")
    at_once = [{**group, "rules": [{**rule, "for": "0s"} for rule in group["rules"]]} for group in RULES["groups"]]
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": at_once}))
    target = {"targets": [f"127.0.0.1:{server.http_port}"], "labels": {"namespace": NAMESPACE, "pod": POD}}
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "pods", "static_configs": [target]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    command = [program, "--config.file=prometheus.yaml", "--storage.tsdb.path=data"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        found = Prometheus(port)
        found.until("slm_num_slots")
        server.post("/generate", {"prompt": "hello", "target": "ru"})
        server.post("/generate", {"prompt": 7})
        found.until("sum(rate(slm_request_success_total[1m])) > 0")
        found.until("sum(rate(slm_request_rejected_total[1m])) > 0")
        yield found
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[title for title, _ in QUERIES])
def test_a_real_prometheus_answers_every_query_of_the_dashboard(title, query, prometheus):
    filled = query.replace("$namespace", NAMESPACE).replace("$__rate_interval", "1m")
    assert prometheus.ask("query", query=filled)["result"], title


def test_a_real_prometheus_answers_the_autoscalers_query(prometheus):
    service = one(build("autoscaling"), "InferenceService")
    (metric,) = service["spec"]["predictor"]["autoScaling"]["metrics"]
    (answer,) = prometheus.ask("query", query=metric["external"]["metric"]["query"])["result"]
    assert float(answer["value"][1]) >= 0


def test_a_real_prometheus_calls_when_the_server_is_gone(server, prometheus):
    """The last test: it ends the server. While that worked, nothing fired."""
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"]: (rule["health"], rule["state"]) for rule in rules} == {
        rule["alert"]: ("ok", "inactive") for rule in ALERTS
    }
    assert server.terminate() == 0
    (alert,) = prometheus.until('ALERTS{alertname="PrometheusMiniDown",alertstate="firing"}')
    assert alert["metric"]["severity"] == "critical"
