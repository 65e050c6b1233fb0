"""One text as each protocol asks for it: path, body and headers over HTTP, a message over gRPC.

path, body, headers = http_message("v2 JSON", "prometheus-mini", "Привет!", {"max_tokens": 8})
channel.unary_unary(INFER)(infer_request("prometheus-mini", "Привет!", {"max_tokens": 8}))
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

from benchmarks.load.client import JSON
from serving.kserve.sdk import pb

INFER = "/inference.GRPCInferenceService/ModelInfer"
WHOLE = ("/generate", "v2 JSON", "v2 binary", "OpenAI")
STREAMS = ("/generate_stream", "OIP stream", "OpenAI stream")


def http_message(
    kind: str, model: str, text: str, parameters: Mapping[str, Any]
) -> tuple[str, bytes, Mapping[str, str]]:
    """Path, body and headers of a call of one of the kinds in ``WHOLE`` and ``STREAMS``."""
    v2, openai = f"/v2/models/{model}", "/openai/v1/completions"
    prompt = {"prompt": text, **parameters}
    tensor: dict[str, Any] = {"name": "text_input", "datatype": "BYTES", "shape": [1]}
    if kind == "v2 binary":
        content = struct.pack("<I", len(text.encode())) + text.encode()
        tensor["parameters"] = {"binary_data_size": len(content)}
        outputs = [{"name": "text_output", "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": [tensor], "outputs": outputs, "parameters": parameters}).encode()
        headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
        return f"{v2}/infer", head + content, headers
    path, body = {
        "/generate": ("/generate", prompt),
        "/generate_stream": ("/generate_stream", prompt),
        "OpenAI": (openai, {"model": model, **prompt}),
        "OpenAI stream": (openai, {"model": model, "stream": True, **prompt}),
        "OIP stream": (f"{v2}/generate_stream", {"text_input": text, "parameters": parameters}),
        "v2 JSON": (f"{v2}/infer", {"inputs": [{**tensor, "data": [text]}], "parameters": parameters}),
    }[kind]
    return path, json.dumps(body).encode(), JSON


def infer_request(model: str, text: str, parameters: Mapping[str, Any]) -> bytes:
    """One text as the BYTES tensor ``text_input`` [1]; what is no bool, int or string travels as JSON."""
    contents = pb.InferTensorContents(bytes_contents=[text.encode()])
    tensor = pb.ModelInferRequest.InferInputTensor(name="text_input", datatype="BYTES", shape=[1], contents=contents)
    told = {name: _parameter(value) for name, value in parameters.items()}
    return pb.ModelInferRequest(model_name=model, inputs=[tensor], parameters=told).SerializeToString()


def _parameter(value: Any) -> pb.InferParameter:
    if isinstance(value, bool):
        return pb.InferParameter(bool_param=value)
    if isinstance(value, int):
        return pb.InferParameter(int64_param=value)
    return pb.InferParameter(string_param=value if isinstance(value, str) else json.dumps(value))
