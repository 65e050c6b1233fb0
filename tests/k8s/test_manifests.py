"""What ``kubectl apply -f k8s/`` applies: valid by strict schemas, free of credentials, and true to the server.

Core kinds, and the pod that KServe will make, are judged by kubernetes-validate's schemas; other projects' kinds by
crds.schema.json, the facts of their published definitions (tools/schemas.py). Each judge must also catch a broken
manifest. Where PROMETHEUS_CRDS names a folder of those definitions, they judge too, and have to agree with the schema.

    PROMETHEUS_CRDS=~/crds pytest tests/k8s
"""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest

from tests.helpers.bundles import tiny_bundle
from tests.helpers.manifests import CUSTOM, FOLDER, KUBERNETES, REFUSED, SCHEMA, judge, load, merged_pod, one
from tests.helpers.servers import start_server
from tools.schemas import crd_kinds, in_full

BASE = FOLDER / "base"
DOCUMENTS = load(FOLDER)
KINDS = {kind: one(DOCUMENTS, kind, "prometheus-mini" if kind == "ServiceAccount" else "") for kind in (
    "Namespace", "Secret", "ServiceAccount", "ServingRuntime", "InferenceService", "Deployment", "ConfigMap",
)}  # fmt: skip


@pytest.fixture
def runtime() -> dict:
    return copy.deepcopy(KINDS["ServingRuntime"])


@pytest.fixture
def service() -> dict:
    return copy.deepcopy(KINDS["InferenceService"])


@pytest.fixture(scope="module")
def published() -> dict:
    """Published definitions by kind, from the folder PROMETHEUS_CRDS."""
    if not (folder := os.environ.get("PROMETHEUS_CRDS")):
        pytest.skip("PROMETHEUS_CRDS names no folder of definitions: they are NOT compared with crds.schema.json")
    return crd_kinds(Path(folder))


def test_kubectl_apply_would_take_the_whole_folder():
    """The files are the base's (`cp k8s/base/[0-9]*.yaml k8s/`): kustomize takes none from outside a folder, kubectl
    none from those beside it, and a link is a file of one wrong line to who applies it by its address, or has Windows.
    """
    assert DOCUMENTS[0]["kind"] == "Namespace"  # kubectl applies a folder in the order of its names
    assert not list(FOLDER.glob("kustomization.y*ml"))  # it would apply that too, and fail
    assert {path.name: path.read_bytes() for path in FOLDER.glob("*.yaml") if not path.is_symlink()} == {
        path.name: path.read_bytes() for path in BASE.glob("*.yaml") if path.name != "kustomization.yaml"
    }
    names = [(document["kind"], document["metadata"]["name"]) for document in DOCUMENTS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: f"{each['kind']} {each['metadata']['name']}")
def test_every_document_has_a_judge_and_passes(document):
    judge(document)


@pytest.mark.parametrize("kind", CUSTOM.values())
def test_the_published_definitions_agree(kind, published):
    for document in DOCUMENTS:
        if document["kind"] == kind:
            jsonschema.Draft202012Validator(published[kind]).validate(document)
    assert in_full(SCHEMA, kind) == published[kind], "python -m tools.schemas makes crds.schema.json again"


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
    ("InferenceService", ("spec", "predictor", "model", "runtime"), "runTime"),
    ("InferenceService", ("spec", "predictor", "deploymentStrategy", "rollingUpdate", "maxSurge"), "surge"),
    ("ServingRuntime", ("spec", "supportedModelFormats", 0, "autoSelect"), "autoselect"),
    ("ServingRuntime", ("spec", "containers", 0, "readinessProbe", "failureThreshold"), "failureTreshold"),
    ("ServingRuntime", ("spec", "volumes", 0, "emptyDir", "sizeLimit"), "sizelimit"),
    ("Deployment", ("spec", "template", "spec", "initContainers", 0, "volumeMounts"), "mounts"),
]


@pytest.mark.parametrize(("kind", "path", "wrong"), MISSPELT, ids=[wrong for *_, wrong in MISSPELT])
def test_a_misspelt_field_is_caught(kind, path, wrong):
    with pytest.raises(REFUSED, match=wrong):
        judge(misspell(KINDS[kind], path, wrong))


