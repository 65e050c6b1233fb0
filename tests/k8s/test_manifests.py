"""The manifests in k8s/: valid by every schema that can be had, free of credentials, and true to the server.

Three judges: kubernetes-validate's strict schemas for core kinds, and for the pod that KServe will make; KServe's own
Python models, which drop what they do not know, so a round trip that loses something has found a misspelt field; and,
where PROMETHEUS_CRDS names a folder of KServe's CRDs, those, made strict. Each one must also catch a broken manifest.

    PROMETHEUS_CRDS=~/kserve/config/crd/full pytest tests/k8s
"""

from __future__ import annotations

import ast
import copy
import json
import os
import re
import sys
from pathlib import Path

import jsonschema
import kubernetes.client
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "k8s"
KUBERNETES = "1.32"
CORE = {"v1", "apps/v1", "policy/v1", "networking.k8s.io/v1"}
KSERVE = {
    ("serving.kserve.io/v1beta1", "InferenceService"): "V1beta1InferenceService",
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): "V1alpha1ServingRuntime",
}
CLUSTER_SCOPED = {"Namespace"}


def load(folder: Path = FOLDER) -> list[dict]:
    return [doc for path in sorted(folder.glob("*.yaml")) for doc in yaml.safe_load_all(path.read_text()) if doc]


DOCUMENTS = load()
KINDS = {document["kind"]: document for document in DOCUMENTS}


def key(document: dict) -> tuple[str, str]:
    return document["apiVersion"], document["kind"]


@pytest.fixture
def runtime() -> dict:
    return copy.deepcopy(KINDS["ServingRuntime"])


@pytest.fixture
def service() -> dict:
    return copy.deepcopy(KINDS["InferenceService"])


@pytest.fixture(scope="module")
def kserve_client():
    """kubernetes' API client, taught KServe's models (it looks its types up in kubernetes.client.models)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["pytest"])  # importing kserve parses the command line
        import kserve.models

        for name in dir(kserve.models):
            if re.match(r"V1(alpha|beta)\d", name):
                patch.setattr(kubernetes.client.models, name, getattr(kserve.models, name), raising=False)
        # KServe's generator spells one core type by its long name.
        strategy = kubernetes.client.V1DeploymentStrategy
        patch.setattr(kubernetes.client.models, "K8sIoApiAppsV1DeploymentStrategy", strategy, raising=False)
        yield kubernetes.client.ApiClient()


def round_trip(client: kubernetes.client.ApiClient, document: dict) -> dict:
    """The document after KServe's Python models have read and written it."""

    class Response:
        data = json.dumps(document)

    model = client.deserialize(Response(), KSERVE[key(document)])
    return client.sanitize_for_serialization(model)


def lost(document, written, where: str = "") -> list[str]:
    """Paths of what the document says and the written one does not; defaults that the models add do not count."""
    if isinstance(document, dict) and isinstance(written, dict):
        missing = [f"{where}/{name}" for name in document if name not in written]
        return missing + [
            path
            for name in document
            if name in written
            for path in lost(document[name], written[name], f"{where}/{name}")
        ]
    if isinstance(document, list) and isinstance(written, list) and len(document) == len(written):
        return [
            path for i, pair in enumerate(zip(document, written, strict=True)) for path in lost(*pair, f"{where}/{i}")
        ]
    return [] if document == written else [where]


def merged_pod(runtime: dict, service: dict) -> dict:
    """The pod that KServe makes of runtime and service, without what it adds itself."""
    spec = copy.deepcopy(runtime["spec"])
    for name in ("annotations", "supportedModelFormats", "protocolVersions"):
        spec.pop(name)
    predictor = copy.deepcopy(service["spec"]["predictor"])
    for name in ("minReplicas", "maxReplicas", "timeout", "deploymentStrategy", "model"):
        predictor.pop(name, None)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "predictor"}, "spec": {**spec, **predictor}}


