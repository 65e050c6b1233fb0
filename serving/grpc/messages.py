"""gRPC's messages of the v2 protocol, read and written; knows no server.

They are read as they are: the SDK's conversion to a type of its own checks less, costs more, and loses what its message
type does not know.
"""

import contextlib
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import unknown_fields

from serving import v2
from serving.engine import GenerationResult
from serving.errors import InvalidRequest
from serving.kserve.sdk import pb

# More than there are names to know, here and in the clients' libraries.
MAX_PARAMETERS = 64
MAX_NUMBER_BYTES = 16


def read_grpc(request: pb.ModelInferRequest, served: str, max_prompts: int) -> v2.InferRequest:
    """Read an inference request for the model ``served``.

    Raises:
        InvalidRequest: naming the field.
        NotFound: for a model or version that is not served.
    """
    v2.check_model(request.model_name, request.model_version, served)
    if len(request.parameters) > MAX_PARAMETERS:
        raise InvalidRequest("parameters", f"has {len(request.parameters)} entries, at most {MAX_PARAMETERS} are read")
    raw = request.raw_input_contents
    if len(raw) > 1 and len(request.inputs) == 1:
        raise InvalidRequest("raw_input_contents", f"has {len(raw)} elements for 1 input")
    parameters = grpc_values(request.parameters)
    parameters.pop("binary_data_output", None)  # REST's; here all outputs are
    as_json = {
        "id": request.id,
        "parameters": parameters,
        "inputs": [_tensor(tensor, raw) for tensor in request.inputs],
        "outputs": [
            {"name": output.name, "parameters": dict.fromkeys(output.parameters, True)} for output in request.outputs
        ],
    }
    return v2.read_request(as_json, raw[0] if raw else b"", max_prompts)


def _tensor(tensor: Any, raw: Sequence[bytes]) -> dict[str, Any]:
    """An input as JSON has it."""
    found = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    if tensor.name != v2.INPUT:
        return found  # it will be refused by its name
    hints = dict.fromkeys(tensor.parameters)
    if raw:
        if tensor.contents.ByteSize():
            raise InvalidRequest(v2.INPUT, "contents and raw_input_contents are both set; send one of them")
        return {**found, "parameters": {**hints, "binary_data_size": len(raw[0])}}
    for field, _ in tensor.contents.ListFields():
        if field.name != "bytes_contents":
            raise InvalidRequest(v2.INPUT, f"contents must be in bytes_contents, not in {field.name}")
    return {**found, "parameters": hints, "data": list(tensor.contents.bytes_contents)}


def grpc_values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a request. A list cannot travel over gRPC, its JSON can: ``stop`` may be one. Raises
    as :func:`grpc_value`.
    """
    values = {name: grpc_value(name, value) for name, value in parameters.items()}
    stop = values.get("stop")
    if isinstance(stop, str) and stop.startswith("["):
        with contextlib.suppress(ValueError, RecursionError):
            values["stop"] = json.loads(stop)
    return values


def grpc_value(name: str, parameter: Any) -> Any:
    """The value of an InferParameter, also of one that KServe's message type does not know.

    The protocol has ``double_param = 4``; KServe 0.21's generated message lacks it, so a float from Triton's client
    arrives as an unknown field: the 8 bytes of a little-endian double.

    Raises:
        InvalidRequest: naming the parameter, when it holds no value that can be read.
    """
    choice = parameter.WhichOneof("parameter_choice")
    if choice:
        return getattr(parameter, choice)
    # One number takes no more bytes than these; a megabyte of unknown fields took 0.7 s to look through.
    for unknown in unknown_fields.UnknownFieldSet(parameter) if parameter.ByteSize() <= MAX_NUMBER_BYTES else ():
        if unknown.field_number == 4 and unknown.wire_type == 1:
            return struct.unpack("<d", struct.pack("<Q", unknown.data))[0]
        if unknown.field_number == 5 and unknown.wire_type == 0:  # uint64_param
            return unknown.data
    raise InvalidRequest(name[:64], "holds no value; set one of bool, int64, string or double")


def grpc_response(model_name: str, request: v2.InferRequest, results: list[GenerationResult]) -> pb.ModelInferResponse:
    """The answer, its tensors in raw form as all clients expect it."""
    values = v2.output_values(results)
    errors = v2.element_errors(results)
    return pb.ModelInferResponse(
        id=request.id,
        model_name=model_name,
        model_version=v2.VERSION,
        parameters={name: pb.InferParameter(string_param=error) for name, error in errors.items()},
        outputs=[{"name": name, "datatype": v2.OUTPUTS[name], "shape": [len(results)]} for name in request.outputs],
        raw_output_contents=[v2.pack(values[name]) for name in request.outputs],
    )
