"""The manifests in k8s/: valid by strict schemas, free of credentials, and true to the server.

Core kinds, and the pod that KServe will make, are judged by kubernetes-validate's schemas; KServe's kinds by
kserve.schema.json, the facts of its published definitions (tools/schemas.py). Each judge must also catch a broken
manifest. Where PROMETHEUS_CRDS names a folder of KServe's CRDs, those judge too, and have to agree with the schema.

    PROMETHEUS_CRDS=~/kserve/config/crd/full pytest tests/k8s
"""

from __future__ import annotations

import copy
import json
import os
import re
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.helpers.bundles import tiny_bundle
from tests.helpers.servers import start_server
from tools.schemas import crd_kinds, in_full

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "k8s"
KUBERNETES = "1.32"
CORE = {"v1", "apps/v1", "policy/v1", "networking.k8s.io/v1"}
SCHEMA = json.loads((Path(__file__).parent / "kserve.schema.json").read_text("utf-8"))
KSERVE = {"serving.kserve.io/v1beta1": "InferenceService", "serving.kserve.io/v1alpha1": "ServingRuntime"}
CLUSTER_SCOPED = {"Namespace"}


def load(folder: Path = FOLDER) -> list[dict]:
    return [doc for path in sorted(folder.glob("*.yaml")) for doc in yaml.safe_load_all(path.read_text()) if doc]


DOCUMENTS = load()
KINDS = {document["kind"]: document for document in DOCUMENTS}


def judge(document: dict) -> None:
    """Raise ValidationError of either library for what the kind's schema refuses; unknown kinds raise too."""
    if document["apiVersion"].startswith("serving.kserve.io/"):
        jsonschema.Draft202012Validator({"$ref": f"#/$defs/{document['kind']}", **SCHEMA}).validate(document)
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


REFUSED = (jsonschema.ValidationError, kubernetes_validate.ValidationError)


@pytest.fixture
def runtime() -> dict:
    return copy.deepcopy(KINDS["ServingRuntime"])


@pytest.fixture
def service() -> dict:
    return copy.deepcopy(KINDS["InferenceService"])


def merged_pod(runtime: dict, service: dict) -> dict:
    """The pod that KServe makes of runtime and service, without what it adds itself."""
    spec = copy.deepcopy(runtime["spec"])
    for name in ("annotations", "supportedModelFormats", "protocolVersions"):
        spec.pop(name)
    predictor = copy.deepcopy(service["spec"]["predictor"])
    for name in ("minReplicas", "maxReplicas", "timeout", "deploymentStrategy", "model"):
        predictor.pop(name, None)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "predictor"}, "spec": {**spec, **predictor}}


@pytest.fixture(scope="module")
def published() -> dict:
    """KServe's definitions by kind, from the folder PROMETHEUS_CRDS."""
    if not (folder := os.environ.get("PROMETHEUS_CRDS")):
        pytest.skip("PROMETHEUS_CRDS names no folder of KServe's CRDs: they are not compared with kserve.schema.json")
    return crd_kinds(Path(folder))


def test_kubectl_apply_would_take_the_whole_folder():
    assert DOCUMENTS[0]["kind"] == "Namespace"  # kubectl applies a folder in the order of its names
    assert not list(FOLDER.glob("kustomization.y*ml"))
    assert not [path.name for path in FOLDER.rglob("*.y*ml") if path.parent != FOLDER]  # apply does not descend
    names = [(document["kind"], document["metadata"]["name"]) for document in DOCUMENTS]
    assert len(set(names)) == len(names)
    assert {"Namespace", "Secret", "ServiceAccount", "ServingRuntime", "InferenceService"} == set(KINDS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["kind"])
def test_every_document_has_a_judge_and_passes(document):
    assert document["apiVersion"] in CORE or KSERVE[document["apiVersion"]] == document["kind"]
    judge(document)


@pytest.mark.parametrize("kind", KSERVE.values())
def test_the_published_definitions_agree(kind, published):
    jsonschema.Draft202012Validator(published[kind]).validate(KINDS[kind])
    assert in_full(SCHEMA, kind) == published[kind], "python -m tools.schemas makes kserve.schema.json again"


