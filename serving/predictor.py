"""The KServe predictor: what the SDK calls for gRPC, and what the REST routes share with it.

KServe's own REST route for v2 is replaced (``serving/routes/inference.py``); both end in :meth:`Predictor.predict`, so
KServe's request metrics count every protocol.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
import uuid
from typing import Any

import grpc
from google.protobuf import unknown_fields

from serving.engine import GenerationResult
from serving.errors import InvalidRequest, ServingError
from serving.logs import request_line
from serving.sdk import GrpcException, InferRequest, Model, ModelInferRequest, ModelInferResponse
from serving.service import TextService, reason
from serving.tensors import (
    INPUT,
    OUTPUTS,
    VERSION,
    Call,
    check_input,
    check_inputs,
    check_outputs,
    decode_text,
    pack,
    unpack_bytes,
)

log = logging.getLogger("serving.predictor")
CONTENTS = (
    "bool_contents",
    "int_contents",
    "int64_contents",
    "uint_contents",
    "uint64_contents",
    "fp32_contents",
    "fp64_contents",
)


class Predictor(Model):
    """One model of the KServe server. ``load`` has happened before it is made: it is only a face of the service."""

    def __init__(self, service: TextService) -> None:
        super().__init__(service.config.model_name)
        self.service = service
        self.ready = service.ready
        self.engine = True  # makes ModelServer run start_engine beside its servers
        self.stopped = asyncio.Event()

    def load(self) -> bool:
        """Do nothing: KServe calls this inside the event loop whenever a request finds the model not ready."""
        return self.service.ready

    async def healthy(self) -> bool:
        """Whether requests should be sent here."""
        return self.service.ready

    async def start_engine(self) -> None:
        """Stay until :meth:`stop`: ModelServer ends when all its coroutines have."""
        await self.stopped.wait()

    def start(self) -> None:
        """Do nothing: KServe's default would claim readiness."""

    def stop(self) -> None:
        """Take no new requests. KServe calls this when REST has drained, while gRPC calls may still be running."""
        self.service.draining = True
        self.stopped.set()

    def stop_engine(self) -> None:
        """Do nothing: the engine must outlive the calls that still run on it; server.py closes it."""

    def get_input_types(self) -> list[dict]:
        """The input tensor, for model metadata."""
        return [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}]

    def get_output_types(self) -> list[dict]:
        """The output tensors, for model metadata."""
        return [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in OUTPUTS.items()]

    def server_metadata(self) -> dict[str, Any]:
        """The v2 server metadata. KServe's own claims a repository extension, which is closed here."""
        return {"name": "prometheus-mini", "version": VERSION, "extensions": ["binary_tensor_data"]}

    def metadata(self) -> dict[str, Any]:
        """The v2 model metadata."""
        bundle = self.service.bundle
        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": f"onnxruntime_{bundle.family}_{bundle.precision}",
            "inputs": self.get_input_types(),
            "outputs": self.get_output_types(),
        }

    def validate(self, payload: Call | InferRequest) -> Call | InferRequest:
        """Do nothing: predict checks with better words than the SDK's."""
        return payload

    async def predict(
        self, payload: Call | InferRequest, headers: dict[str, str] | None = None
    ) -> list[GenerationResult] | ModelInferResponse:
        """Answer one v2 call: a :class:`Call` from REST, or the SDK's request from gRPC.

        Raises:
            ServingError: for REST.
            GrpcException: for gRPC, with the same words.
        """
        if isinstance(payload, Call):
            return await self.service.complete(payload.texts, payload.parameters)
        started = time.perf_counter()
        code = "CANCELLED"
        results: list[GenerationResult] = []
        try:
            call = read_grpc(payload, self.service.config.max_prompts)
            results = await self.service.complete(call.texts, call.parameters)
            code = "OK"
            return grpc_response(self.name, call, results)
        except ServingError as error:
            code = error.code
            self.service.metrics.refused(reason(error))
            raise GrpcException(str(error), grpc.StatusCode[error.code]) from None
        except GrpcException as error:
            code = error.status_string
            raise
        except Exception as error:
            code = "INTERNAL"
            self.service.metrics.refused(reason(error))
            log.exception("gRPC ModelInfer failed")
            raise GrpcException("internal error; the server's log says more", grpc.StatusCode.INTERNAL) from None
        finally:
            request_line("grpc", "ModelInfer", code, time.perf_counter() - started, results)


