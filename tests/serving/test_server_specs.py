"""The Open Inference specifications against the real server process, by schemathesis.

The specifications are KServe's and not part of this repository: PROMETHEUS_SPECS names a folder that holds
``open_inference_rest.yaml`` and ``open_inference_generate_rest.yaml`` (kserve/open-inference-protocol, specification/).

PROMETHEUS_SPECS=~/specs python -m pytest tests/serving/test_server_specs.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

FOLDER = os.environ.get("PROMETHEUS_SPECS", "")
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
    found = yaml.safe_load((Path(FOLDER) / name).read_text("utf-8").replace("${", "{"))
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


if FOLDER:

    @spec("open_inference_rest.yaml").parametrize()
    @few
    def test_inference(case: Any, server: Any) -> None:
        conforms(case, server)

    @spec("open_inference_generate_rest.yaml").parametrize()
    @few
    def test_generation(case: Any, server: Any) -> None:
        conforms(case, server)
else:

    def test_specifications() -> None:
        pytest.skip("PROMETHEUS_SPECS names no folder with the Open Inference specs")