@pytest.mark.parametrize("model", ["V1beta1InferenceServiceSpec", "V1alpha1ServingRuntimeSpec"])
def test_the_schema_knows_every_field_of_kserves_own_models(model, monkeypatch):
    """The SDK in the lock is a release newer than the definitions of which the schema was made."""
    monkeypatch.setattr(sys, "argv", ["pytest"])  # importing kserve parses the command line
    import kserve.models

    newer = {"tracing", "ephemeralContainers", "schedulingGroup"}
    unknown, seen = set(), set()

    def compare(model: str, schema: dict) -> None:
        described = getattr(kserve.models, model, None)
        if described is None or model in seen:
            return
        seen.add(model)
        for attribute, kind in described.openapi_types.items():
            name = described.attribute_map[attribute]
            child = schema["properties"].get(name)
            if child is None:
                unknown.add(name)
            else:
                compare(re.sub(r"^(list\[|dict\(str, )|[\])]$", "", kind), child.get("items", child))

    kind = "InferenceService" if "InferenceService" in model else "ServingRuntime"
    compare(model, in_full(SCHEMA, kind)["properties"]["spec"])
    assert unknown <= newer
    assert len(seen) >= 3


def test_the_pod_that_kserve_makes_is_a_valid_pod(runtime, service):
    kubernetes_validate.validate(merged_pod(runtime, service), KUBERNETES, strict=True)


def test_unknown_core_kinds_never_count_as_validated():
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Sekret", "metadata": {}}, KUBERNETES, strict=True)


def changed(document: dict, path: tuple, change) -> dict:
    """The document after ``change(parent, name)`` of the field at ``path``."""
    broken = copy.deepcopy(document)
    parent = broken
    for step in path[:-1]:
        parent = parent[step]
    change(parent, path[-1])
    return broken


def misspell(document: dict, path: tuple, wrong: str) -> dict:
    """The document with the field at ``path`` renamed."""
    return changed(document, path, lambda parent, name: parent.update({wrong: parent.pop(name)}))


MISSPELT = [
    ("Secret", ("type",), "typ"),
    ("ServiceAccount", ("automountServiceAccountToken",), "automountToken"),
    ("InferenceService", ("spec", "predictor", "minReplicas"), "minReplica"),
    ("InferenceService", ("spec", "predictor", "model", "storageUri"), "storageURI"),
    ("InferenceService", ("spec", "predictor", "deploymentStrategy", "rollingUpdate", "maxSurge"), "surge"),
    ("ServingRuntime", ("spec", "supportedModelFormats", 0, "autoSelect"), "autoselect"),
    ("ServingRuntime", ("spec", "containers", 0, "readinessProbe", "failureThreshold"), "failureTreshold"),
    ("ServingRuntime", ("spec", "tolerations", 0, "effect"), "efect"),
]


@pytest.mark.parametrize(("kind", "path", "wrong"), MISSPELT, ids=[wrong for *_, wrong in MISSPELT])
def test_a_misspelt_field_is_caught(kind, path, wrong):
    with pytest.raises(REFUSED, match=wrong):
        judge(misspell(KINDS[kind], path, wrong))


WRONG = [
    ("InferenceService", ("apiVersion",), "serving.kserve.io/v1"),
    ("InferenceService", ("spec", "predictor", "minReplicas"), "two"),
    ("InferenceService", ("spec", "predictor", "model", "storageUri"), ["s3://models"]),
    ("InferenceService", ("spec", "predictor", "model", "modelFormat"), "prometheus-mini"),
    ("ServingRuntime", ("spec", "supportedModelFormats", 0, "autoSelect"), "yes"),
    ("ServingRuntime", ("spec", "supportedModelFormats", 0, "version"), 1),
    ("ServingRuntime", ("spec", "containers", 0, "resources", "limits", "memory"), "2 gigabytes"),
    ("ServingRuntime", ("spec", "containers"), {"name": "kserve-container"}),
]


@pytest.mark.parametrize(("kind", "path", "value"), WRONG, ids=[str(path[-1]) for _, path, _ in WRONG])
def test_a_wrong_value_is_caught(kind, path, value):
    with pytest.raises(REFUSED, match=re.escape(repr(value))):
        judge(changed(KINDS[kind], path, lambda parent, name: parent.update({name: value})))


REQUIRED = [
    ("InferenceService", ("spec", "predictor")),
    ("InferenceService", ("spec", "predictor", "model", "modelFormat", "name")),
    ("ServingRuntime", ("metadata",)),
    ("ServingRuntime", ("spec", "containers")),
    ("ServingRuntime", ("spec", "containers", 0, "name")),
    ("ServingRuntime", ("spec", "containers", 0, "ports", 0, "containerPort")),
]


@pytest.mark.parametrize(("kind", "path"), REQUIRED, ids=[path[-1] for _, path in REQUIRED])
def test_a_missing_field_is_caught(kind, path):
    with pytest.raises(REFUSED, match=f"'{path[-1]}' is a required property"):
        judge(changed(KINDS[kind], path, dict.pop))


def test_a_wrong_value_in_the_pod_is_caught(runtime, service):
    runtime["spec"]["containers"][0]["ports"][0]["containerPort"] = "http"
    with pytest.raises(kubernetes_validate.ValidationError, match="'http'"):
        kubernetes_validate.validate(merged_pod(runtime, service), KUBERNETES, strict=True)