WRONG = [
    ("InferenceService", ("apiVersion",), "serving.kserve.io/v1"),
    ("InferenceService", ("spec", "predictor", "minReplicas"), "two"),
    ("InferenceService", ("spec", "predictor", "model", "runtime"), ["prometheus-mini-onnx"]),
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
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == KINDS["Namespace"]["metadata"]["name"] == "prometheus-mini"


def test_it_works_as_it_is():
    """Nothing has to be filled in, no GPU is asked for, and a full name says where each image comes from."""
    text = "\n".join(path.read_text("utf-8") for path in FOLDER.rglob("*.yaml"))
    assert "REPLACE" not in text and "ghcr.io" not in text
    pods = [merged_pod(KINDS["ServingRuntime"], KINDS["InferenceService"]), KINDS["Deployment"]["spec"]["template"]]
    containers = [
        each for pod in pods for name in ("initContainers", "containers") for each in pod["spec"].get(name, ())
    ]
    assert {each["image"] for each in containers} == {
        "localhost/prometheus-mini/predictor:latest",
        "docker.io/chrislusf/seaweedfs:4.48",
    }
    assert {each["imagePullPolicy"] for each in containers} == {"IfNotPresent"}
    assert "nvidia" not in json.dumps(DOCUMENTS)
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(re.findall(r"\w+", json.dumps(pods[0])))


def test_secrets_hold_no_credentials():
    for document in DOCUMENTS:
        if document["kind"] == "Secret":
            assert not {"data", "stringData"} & set(document)
    text = "\n".join(path.read_text("utf-8") for path in FOLDER.rglob("*") if path.is_file())
    text = re.sub(r"secrets\.token_hex\(\d+\)", "", text)  # made where they are used
    assert not re.search(r"(?i)(access_key(_id)?|password|token)[\"']?\s*[:=]\s*[\"']?[A-Za-z0-9+/=]{6,}", text)
    assert not re.search(r"AKIA[0-9A-Z]{16}", text)


def test_applying_again_moves_nothing_that_others_own(service):
    """The pointer is the release's, the keys are the store's: kubectl leaves alone what no manifest has."""
    assert "storageUri" not in service["spec"]["predictor"]["model"]
    assert not {"data", "stringData"} & set(KINDS["Secret"])


def make_keys(folder: Path, data: dict[str, str]) -> tuple[list[tuple[str, str, bytes]], str]:
    """What the store's script asks of an API server whose secret holds ``data``, and says."""
    asked: list[tuple[str, str, bytes]] = []

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            assert self.headers["Authorization"] == "Bearer a-token"
            asked.append((self.command, self.path, body))
            answer = json.dumps({"kind": "Secret", **({"data": data} if data else {})}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_PATCH = do_GET

        def log_message(self, *_: object) -> None:
            pass

    script = folder / "keys.py"
    script.write_text(KINDS["ConfigMap"]["data"]["keys.py"], "utf-8")
    (folder / "token").write_text("a-token")
    (folder / "namespace").write_text("somewhere")
    import certifi

    (folder / "ca.crt").write_text(Path(certifi.where()).read_text("utf-8"), "utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as api:
        threading.Thread(target=api.serve_forever, daemon=True).start()
        (keys,) = KINDS["Deployment"]["spec"]["template"]["spec"]["initContainers"]
        words = [f"http://127.0.0.1:{api.server_port}", str(folder), *keys["args"][2:]]
        done = subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True, check=False)
        api.shutdown()
    assert done.returncode == 0, done.stderr
    return asked, done.stdout


def test_the_store_makes_its_keys_once(tmp_path):
    address = "/api/v1/namespaces/somewhere/secrets/prometheus-mini-storage"
    made = []
    for attempt in ("a", "b"):
        (tmp_path / attempt).mkdir()
        (read, written), said = make_keys(tmp_path / attempt, {})
        assert read[:2] == ("GET", address) and written[:2] == ("PATCH", address)
        made.append(json.loads(written[2])["stringData"])
        assert all(value not in said for value in made[-1].values())
    assert set(made[0]) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"}
    assert made[0]["AWS_ENDPOINT_URL"] == "http://prometheus-mini-store.somewhere:8333"
    assert made[0]["AWS_SECRET_ACCESS_KEY"] != made[1]["AWS_SECRET_ACCESS_KEY"]
    (tmp_path / "c").mkdir()
    asked, said = make_keys(tmp_path / "c", {"AWS_SECRET_ACCESS_KEY": "eW91cnM="})
    assert [method for method, *_ in asked] == ["GET"] and "they stay" in said


def test_the_store_is_the_one_that_the_secret_leads_to():
    store, secret = one(DOCUMENTS, "Service"), KINDS["Secret"]
    (port,) = store["spec"]["ports"]
    notes = secret["metadata"]["annotations"]
    assert notes["serving.kserve.io/s3-endpoint"] == f"{store['metadata']['name']}:{port['port']}"
    template = KINDS["Deployment"]["spec"]["template"]
    assert store["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    (keys,), (weed,) = template["spec"]["initContainers"], template["spec"]["containers"]
    assert keys["args"][2:] == [secret["metadata"]["name"], store["metadata"]["name"]]
    assert {each["valueFrom"]["secretKeyRef"]["name"] for each in weed["env"] if "valueFrom" in each} == {
        secret["metadata"]["name"]
    }
    (rule,) = one(DOCUMENTS, "Role")["rules"]
    assert rule["resourceNames"] == [secret["metadata"]["name"]] and rule["verbs"] == ["get", "patch"]
    # Whoever reaches another port of the store needs no keys.
    assert {"-ip.bind=127.0.0.1", "-s3.port.iceberg=0", "-s3.port.lance=0"} <= set(weed["args"])


def test_names_agree_between_the_manifests(runtime, service):
    predictor = service["spec"]["predictor"]
    formats = runtime["spec"]["supportedModelFormats"][0]
    assert predictor["model"]["runtime"] == runtime["metadata"]["name"] == "prometheus-mini-onnx"
    assert predictor["model"]["modelFormat"] == {"name": formats["name"], "version": formats["version"]}
    assert formats["name"] == service["metadata"]["name"] == "prometheus-mini"
    assert predictor["model"]["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert predictor["serviceAccountName"] == KINDS["ServiceAccount"]["metadata"]["name"]
    assert KINDS["ServiceAccount"]["secrets"] == [{"name": KINDS["Secret"]["metadata"]["name"]}]
    assert KINDS["Secret"]["metadata"]["name"] == "prometheus-mini-storage"
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
