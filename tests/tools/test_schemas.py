"""Schemas made from published files: strict, without prose, and nothing lost by writing what repeats only once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tools.schemas import CRD_FILES, PROTOCOL_FILES, crd_kinds, crd_schema, in_full, protocol_schema

QUANTITY = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}], "pattern": "^[0-9]+Mi$"}
CONTAINER = {
    "type": "object",
    "description": "Prose.",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "description": "More prose."},
        "description": {"type": "string", "nullable": True},
        "memory": QUANTITY,
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "free": {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
            "properties": {"a": {"type": "string"}},
        },
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same container twice in each kind, as controller-gen writes them."""
    for name, kind in zip(
        CRD_FILES, ("InferenceService", "ServingRuntime", "HTTPRoute", "PodMonitor", "PrometheusRule"), strict=True
    ):
        spec = {"type": "object", "properties": {"containers": {"type": "array", "items": CONTAINER}, "one": CONTAINER}}
        schema = {"type": "object", "properties": {"metadata": {"type": "object"}, "spec": spec, "status": CONTAINER}}
        version = {"name": "v1", "storage": True, "schema": {"openAPIV3Schema": schema}}
        older = {"name": "v1alpha1", "storage": False, "schema": {"openAPIV3Schema": {"type": "object"}}}
        crd = {"spec": {"group": "example.org", "names": {"kind": kind}, "versions": [older, version]}}
        (tmp_path / name).write_text(yaml.safe_dump(crd), encoding="utf-8")
    return tmp_path


def document(**container: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "a", **container}]}
    return {"apiVersion": "example.org/v1", "kind": "ServingRuntime", "metadata": {}, "spec": spec}


def test_what_repeats_stands_once_and_nothing_is_lost(folder):
    schema = crd_schema(folder)
    assert schema == crd_schema(folder)
    assert {kind: in_full(schema, kind) for kind in crd_kinds(folder)} == crd_kinds(folder)
    assert json.dumps(schema).count('"labels"') == 1
    assert "rose" not in json.dumps(schema)


@pytest.mark.parametrize(
    "container",
    [{}, {"description": None}, {"memory": 5}, {"memory": "5Mi"}, {"labels": {"any": "b"}}, {"free": {"any": 1}}],
)
def test_what_the_definitions_take_is_taken(folder, container):
    schema = {**crd_schema(folder), "$ref": "#/$defs/ServingRuntime"}
    jsonschema.Draft202012Validator(schema).validate(document(**container))


@pytest.mark.parametrize(
    "container",
    [{"nam": "b"}, {"name": None}, {"memory": "5"}, {"memory": []}, {"labels": {"any": 1}}, {"free": {"a": 1}}],
)
def test_what_they_do_not_take_is_refused(folder, container):
    schema = {**crd_schema(folder), "$ref": "#/$defs/ServingRuntime"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(document(**container))


def test_the_protocol_keeps_its_names_and_loses_its_prose(tmp_path):
    properties = {"title": {"type": "string", "description": "Prose."}, "example": {"type": "integer", "example": 5}}
    told = {"info": {"title": "Prose", "version": "2"}, "paths": {"/v2/${NAME}": {"get": {"summary": "Prose"}}}}
    told |= {"components": {"schemas": {"summary": {"description": "Prose.", "properties": properties}}}}
    for name in PROTOCOL_FILES.values():
        (tmp_path / name).write_text(yaml.safe_dump(told), encoding="utf-8")
    assert protocol_schema(tmp_path)["inference"] == {
        "info": {"title": "inference", "version": "2"},
        "paths": {"/v2/{NAME}": {"get": {}}},
        "components": {
            "schemas": {"summary": {"properties": {"title": {"type": "string"}, "example": {"type": "integer"}}}}
        },
    }
