"""k8s/pipeline/: valid by strict schemas, free of credentials, and what the pipeline and a release really ask for."""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from pipelines.pipeline import SECRETS
from pipelines.submit import RELEASER

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "k8s" / "pipeline"
KUBERNETES = "1.32"
FILES = [path for path in sorted(FOLDER.glob("*.yaml")) if path.name != "kustomization.yaml"]
DOCUMENTS = [document for path in FILES for document in yaml.safe_load_all(path.read_text("utf-8"))]


def named(kind: str, name: str) -> dict:
    return next(each for each in DOCUMENTS if (each["kind"], each["metadata"]["name"]) == (kind, name))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: f"{each['kind']} {each['metadata']['name']}")
def test_every_document_is_valid_and_a_broken_one_is_not(document):
    kubernetes_validate.validate(document, KUBERNETES, strict=True)
    broken = {**document, "metadata": {**document["metadata"], "labels": ["none"]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)


def test_every_file_is_applied():
    assert yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))["resources"] == sorted(
        (path.name for path in FILES), key=["account.yaml", "secrets.yaml", "release.yaml"].index
    )


def test_the_secrets_are_those_of_the_pipeline_and_have_no_values():
    secrets = {each["metadata"]["name"]: each for each in DOCUMENTS if each["kind"] == "Secret"}
    assert secrets.keys() == SECRETS.keys()
    assert not [name for name, each in secrets.items() if {"data", "stringData"} & each.keys()]
    text = (FOLDER / "secrets.yaml").read_text("utf-8")
    assert [key for keys in SECRETS.values() for key in keys if key not in text] == []


def test_docs_name_every_secret_key_and_account():
    text = (ROOT / "docs" / "kubeflow.md").read_text("utf-8")
    wanted = [*SECRETS, *(key for keys in SECRETS.values() for key in keys), RELEASER]
    wanted += [each["metadata"]["name"] for each in DOCUMENTS]
    assert [name for name in wanted if f"`{name}`" not in text] == []


def test_one_account_does_both_and_may_do_no_more():
    account = {"kind": "ServiceAccount", "name": RELEASER, "namespace": "kubeflow"}
    assert named("ServiceAccount", RELEASER)["metadata"]["namespace"] == "kubeflow"
    bindings = [each for each in DOCUMENTS if each["kind"] == "RoleBinding"]
    assert [each["subjects"] for each in bindings] == [[account]] * 2
    assert {each["metadata"]["namespace"]: each["roleRef"]["name"] for each in bindings} == {
        "kubeflow": "pipeline-runner",
        "prometheus-mini": "prometheus-mini-release",
    }
    rules = named("Role", "prometheus-mini-release")["rules"]
    allowed = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    assert {("inferenceservices", verb) for verb in ("get", "list", "watch", "patch")} <= allowed
    assert not {verb for _, verb in allowed} & {"*", "delete", "update"}
    changed = {resource for resource, verb in allowed if verb in ("patch", "create")}
    assert changed == {"inferenceservices", "httproutes", "pods/proxy"}


def test_a_release_asks_for_nothing_that_its_role_lacks():
    """The kinds in the addresses of release/, which it asks the API server for."""
    asked = set(re.findall(r"/(inferenceservices|deployments|pods|events|services|httproutes|secrets)/", source()))
    asked |= {f"pods/{kind}" for kind in re.findall(r"/pods/\{[^}]*\}(?::\{[^}]*\})?/(log|proxy)", source())}
    rules = named("Role", "prometheus-mini-release")["rules"]
    assert asked and asked <= {resource for rule in rules for resource in rule["resources"]}


def source() -> str:
    """What the step runs of release/."""
    return "\n".join(path.read_text("utf-8") for path in (ROOT / "release").glob("*.py"))