def test_everything_lives_in_the_namespace():
    for document in DOCUMENTS:
        if document["kind"] not in CLUSTER_SCOPED:
            assert document["metadata"]["namespace"] == KINDS["Namespace"]["metadata"]["name"] == "prometheus-mini"


def test_secrets_hold_no_credentials():
    for document in DOCUMENTS:
        if document["kind"] == "Secret":
            assert not {"data", "stringData"} & set(document)
    text = "\n".join(path.read_text() for path in FOLDER.iterdir())
    assert not re.search(r"(?i)(access_key(_id)?|password|token)[\"']?\s*[:=]\s*[\"']?[A-Za-z0-9+/=]{6,}", text)
    assert not re.search(r"AKIA[0-9A-Z]{16}", text)


def test_names_agree_between_the_manifests(runtime, service):
    predictor = service["spec"]["predictor"]
    formats = runtime["spec"]["supportedModelFormats"][0]
    assert predictor["model"]["runtime"] == runtime["metadata"]["name"] == "prometheus-mini-onnx"
    assert predictor["model"]["modelFormat"] == {"name": formats["name"], "version": formats["version"]}
    assert formats["name"] == service["metadata"]["name"] == "prometheus-mini"
    assert predictor["model"]["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert predictor["serviceAccountName"] == KINDS["ServiceAccount"]["metadata"]["name"]
    assert KINDS["ServiceAccount"]["secrets"] == [{"name": KINDS["Secret"]["metadata"]["name"]}]
    assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"


def test_the_command_is_one_that_the_server_understands(runtime, service):
    from model.options import read_settings
    from serving.__main__ import parser
    from serving.config import ServerConfig

    container = runtime["spec"]["containers"][0]
    assert container["name"] == "kserve-container"  # KServe mounts the model into the container of this name
    assert container["command"] == ["python3", "-m", "serving"]
    words = [argument.replace("{{.Name}}", service["metadata"]["name"]) for argument in container["args"]]
    server = read_settings(ServerConfig, parser().parse_args(words))
    assert (server.bundle, server.model_name) == ("/mnt/models", "prometheus-mini")
    assert server.host == "::"  # a command in a manifest takes the place of the image's
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "http1": server.http_port,
        "grpc": server.grpc_port,
    }
    assert container["ports"][0]["name"] == "http1"  # the first one becomes port 80 of the Service
    assert runtime["spec"]["annotations"]["prometheus.io/port"] == str(server.http_port)


def test_probes_ask_for_routes_that_the_server_has(runtime, tmp_path):
    container = runtime["spec"]["containers"][0]
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {
        "startupProbe": "/health/ready",
        "readinessProbe": "/health/ready",
        "livenessProbe": "/health/live",
    }
    with start_server(tiny_bundle(tmp_path / "bundle"), tmp_path / "log") as server:
        assert {server.get(path).status_code for path in paths.values()} == {200}
    assert {container[name]["httpGet"]["port"] for name in paths} == {"http1"}


def test_stopping_leaves_time_to_drain(runtime, service):
    from serving.config import ServerConfig

    config = ServerConfig()
    pause = runtime["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    predictor = service["spec"]["predictor"]
    assert predictor["terminationGracePeriodSeconds"] >= pause + config.drain_delay + config.grace_period + 10
    assert predictor["timeout"] > config.request_timeout


def test_the_pod_is_confined(runtime, service):
    context = runtime["spec"]["containers"][0]["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert service["spec"]["predictor"]["automountServiceAccountToken"] is False
    mounts = {mount["mountPath"]: mount["name"] for mount in runtime["spec"]["containers"][0]["volumeMounts"]}
    assert {"name": mounts["/tmp"], "emptyDir": {"sizeLimit": "1Gi"}} in runtime["spec"]["volumes"]


def test_a_gpu_is_asked_for_and_its_taint_tolerated(runtime):
    resources = runtime["spec"]["containers"][0]["resources"]
    assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == "1"
    assert runtime["spec"]["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert runtime["spec"]["nodeSelector"] == {"nvidia.com/gpu.present": "true"}


def test_placeholders_are_marked_and_explained():
    readme = (FOLDER / "README.md").read_text()
    for path, name in (
        ("20-servingruntime.yaml", "ghcr.io/prometheus-mini/predictor"),
        ("30-inferenceservice.yaml", "storageUri"),
    ):
        line = next(line for line in (FOLDER / path).read_text().splitlines() if name in line)
        assert "REPLACE" in line
        assert name in readme
        assert path in readme
