"""The overlays beside the base: kubectl builds each, every document has a judge, and each keeps what it promises.

Patches are kustomize's business, so without kubectl the built ones are skipped, and said to be; the overlays' own files
are judged everywhere.
"""

from __future__ import annotations

import os
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from model.options import read_settings
from serving.__main__ import parser
from serving.config import ServerConfig
from serving.engine import EngineConfig
from serving.grpc.server import SERVICE
from tests.helpers.bundles import tiny_bundle
from tests.helpers.manifests import (
    FOLDER,
    KUBERNETES,
    REFUSED,
    build,
    container,
    judge,
    load,
    merged_pod,
    one,
    overlays,
)
from tests.helpers.servers import start_server

BASE = load(FOLDER / "base")
FILES = [path for path in sorted(FOLDER.glob("*/**/*.yaml")) if path.name != "kustomization.yaml"]
PREDICTORS = ("base", "gpu", "production", "autoscaling")


def pod_of(documents: list[dict], name: str = "prometheus-mini") -> dict:
    runtime = one(documents if any(d["kind"] == "ServingRuntime" for d in documents) else BASE, "ServingRuntime")
    return merged_pod(runtime, one(documents, "InferenceService", name))


def test_every_overlay_is_known_and_told():
    assert {"base", "gpu", "production", "gateway", "monitoring", "autoscaling", "canary"} <= set(overlays())
    readme = (FOLDER / "README.md").read_text("utf-8")
    assert [name for name in overlays() if f"`k8s/{name}/`" not in readme] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_file_has_a_judge_and_passes(path: Path):
    for document in yaml.safe_load_all(path.read_text("utf-8")):
        judge(document)
        broken = {**document, "klingon": 7}
        with pytest.raises(REFUSED, match="klingon"):
            judge(broken)


@pytest.mark.parametrize("name", overlays())
def test_every_overlay_is_built_and_passes(name: str):
    documents = build(name)
    assert documents
    for document in documents:
        judge(document)
        assert document["metadata"].get("namespace", "prometheus-mini") == "prometheus-mini" or name == "pipeline"


def test_the_base_is_built_as_the_folder_is_applied():
    def order(document: dict) -> tuple[str, str]:
        return document["kind"], document["metadata"]["name"]

    built = sorted(build("base"), key=order)
    for document in built:  # kustomize writes an account's namespace into a binding to it, kubectl leaves it to the API
        for subject in document.get("subjects", ()):
            subject.pop("namespace", None)
    assert built == sorted(load(FOLDER), key=order)


@pytest.mark.parametrize("name", PREDICTORS)
def test_every_predictor_is_a_valid_pod_whose_command_the_server_takes(name: str):
    pod = pod_of(build(name))
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    words = [word.replace("{{.Name}}", "prometheus-mini") for word in container(pod)["args"]]
    parsed = parser().parse_args(words)
    assert read_settings(ServerConfig, parsed).model_name == "prometheus-mini"
    assert read_settings(EngineConfig, parsed).provider == ("cuda" if name == "gpu" else "auto")


@pytest.mark.parametrize("name", overlays())
def test_no_overlay_moves_the_pointer(name: str):
    """Which bundle is live is the release's business, in every overlay that is applied again."""
    services = [document for document in build(name) if document["kind"] == "InferenceService"]
    assert all("storageUri" not in service["spec"]["predictor"]["model"] for service in services)


