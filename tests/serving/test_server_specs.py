"""The Open Inference Protocol's specifications against the real server process, by schemathesis.

open_inference.json holds their facts: paths, names, types, what is required (tools/schemas.py makes it).
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

SPECIFICATIONS = json.loads((Path(__file__).parent / "open_inference.json").read_text("utf-8"))
KNOWN = {"MODEL_NAME": "prometheus-mini", "MODEL_VERSION": "1"}
# Not positive_data_acceptance: a schema cannot say which tensors, targets and lengths a model takes.
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]
# Random bodies are mostly refused; these show the shape of an answer.
EXAMPLES: dict[str, dict[str, Any]] = {
    "infer": {
        "id": "7",
        "inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [2], "data": ["привет", "мир"]}],
        "parameters": {"target": "en", "max_tokens": 5},
        "outputs": [{"name": "text_output"}, {"name": "generated_tokens"}],
    },
    "generate": {"text_input": "привет", "parameters": {"target": "en", "max_tokens": 5, "details": True}},
}
few = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))


def spec(name: str) -> Any:
    """A specification, its addresses made valid OpenAPI and pinned to the model that is served; 404 is what another
    model or version gets, of which the specifications say nothing."""
    found = copy.deepcopy(SPECIFICATIONS[name])
    for address, path in found["paths"].items():
        body = path.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json")
        if body is not None:
            body["example"] = EXAMPLES["infer" if address.endswith("/infer") else "generate"]
        for holder in (path, *(operation for operation in path.values() if isinstance(operation, dict))):
            for parameter in holder.get("parameters", ()):
                parameter["schema"] = {"type": "string", "enum": [KNOWN[parameter["name"]]]}
            responses = holder.get("responses", {})
            for response in responses.values():
                for kind, content in response.get("content", {}).items():
                    if kind == "text/event-stream":  # the schema is that of an event's data
                        data = {"contentMediaType": "application/json", "contentSchema": content["schema"]}
                        content["schema"] = {"properties": {"data": data}, "required": ["data"]}
            if responses:
                responses["404"] = {"description": "no such model or version"}
    return schemathesis.openapi.from_dict(found)


def conforms(case: Any, server: Any) -> None:
    """Send a case and check the answer. A null is taken as "not given" here, where the schemas would refuse it."""
    nulls = "null" in json.dumps(case.body, default=str)
    left_out = [checks.negative_data_rejection] if nulls else []
    case.call_and_validate(base_url=server.url, checks=[check for check in CHECKS if check not in left_out])


@spec("inference").parametrize()
@few
def test_inference(case: Any, server: Any) -> None:
    conforms(case, server)


@spec("generation").parametrize()
@few
def test_generation(case: Any, server: Any) -> None:
    conforms(case, server)
