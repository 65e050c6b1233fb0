"""The manifests of k8s/: read, built by kubectl where there are overlays, and judged.

for document in build("production"): judge(document)
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "k8s"
KUBERNETES = "1.32"
SCHEMA = json.loads((ROOT / "tests" / "k8s" / "crds.schema.json").read_text("utf-8"))
CUSTOM = {
    schema["properties"]["apiVersion"]["const"]: kind
    for kind, schema in SCHEMA["$defs"].items()
    if "apiVersion" in schema.get("properties", {}) and "const" in schema["properties"]["apiVersion"]
}
GROUPS = tuple({name.split("/")[0] for name in CUSTOM})
REFUSED = (jsonschema.ValidationError, kubernetes_validate.ValidationError)


def load(folder: Path) -> list[dict[str, Any]]:
    """The documents of a folder's own files, in the order in which kubectl applies them."""
    return [
        document
        for path in sorted(folder.glob("*.yaml"))
        if path.name != "kustomization.yaml"
        for document in yaml.safe_load_all(path.read_text("utf-8"))
        if document
    ]


def overlays() -> list[str]:
    """Every folder that ``kubectl apply -k`` takes."""
    return [
        str(path.parent.relative_to(FOLDER))
        for path in sorted(FOLDER.rglob("kustomization.yaml"))
        if yaml.safe_load(path.read_text("utf-8")).get("kind") != "Component"
    ]


@cache
def _built(folder: Path) -> str:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl: the overlays of k8s/ are NOT built")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(overlay: str | Path) -> list[dict[str, Any]]:
    """What kubectl makes of an overlay, by its name, or of any folder, by its path; skips where there is no kubectl."""
    return [document for document in yaml.safe_load_all(_built(FOLDER / overlay)) if document]


def one(documents: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    """A copy of the only document of a kind, or of that name."""
    (found,) = [d for d in documents if d["kind"] == kind and name in ("", d["metadata"]["name"])]
    return copy.deepcopy(found)


def judge(document: dict[str, Any]) -> None:
    """Raise ValidationError of either library for what the kind's schema refuses; unknown kinds raise too."""
    if document["apiVersion"].startswith(GROUPS):
        jsonschema.Draft202012Validator({"$ref": f"#/$defs/{document['kind']}", **SCHEMA}).validate(document)
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def merged_pod(runtime: dict[str, Any], service: dict[str, Any]) -> dict[str, Any]:
    """The pod that KServe makes of runtime and service, without what it adds itself."""
    spec = copy.deepcopy(runtime["spec"])
    for name in ("annotations", "supportedModelFormats", "protocolVersions"):
        spec.pop(name)
    predictor = copy.deepcopy(service["spec"]["predictor"])
    model = predictor.pop("model")
    for name in ("minReplicas", "maxReplicas", "timeout", "deploymentStrategy", "autoScaling"):
        predictor.pop(name, None)
    spec["containers"][0]["args"] += model.get("args", [])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "predictor"}, "spec": {**spec, **predictor}}


def container(pod: dict[str, Any]) -> dict[str, Any]:
    """The predictor's container."""
    found: dict[str, Any] = next(each for each in pod["spec"]["containers"] if each["name"] == "kserve-container")
    return found
