"""What the real server process tells Prometheus: every metric, as promtool wants it, and counts that add up."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers.streams import PATHS, speak

HISTOGRAMS = {
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "request_prompt_tokens",
    "request_generation_tokens",
    "batch_size",
    "step_seconds",
}
GAUGES = {
    "num_requests_running",
    "num_requests_waiting",
    "num_slots",
    "num_slots_used",
    "queue_capacity",
    "kv_cache_bytes",
    "kv_cache_usage_perc",
    "engine_healthy",
    "readers_behind",
    "unread_bytes",
    "bundle_info",
}
COUNTERS = {"prompt_tokens", "generation_tokens", "request_success", "request_rejected"}


def families(client: httpx.Client) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}


def values(client: httpx.Client) -> dict[tuple[str, str], float]:
    """(name, finish reason or reason) -> value, of everything that is ours and no bucket."""
    return {
        (sample.name, sample.labels.get("finished_reason") or sample.labels.get("reason", "")): sample.value
        for family in families(client).values()
        for sample in family.samples
        if sample.name.startswith("slm_") and not sample.name.endswith("_bucket")
    }


def test_every_metric_is_there(client: httpx.Client) -> None:
    found = families(client)
    ours = {name.removeprefix("slm_"): family.type for name, family in found.items() if name.startswith("slm_")}
    expected = {name: kind for kind, names in
                (("histogram", HISTOGRAMS), ("gauge", GAUGES), ("counter", COUNTERS)) for name in names}  # fmt: skip
    gpu = {name: kind for name, kind in ours.items() if name.startswith("gpu_")}
    assert {name: kind for name, kind in ours.items() if name not in gpu} == expected
    assert set(gpu) in (set(), {"gpu_memory_used_bytes", "gpu_memory_total_bytes"})
    assert found["process_resident_memory_bytes"].samples[0].value > 1e6
    latency = found["slm_inter_token_latency_seconds"]
    bounds = sorted(float(sample.labels["le"]) for sample in latency.samples if "le" in sample.labels)
    assert bounds[0] == 0.0002


def test_promtool_finds_nothing_to_mend(client: httpx.Client) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")
    text = client.get("/metrics").content
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_streams_count_like_whole_texts(client: httpx.Client) -> None:
    client.post("/generate", json={"prompt": "мир", "target": "en", "max_tokens": 0})
    before = values(client)
    for api in PATHS:
        speak(client, api, "мир", target="en", max_tokens=6)
    refused = client.post("/generate_stream", json={"prompt": "мир", "target": "en", "max_tokens": 0})
    assert refused.status_code == 400
    after = values(client)

    def moved(name: str, label: str = "") -> float:
        return after[f"slm_{name}", label] - before.get((f"slm_{name}", label), 0.0)

    assert moved("prompt_tokens_total") == 4 * 5
    assert moved("generation_tokens_total") == 4 * 6
    assert moved("request_success_total", "length") == 4
    assert moved("request_rejected_total", "InvalidRequest") == 1
    assert moved("inter_token_latency_seconds_count") == 4 * 5
    for name in ("time_to_first_token", "e2e_request_latency", "request_queue_time", "request_prefill_time"):
        assert moved(f"{name}_seconds_count") == 4, name
    total = moved("e2e_request_latency_seconds_sum")
    parts = ("time_to_first_token_seconds", "request_decode_time_seconds")
    assert total == pytest.approx(sum(moved(f"{part}_sum") for part in parts))
    assert after["slm_num_requests_running", ""] == 0
