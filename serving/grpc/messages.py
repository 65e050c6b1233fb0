"""gRPC's messages of the v2 protocol, read and written; knows no server.

They are read as they are: the SDK's conversion to a type of its own checks less, costs more, and loses what its message
type does not know.
"""

import contextlib
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, message_factory, unknown_fields

from serving import v2
from serving.engine import GenerationResult, TokenEvent
from serving.errors import InvalidRequest, ServingError
from serving.kserve.sdk import pb
from serving.parameters import flag

# More than there are names to know, here and in the clients' libraries.
MAX_PARAMETERS = 64
MAX_NUMBER_BYTES = 16
# Triton's names: the last response of a request, and the wish for one even where it would bring nothing.
FINAL = "triton_final_response"
WANTS_FINAL = "triton_enable_empty_final_response"


def _stream_response_type() -> type:
    """Triton's ModelStreamInferResponse, which KServe's messages lack."""
    file = descriptor_pb2.FileDescriptorProto(name="serving/stream.proto", package="inference", syntax="proto3")
    file.dependency.append(pb.DESCRIPTOR.name)
    message, kinds = file.message_type.add(name="ModelStreamInferResponse"), descriptor_pb2.FieldDescriptorProto
    message.field.add(name="error_message", number=1, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_STRING)
    answer = message.field.add(name="infer_response", number=2, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_MESSAGE)
    answer.type_name = ".inference.ModelInferResponse"
    pool = pb.DESCRIPTOR.pool
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelStreamInferResponse"))


StreamResponse: Any = _stream_response_type()


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


def read_streamed(request: pb.ModelInferRequest, served: str, max_prompts: int) -> v2.InferRequest:
    """Read a request of a stream: as :func:`read_grpc`, and raises the same. Triton's wish for a final response is
    taken; there always is one, and it brings why the text ended.
    """
    if WANTS_FINAL in request.parameters:
        flag(WANTS_FINAL, grpc_value(WANTS_FINAL, request.parameters[WANTS_FINAL]))
        del request.parameters[WANTS_FINAL]
    return read_grpc(request, served, max_prompts)


def grpc_response(model_name: str, request: v2.InferRequest, results: list[GenerationResult]) -> pb.ModelInferResponse:
    """The answer, its tensors in raw form as all clients expect it."""
    return _response(model_name, request, v2.output_values(results), v2.answer_parameters(results))


def stream_response(model_name: str, request: v2.InferRequest, latest: Sequence[TokenEvent], new: int) -> Any:
    """A StreamResponse with the new text of one of a request's N texts.

    All of a request's responses have its outputs, each [N]: ``text_output`` is what is new, and joined over them the
    whole text; the reason is empty until a text has ended, and counts are those so far. The last one's parameters are
    those of an answer that comes whole.

    Args:
        latest: the latest event of each text.
        new: the text whose event is new.
    """
    results = [event.result for event in latest if event.result is not None]
    last = len(results) == len(latest)
    values: dict[str, list[Any]] = {
        "text_output": [event.text if index == new else "" for index, event in enumerate(latest)],
        "finish_reason": [event.finish_reason or "" for event in latest],
        "prompt_tokens": [(event.result or event).prompt_tokens for event in latest],
        "generated_tokens": [(event.result or event).generated_tokens for event in latest],
    }
    response = _response(model_name, request, values, v2.answer_parameters(results) if last else {})
    response.parameters[FINAL].bool_param = last
    return StreamResponse(infer_response=response)


def stream_error(request_id: str, error: ServingError) -> Any:
    """The StreamResponse that ends one request by an error, in Triton's words: clients are shown nothing but these."""
    response = pb.ModelInferResponse(id=request_id, parameters={FINAL: {"bool_param": True}})
    words = f"[request id: {request_id}] {error}" if request_id else str(error)
    return StreamResponse(error_message=words, infer_response=response)


def _response(
    model_name: str, request: v2.InferRequest, values: Mapping[str, list], parameters: Mapping[str, Any]
) -> pb.ModelInferResponse:
    return pb.ModelInferResponse(
        id=request.id,
        model_name=model_name,
        model_version=v2.VERSION,
        # A number as text, too: KServe's message has none with a fraction.
        parameters={name: pb.InferParameter(string_param=str(value)) for name, value in parameters.items()},
        outputs=[
            {"name": name, "datatype": v2.OUTPUTS[name], "shape": [len(values[name])]} for name in request.outputs
        ],
        raw_output_contents=[v2.pack(values[name]) for name in request.outputs],
    )
