"""What is live: a real server names the run, the code and the manifest's hash of the bundle that it serves."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from model.bundle import copy_bundle
from tests.helpers.servers import start_server

RUN = {"run_id": 'run "7"\\ü', "code_version": "v1-3-gabc"}  # a label may hold any text


def told(get: Any, bundle: Path) -> dict[str, str]:
    """The bundle as /info says it; v2 metadata, an answer and the metric have to say the same."""
    info = get("/info").json()
    assert info["bundle"]["sha256"] == hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()
    full = {**info["bundle"], "precision": info["precision"], "provider": info["provider"]}
    assert get("/v2/models/prometheus-mini").json()["properties"] == {**full, "default_beams": "1"}
    families = {family.name: family for family in text_string_to_metric_families(get("/metrics").text)}
    (sample,) = families["slm_bundle_info"].samples
    assert (sample.labels, sample.value) == ({"model_name": "prometheus-mini", **full}, 1)
    return info["bundle"]


def test_a_published_bundle_is_named_in_all_places(tiny: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    copy_bundle(tiny, bundle, {}, RUN)
    with start_server(bundle, tmp_path / "log") as server:
        assert {**RUN, "sha256": told(server.get, bundle)["sha256"]} == told(server.get, bundle)
        answer = server.post("/generate", {"prompt": "привет", "target": "en", "max_tokens": 2}).json()
        assert answer["model_info"]["bundle"]["run_id"] == RUN["run_id"]
        (line,) = [line for line in server.lines() if line["message"] == "serving"]
        assert line["bundle"]["run_id"] == RUN["run_id"] and line["path"] == str(bundle)
        assert server.terminate() == 0


def test_a_bundle_that_was_never_published_has_a_hash_alone(tiny: Path, client: httpx.Client) -> None:
    found = told(client.get, tiny)
    assert (found["run_id"], found["code_version"]) == ("", "")
