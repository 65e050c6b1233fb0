"""Capacity: figures follow from what was measured, and a pod is the one that k8s/production asks for."""

from __future__ import annotations

import json
import math

import pytest
import yaml

from benchmarks.capacity import GIB, POD_CORES, POD_GIB, CapacitySettings, capacity_table, main, most_per_pod, plan
from benchmarks.machine import RESULTS
from tests.helpers.manifests import FOLDER, build, load, one

MEASURED = json.loads((RESULTS / "http.json").read_text("utf-8"))
SETTINGS = CapacitySettings()


def test_pods_have_room_for_the_rate():
    most = most_per_pod(MEASURED, SETTINGS.tokens)
    for rate in (1.0, 100.0, 333.0, 10_000.0):
        found = plan(MEASURED, rate, SETTINGS)
        assert found.pods * most * SETTINGS.utilisation >= rate
        assert found.pods == SETTINGS.least or (found.pods - 1) * most * SETTINGS.utilisation < rate
        assert found.busy_cores <= found.cores + 0.15 * found.pods  # one engine and what is around it
        assert found.dollars_a_month == pytest.approx(found.pods * SETTINGS.price * 730)
        assert found.dollars_a_million == pytest.approx(found.pods * SETTINGS.price / rate / 3600 * 1e6)


def test_longer_translations_and_less_use_take_more_pods():
    pods = plan(MEASURED, 10_000, SETTINGS).pods
    assert plan(MEASURED, 10_000, CapacitySettings(tokens=100.0)).pods == pytest.approx(2 * pods, abs=1)
    assert plan(MEASURED, 10_000, CapacitySettings(utilisation=0.3)).pods == pytest.approx(2 * pods, abs=1)


def test_a_pod_is_that_of_production():
    container = one(load(FOLDER / "base"), "ServingRuntime")["spec"]["containers"][0]
    assert container["resources"]["requests"]["memory"] == f"{POD_GIB * GIB / 2**20:.0f}Mi"
    assert MEASURED["memory"]["peak_mb"] * 1e6 < POD_GIB * GIB
    container = one(build("production"), "ServingRuntime")["spec"]["containers"][0]
    assert container["resources"]["requests"] == {"cpu": f"{POD_CORES:g}", "memory": "512Mi"}


def test_the_autoscaler_asks_for_a_pod_where_another_begins_to_pay():
    """At eight requests together a core gives most of what it gives at 32 (k8s/autoscaling says so)."""
    runs = json.loads((RESULTS / "serving.json").read_text("utf-8"))["runs"]
    speed = {
        run["workload"]: run["tokens_per_second"]
        for run in runs
        if run["family"] == "seq2seq" and run["engine"] == "ours-int8-static"
    }
    text = (FOLDER / "autoscaling/component/kustomization.yaml").read_text("utf-8")
    (patch,) = [yaml.safe_load(each["patch"]) for each in yaml.safe_load(text)["patches"]]
    (target,) = [each["value"]["metrics"][0]["external"]["target"] for each in patch if "metrics" in str(each)]
    assert speed[f"batch-{target['value']}"] > 0.8 * speed["batch-32"] > speed["batch-1"]


def test_the_command_takes_the_assumptions(capsys):
    assert main(["--rate", "1000", "--price", "0.1", "--utilisation", "1", "--least", "1"]) == 0
    said = capsys.readouterr().out
    assert len([line for line in said.splitlines() if line.startswith("| 1,000 |")]) == 1
    pods = math.ceil(1000 / most_per_pod(MEASURED, SETTINGS.tokens))
    assert f"| 1,000 | {pods} |" in said and "Assumed: 0.1 dollars" in said
    assert capacity_table(MEASURED) in (FOLDER.parent / "docs" / "capacity.md").read_text("utf-8")