def test_gpu_asks_for_one_and_for_an_image_that_can_use_it():
    pod = pod_of(build("gpu"))
    resources = container(pod)["resources"]
    assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == "1"
    assert pod["spec"]["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert container(pod)["image"] == "localhost/prometheus-mini/predictor:latest-gpu"


def test_production_has_two_replicas_that_are_spread_and_kept():
    documents = build("production")
    predictor = one(documents, "InferenceService")["spec"]["predictor"]
    assert predictor["minReplicas"] == 2
    rules = predictor["topologySpreadConstraints"]
    assert [rule["topologyKey"] for rule in rules] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    chosen = {"matchLabels": {"serving.kserve.io/inferenceservice": "prometheus-mini"}}
    assert all(rule["labelSelector"] == chosen for rule in rules)
    budget = one(documents, "PodDisruptionBudget")["spec"]
    assert budget == {"maxUnavailable": 1, "selector": chosen}


def test_production_brings_no_store_and_no_secret_that_it_would_overwrite():
    kinds = {document["kind"] for document in build("production")}
    assert not kinds & {"Secret", "Deployment", "ConfigMap", "Role", "Service"}
    accounts = [d["metadata"]["name"] for d in build("production") if d["kind"] == "ServiceAccount"]
    assert accounts == ["prometheus-mini"]


def test_production_demands_the_token_of_a_secret(tmp_path):
    pod = pod_of(build("production"))
    (option,) = [word for word in container(pod)["args"] if word.startswith("--token_file=")]
    folder, _, key = option.removeprefix("--token_file=").rpartition("/")
    (mount,) = [each for each in container(pod)["volumeMounts"] if each["mountPath"] == folder]
    assert {"name": mount["name"], "secret": {"secretName": "prometheus-mini-token"}} in pod["spec"]["volumes"]
    assert f"--from-literal={key}=" in (FOLDER / "README.md").read_text("utf-8")
    (tmp_path / key).write_text("secret\n")
    with start_server(tiny_bundle(tmp_path / "bundle"), tmp_path / "log", f"--token_file={tmp_path / key}") as server:
        assert server.get("/info").status_code == 401
        assert server.get("/health/ready").status_code == server.get("/metrics").status_code == 200


def test_production_lets_in_what_is_labelled_and_out_what_a_start_needs():
    policy = one(build("production"), "NetworkPolicy")["spec"]
    ports = {port["containerPort"] for port in container(pod_of(BASE))["ports"]}
    assert {each["port"] for each in policy["ingress"][0]["ports"]} == ports
    labelled = {"namespaceSelector": {"matchLabels": {"prometheus-mini/access": "allowed"}}}
    assert policy["ingress"][0]["from"] == policy["egress"][2]["to"] == [{"podSelector": {}}, labelled]
    assert {each["port"] for rule in policy["egress"][:2] for each in rule["ports"]} == {53, 443}


def test_the_route_leads_to_the_services_that_kserve_makes(tmp_path):
    route = one(build("gateway"), "HTTPRoute")["spec"]
    names = {port["name"]: port["containerPort"] for port in container(pod_of(BASE))["ports"]}
    (grpc,), (rest,) = (rule["backendRefs"] for rule in route["rules"])
    # The first port of a pod becomes the Service's 80, others keep their numbers.
    assert grpc == {"name": "prometheus-mini-predictor", "port": names["grpc"]}
    assert rest == {"name": "prometheus-mini-predictor", "port": 80}
    # KServe has a route of its own, of the InferenceService's name, and takes changes to it back.
    name = one(build("gateway"), "HTTPRoute")["metadata"]["name"]
    assert name not in {d["metadata"]["name"] for d in BASE + build("canary") if d["kind"] == "InferenceService"}
    config = ServerConfig()
    for rule in route["rules"]:
        seconds = int(rule["timeouts"]["request"].removesuffix("s"))
        assert seconds >= 2 * config.request_timeout and rule["timeouts"]["backendRequest"] == f"{seconds}s"


def test_the_route_opens_what_callers_need_and_nothing_else(tmp_path):
    grpc, rest = (
        [match["path"] for match in rule["matches"]] for rule in one(build("gateway"), "HTTPRoute")["spec"]["rules"]
    )
    assert grpc == [{"type": "PathPrefix", "value": SERVICE.rstrip("/")}]

    def public(path: str) -> bool:
        return any(
            path == match["value"] or (match["type"] == "PathPrefix" and path.startswith(match["value"] + "/"))
            for match in rest
        )

    model = "/v2/models/prometheus-mini"
    read = ["/", "/info", "/health", "/health/live", "/health/ready", "/v1/models", "/openai/v1/models", "/v1/health"]
    read += ["/v2", "/v2/health/ready", "/v2/models", model, f"{model}/ready", "/openai/health"]
    written = ["/generate", "/generate_stream", "/v1/completions", "/openai/v1/chat/completions", f"{model}/infer"]
    with start_server(tiny_bundle(tmp_path / "bundle"), tmp_path / "log") as server:
        assert {server.get(path).status_code for path in read} == {200}
        assert {server.post(path, {}).status_code for path in written} == {400}  # there is such an address
        assert server.get("/metrics").status_code == 200
        described = set(server.get("/openapi.json").json()["paths"])
    assert all(public(path) for path in (*read, *written))
    # Figures are not for callers; a file that one pod has translated is not there for the next call, which may be
    # another pod's; the rest refuse whatever is asked.
    inside = {"/metrics", "/translate_file", "/download_file/{file}"}
    assert {path for path in described if not public(path)} <= inside, "an address that the Gateway does not know"
    assert not any(map(public, inside))


def test_the_canary_is_the_same_predictor_under_another_name():
    documents = build("canary")
    canary, first = one(documents, "InferenceService"), one(BASE, "InferenceService")
    assert canary["spec"]["predictor"]["model"].pop("args") == ["--model_name=prometheus-mini"]
    assert canary["spec"] == first["spec"]
    assert canary["metadata"].pop("name") == first["metadata"].pop("name") + "-canary"
    assert canary["metadata"] == first["metadata"]


def test_the_canary_gets_a_share_of_the_gateways_own_route():
    canary, gateway = (one(build(name), "HTTPRoute") for name in ("canary", "gateway"))
    for rule in canary["spec"]["rules"]:
        stable, tried = rule["backendRefs"]
        assert (stable.pop("weight"), tried.pop("weight")) == (100, 0)  # it has no bundle yet
        assert tried == {**stable, "name": "prometheus-mini-canary-predictor"}
        rule["backendRefs"] = [stable]
    assert canary == gateway


def test_autoscaling_is_written_as_kserve_takes_it():
    service = one(build("autoscaling"), "InferenceService")
    assert service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "keda"
    predictor = service["spec"]["predictor"]
    assert 1 <= predictor["minReplicas"] < predictor["maxReplicas"]
    (metric,) = predictor["autoScaling"]["metrics"]
    assert metric["type"] == "External"
    # Its webhook refuses AverageValue: "the target threshold value should not be empty".
    assert metric["external"]["target"] == {"type": "Value", "value": "8"}


def test_overlays_can_be_combined(tmp_path):
    """The folder that k8s/README.md tells people to write."""
    readme = (FOLDER / "README.md").read_text("utf-8")
    (text,) = [block for block in readme.split("```yaml\n")[1:] if block.startswith("resources:")]
    (tmp_path / "kustomization.yaml").write_text(
        text.partition("```")[0].replace("../k8s", os.path.relpath(FOLDER, tmp_path.resolve()))
    )
    documents = build(tmp_path)
    for document in documents:
        judge(document)
    service, pod = one(documents, "InferenceService"), pod_of(documents)
    assert service["spec"]["predictor"]["minReplicas"] == 2 and service["spec"]["predictor"]["maxReplicas"] == 3
    assert container(pod)["image"].startswith("registry.example/")
    assert any(word.startswith("--token_file=") for word in container(pod)["args"])
