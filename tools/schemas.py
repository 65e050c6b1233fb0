"""Schemas of other people's interfaces as data of ours: names, types, bounds and what is required, without the prose.

KServe, the Gateway API and the Prometheus operator publish their custom resources, and KServe the Open Inference
Protocol, as megabytes of YAML that no package brings. What a test needs of them is facts, some kilobytes of JSON, so
that manifests and answers are checked on every machine. Same files in, same bytes out; where they came from stands in
the file. The definitions of resources lie together in one folder, by the names in ``CRD_FILES``.

    python -m tools.schemas crds ~/crds "kserve v0.20.0, gateway-api 4564255ac, prometheus-operator 6adcebc50"
    python -m tools.schemas protocol ~/open-inference-protocol/specification/protocol "open-inference-protocol d49cc23"
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from model.options import OK, Parser, run

ROOT = Path(__file__).resolve().parents[1]
CRD_FILES = (
    "serving.kserve.io_inferenceservices.yaml",
    "serving.kserve.io_servingruntimes.yaml",
    "gateway.networking.k8s.io_httproutes.yaml",
    "monitoring.coreos.com_podmonitors.yaml",
    "monitoring.coreos.com_prometheusrules.yaml",
)
PROTOCOL_FILES = {"inference": "open_inference_rest.yaml", "generation": "generate_rest.yaml"}
MADE = {
    "crds": ROOT / "tests" / "k8s" / "crds.schema.json",
    "protocol": ROOT / "tests" / "serving" / "open_inference.json",
}
NESTED = ("items", "additionalProperties", "allOf", "anyOf", "oneOf", "not")
BOUNDS = ("type", "required", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")
PROSE = ("description", "summary", "title", "example", "examples", "operationId", "tags", "servers", "x-examples")
SHORTEST_SHARED = 60  # characters of JSON from which a reference is shorter than what it stands for


def crd_schema(folder: Path) -> dict[str, Any]:
    """JSON Schema with one entry of ``$defs`` per kind; what they repeat stands there once.

    Raises:
        FileNotFoundError: when the folder lacks a definition.
    """
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": _shared(crd_kinds(folder))}


def crd_kinds(folder: Path) -> dict[str, Any]:
    """The schema of each kind as its manifests have to follow it, unknown fields refused.

    Raises:
        FileNotFoundError: when the folder lacks a definition.
    """
    kinds = {}
    for name in CRD_FILES:
        crd = yaml.load((folder / name).read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        group, kind = crd["spec"]["group"], crd["spec"]["names"]["kind"]
        version = next(version for version in crd["spec"]["versions"] if version["storage"])
        schema = _strict(version["schema"]["openAPIV3Schema"])
        schema["properties"].pop("status", None)  # a controller writes it, no manifest
        schema["properties"] |= {"apiVersion": {"const": f"{group}/{version['name']}"}, "kind": {"const": kind}}
        kinds[kind] = {**schema, "required": ["apiVersion", "kind", "metadata", "spec"]}
    return kinds


def protocol_schema(folder: Path) -> dict[str, Any]:
    """The OpenAPI documents of the Open Inference Protocol, without their prose, and with ``{NAME}`` for ``${NAME}``.

    Raises:
        FileNotFoundError: when the folder lacks a document.
    """
    documents = {}
    for name, file in PROTOCOL_FILES.items():
        document = _without_prose(yaml.safe_load((folder / file).read_text("utf-8").replace("${", "{")))
        documents[name] = {**document, "info": {"title": name, "version": document["info"]["version"]}}
    return documents


def _strict(schema: Any) -> Any:
    """A CRD's OpenAPI schema as JSON Schema that refuses unknown fields."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: schema[name] for name in BOUNDS if name in schema}
    if schema.get("x-kubernetes-int-or-string"):
        return {**result, "type": ["integer", "string"]}
    result |= {name: _strict(schema[name]) for name in NESTED if name in schema}
    if "properties" in schema:
        result["properties"] = {name: _strict(child) for name, child in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result["additionalProperties"] = False
    if schema.get("nullable") and "type" in result:
        result["type"] = [result["type"], "null"]
    return result


def _without_prose(node: Any, names: bool = False) -> Any:
    """The node without its prose; ``names`` says that its keys are names, whatever they spell."""
    if isinstance(node, list):
        return [_without_prose(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        name: _without_prose(child, names=name in ("properties", "schemas") and not names)
        for name, child in node.items()
        if names or name not in PROSE
    }


def _shared(kinds: dict[str, Any]) -> dict[str, Any]:
    """The schemas by kind, what occurs in them more than once by the name of the field where it was met first."""
    count: Counter[str] = Counter()
    names: dict[str, str] = {}

    def meet(node: Any, field: str) -> None:
        if isinstance(node, list):
            for item in node:
                meet(item, field)
        elif isinstance(node, dict):
            if "properties" in node or "items" in node or "anyOf" in node:
                text = json.dumps(node)
                count[text] += 1
                if count[text] > 1:
                    if text not in names and len(text) > SHORTEST_SHARED:
                        taken = [name.rstrip("0123456789_") for name in names.values()].count(field)
                        names[text] = f"{field}_{taken + 1}" if taken else field
                    return
            for name, child in node.items():
                meet(child, field if name in ("properties", *NESTED) else name)

    for kind, schema in kinds.items():
        meet(schema, kind)
    found: dict[str, Any] = {}

    def refer(node: Any, inside: str = "") -> Any:
        if isinstance(node, list):
            return [refer(item) for item in node]
        if not isinstance(node, dict):
            return node
        name = names.get(json.dumps(node))
        if name is None or name == inside:
            return {key: refer(child) for key, child in node.items()}
        if name not in found:
            found[name] = {}
            found[name] = refer(node, name)
        return {"$ref": f"#/$defs/{name}"}

    return {**{kind: refer(schema) for kind, schema in kinds.items()}, **dict(sorted(found.items()))}


def in_full(schema: dict[str, Any], kind: str) -> Any:
    """The part of a schema for one kind, with everything in place of the references to it."""

    def fill(node: Any) -> Any:
        if isinstance(node, list):
            return [fill(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return fill(schema["$defs"][node["$ref"].rpartition("/")[2]])
        return {name: fill(child) for name, child in node.items()}

    return fill(schema["$defs"][kind])


def source(folder: Path, files: Sequence[str], name: str) -> str:
    """What a schema was made of: the name of the release, and each file's hash."""
    hashes = (f"{file} sha256 {hashlib.sha256((folder / file).read_bytes()).hexdigest()}" for file in files)
    return f"{name}: {', '.join(hashes)} (Apache-2.0). Made by python -m tools.schemas; do not edit."


def _lines(schema: dict[str, Any]) -> str:
    """JSON with one line for each entry of the schema's parts, so that a diff names the part that has changed."""

    def line(name: str, part: Any) -> str:
        return f"{json.dumps(name)}: {json.dumps(part, separators=(',', ':'))}"

    def block(part: Any) -> str:
        return "{\n  " + ",\n  ".join(line(*item) for item in part.items()) + "\n }"

    parts = (
        f" {json.dumps(name)}: {block(p)}" if isinstance(p, dict) else f" {line(name, p)}" for name, p in schema.items()
    )
    return "{\n" + ",\n".join(parts) + "\n}\n"


def parser() -> Parser:
    """Which schema, and of what."""
    made = Parser("tools.schemas", __doc__)
    made.add_argument("kind", choices=sorted(MADE), help="which schema")
    made.add_argument("folder", type=Path, help="where the published files lie")
    made.add_argument("source", help="the repository and release that they are of, as the schema will name it")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Write the schema."""
    options = parser().parse_args(argv)
    make, files = (
        (crd_schema, CRD_FILES) if options.kind == "crds" else (protocol_schema, tuple(PROTOCOL_FILES.values()))
    )
    schema = {"$comment": source(options.folder, files, options.source), **make(options.folder)}
    out = MADE[options.kind]
    out.write_text(_lines(schema), encoding="utf-8")
    print(f"{out.relative_to(ROOT)}: {out.stat().st_size:,} bytes")
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