def check_grpc(request: ModelInferRequest) -> None:
    """Refuse a malformed gRPC request with a sentence that names the field. Runs before the SDK converts the request,
    whose own checks do not.

    Raises:
        GrpcException: INVALID_ARGUMENT.
    """
    try:
        check_inputs([tensor.name for tensor in request.inputs])
        tensor = request.inputs[0]
        if tensor.datatype != "BYTES":
            check_input(tensor.datatype, tensor.shape, 0)
        if request.raw_input_contents:
            if len(request.raw_input_contents) != 1:
                message = f"has {len(request.raw_input_contents)} elements for 1 input"
                raise InvalidRequest("raw_input_contents", message)
            if tensor.contents.ByteSize():
                raise InvalidRequest(INPUT, "contents and raw_input_contents are both set; send one of them")
        for name in CONTENTS:
            if len(getattr(tensor.contents, name)):
                raise InvalidRequest(INPUT, f"contents must be in bytes_contents, not in {name}")
    except InvalidRequest as error:
        raise GrpcException(str(error), grpc.StatusCode.INVALID_ARGUMENT) from None


def read_grpc(request: InferRequest, max_prompts: int) -> Call:
    """Turn the SDK's form of a gRPC request, already passed by :func:`check_grpc`, into a call.

    Raises:
        InvalidRequest: naming the field.
        GrpcException: NOT_FOUND for a version that is not served.
    """
    if request.model_version not in ("", None, VERSION):
        message = f"model {request.model_name!r} has no version {request.model_version[:64]!r}; it has {VERSION!r}"
        raise GrpcException(message, grpc.StatusCode.NOT_FOUND)
    tensor = request.inputs[0]
    count = check_input(tensor.datatype, tensor.shape, max_prompts)
    items = tensor.data if tensor._raw_data is None else unpack_bytes(tensor._raw_data, count)
    return Call(
        id=request.id or uuid.uuid4().hex,
        texts=decode_text(items, count),
        parameters={name: grpc_value(name, value) for name, value in (request.parameters or {}).items()},
        outputs=check_outputs([output.name for output in request.request_outputs or []]),
    )


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
    for unknown in unknown_fields.UnknownFieldSet(parameter):
        if unknown.field_number == 4 and unknown.wire_type == 1:
            return struct.unpack("<d", struct.pack("<Q", unknown.data))[0]
        if unknown.field_number == 5 and unknown.wire_type == 0:  # uint64_param
            return unknown.data
    raise InvalidRequest(name[:64], "holds no value; set one of bool, int64, string or double")


def output_values(results: list[GenerationResult]) -> dict[str, list]:
    """The four output tensors, each [N]."""
    return {
        "text_output": [result.text for result in results],
        "finish_reason": [result.finish_reason for result in results],
        "prompt_tokens": [result.prompt_tokens for result in results],
        "generated_tokens": [result.generated_tokens for result in results],
    }


def grpc_response(model_name: str, call: Call, results: list[GenerationResult]) -> ModelInferResponse:
    """The answer, its tensors in raw form as all clients expect it."""
    values = output_values(results)
    return ModelInferResponse(
        id=call.id,
        model_name=model_name,
        model_version=VERSION,
        outputs=[{"name": name, "datatype": OUTPUTS[name], "shape": [len(results)]} for name in call.outputs],
        raw_output_contents=[pack(values[name]) for name in call.outputs],
    )