def strict(schema):
    """A CRD's OpenAPI schema as JSON Schema that refuses unknown fields."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    result = {}
    for name, value in schema.items():
        if name == "properties":
            result[name] = {field: strict(child) for field, child in value.items()}
        elif name in ("items", "additionalProperties", "allOf", "anyOf", "oneOf", "not"):
            result[name] = strict(value)
        elif name in (
            "type",
            "required",
            "enum",
            "pattern",
            "minimum",
            "maximum",
            "minLength",
            "maxLength",
            "minItems",
        ):
            result[name] = value
    if "properties" in result and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    if schema.get("nullable") and "type" in result:
        result["type"] = [result["type"], "null"]
    return result


@pytest.fixture(scope="module")
def crds() -> dict:
    """Strict schema by (apiVersion, kind) from the folder PROMETHEUS_CRDS."""
    folder = os.environ.get("PROMETHEUS_CRDS")
    if not folder:
        pytest.skip("PROMETHEUS_CRDS names no folder of KServe CRDs: the manifests are NOT checked against them")
    wanted = [
        path for path in Path(folder).glob("*.y*ml") if re.search(r"_?(inferenceservices|servingruntimes)\.", path.name)
    ]
    schemas = {}
    for path in wanted:
        crd = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        for version in crd["spec"]["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            schemas[f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]] = schema
    assert set(KSERVE) <= set(schemas), f"PROMETHEUS_CRDS={folder} lacks the CRDs of {set(KSERVE) - set(schemas)}"
    return schemas


def test_kubectl_apply_would_take_the_whole_folder():
    assert DOCUMENTS[0]["kind"] == "Namespace"  # kubectl applies a folder in the order of its names
    assert not list(FOLDER.glob("kustomization.y*ml"))
    assert not [path.name for path in FOLDER.rglob("*.y*ml") if path.parent != FOLDER]  # apply does not descend
    names = [(document["kind"], document["metadata"]["name"]) for document in DOCUMENTS]
    assert len(set(names)) == len(names)
    assert {"Namespace", "Secret", "ServiceAccount", "ServingRuntime", "InferenceService"} == set(KINDS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["kind"])
def test_every_document_has_a_judge_and_passes(document, kserve_client):
    if key(document) in KSERVE:
        assert lost(document, round_trip(kserve_client, document)) == []
    else:
        assert document["apiVersion"] in CORE, "neither a core kind nor one of KServe's: add a validation for it"
        kubernetes_validate.validate(document, KUBERNETES, strict=True)  # raises for kinds it does not know


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if key(d) in KSERVE], ids=lambda document: document["kind"])
def test_kserve_documents_follow_the_crds(document, crds):
    jsonschema.Draft202012Validator(crds[key(document)]).validate(document)


def test_the_pod_that_kserve_makes_is_a_valid_pod(runtime, service):
    kubernetes_validate.validate(merged_pod(runtime, service), KUBERNETES, strict=True)


def test_unknown_core_kinds_never_count_as_validated():
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Sekret", "metadata": {}}, KUBERNETES, strict=True)


def misspell(document: dict, path: tuple, wrong: str) -> dict:
    """The document with the field at ``path`` renamed."""
    broken = copy.deepcopy(document)
    parent = broken
    for step in path[:-1]:
        parent = parent[step]
    parent[wrong] = parent.pop(path[-1])
    return broken


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
def test_a_misspelt_field_is_caught(kind, path, wrong, kserve_client):
    broken = misspell(KINDS[kind], path, wrong)
    if key(broken) in KSERVE:
        try:
            written = round_trip(kserve_client, broken)
        except ValueError as error:  # a required field has gone
            assert "must not be `None`" in str(error)
        else:
            assert [path.rpartition("/")[2] for path in lost(broken, written)] == [wrong]
    else:
        with pytest.raises(kubernetes_validate.ValidationError, match=wrong):
            kubernetes_validate.validate(broken, KUBERNETES, strict=True)


@pytest.mark.parametrize(
    ("kind", "path", "wrong"), [row for row in MISSPELT if row[0] in ("InferenceService", "ServingRuntime")]
)
def test_the_crds_catch_a_misspelt_field(kind, path, wrong, crds):
    broken = misspell(KINDS[kind], path, wrong)
    with pytest.raises(jsonschema.ValidationError, match=wrong):
        jsonschema.Draft202012Validator(crds[key(broken)]).validate(broken)


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


def test_probes_ask_for_routes_that_the_server_has(runtime):
    served = {
        call.args[0].value
        for path in (ROOT / "serving" / "rest").glob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func).endswith("Route")
        and isinstance(call.args[0], ast.Constant)
    }
    container = runtime["spec"]["containers"][0]
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {
        "startupProbe": "/health/ready",
        "readinessProbe": "/health/ready",
        "livenessProbe": "/health/live",
    }
    assert set(paths.values()) <= served
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
