"""The v2 inference protocol, for REST and gRPC alike: requests read, tensors packed, metadata; knows neither of them.

In:  ``text_input``  BYTES [N]
Out: ``text_output`` BYTES [N], ``finish_reason`` BYTES [N], ``prompt_tokens`` INT32 [N], ``generated_tokens`` INT32 [N]

An element in fault has an empty ``text_output`` and the ``finish_reason`` "error"; why stands in the answer's parameter
``error[i]``. The others are answered. A source that was found out stands in ``source[i]`` and ``confidence[i]``, why a
text came back as it is in ``note[i]``.

A BYTES tensor in binary form is, for each element, its length as a little-endian uint32 and then its bytes.

    request = read_request(json_object, binary_tail, max_prompts=64)
    results = await service.complete(request.generation)
"""

import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.engine import GenerationResult
from serving.errors import InvalidRequest, NotFound, shown
from serving.parameters import check_known, flag, json_object, number, of_type
from serving.service import TextService
from serving.texts import TextRequest

FIELDS = ("id", "parameters", "inputs", "outputs", "model_name", "model_version")  # the last two are KServe's client's
INPUT = "text_input"
OUTPUTS = {"text_output": "BYTES", "finish_reason": "BYTES", "prompt_tokens": "INT32", "generated_tokens": "INT32"}
VERSION = "1"
# Parameters that say how a tensor travels. Others (Triton's classification, shared memory) would change the answer.
HINTS = {"inputs": ("binary_data_size", "content_type"), "outputs": ("binary_data", "content_type")}


@dataclass(frozen=True)
class InferRequest:
    """One v2 inference request, whichever protocol brought it."""

    id: str
    generation: TextRequest  # of N texts
    outputs: Mapping[str, bool]  # names, in the order asked for -> whether it goes as binary; gRPC's always do


def read_request(request: dict[str, Any], tail: bytes, max_prompts: int) -> InferRequest:
    """Read an inference request.

    Args:
        request: as in the protocol's JSON; ``data`` may hold bytes too.
        tail: the binary tensors that it announces.

    Raises:
        InvalidRequest: naming the field.
    """
    check_known(request, FIELDS)
    request_id = of_type("id", "" if request.get("id") is None else request["id"], str, "a string")
    parameters = json_object(request, "parameters")
    binary = flag("binary_data_output", parameters.get("binary_data_output", False))
    tensor = _only_input(_tensors(request, "inputs"))
    texts = _texts(tensor, tail, max_prompts)
    outputs = _outputs(_tensors(request, "outputs") if request.get("outputs") is not None else [], binary)
    samples = parameters.pop("n", None)
    if samples is not None and number("n", samples, int) != 1:
        message = "v2 returns one output for each input; send the text several times, or use /generate"
        raise InvalidRequest("n", message)
    generation = TextRequest(texts, parameters, names={"text": INPUT})
    return InferRequest(request_id or uuid.uuid4().hex, generation, outputs)


def check_model(name: str, version: str, served: str) -> None:
    """Refuse another model or version than the one served; an empty version is any.

    Raises:
        NotFound: naming it.
    """
    if name != served:
        raise NotFound(f"model {name[:64]!r} is not served here; {served!r} is")
    if version not in ("", VERSION):
        raise NotFound(f"model {served!r} has no version {version[:64]!r}; it has {VERSION!r}")


def server_metadata() -> dict[str, Any]:
    """The v2 server metadata. KServe's own claims a repository extension, which is closed here."""
    return {"name": "prometheus-mini", "version": VERSION, "extensions": ["binary_tensor_data"]}


def model_metadata(service: TextService) -> dict[str, Any]:
    """The v2 model metadata, as far as REST and gRPC both have it. ``versions`` is the protocol's, from which clients
    make addresses: a bundle's run is no part of it.
    """
    bundle = service.bundle
    return {
        "name": service.config.model_name,
        "versions": [VERSION],
        "platform": f"onnxruntime_{bundle.family}_{bundle.precision}",
        "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in OUTPUTS.items()],
    }


def output_values(results: Sequence[GenerationResult]) -> dict[str, list]:
    """The four output tensors, each [N]."""
    return {
        "text_output": [result.text for result in results],
        "finish_reason": [result.finish_reason for result in results],
        "prompt_tokens": [result.prompt_tokens for result in results],
        "generated_tokens": [result.generated_tokens for result in results],
    }


def answer_parameters(results: Sequence[GenerationResult]) -> dict[str, Any]:
    """The answer's parameters: why an element was not answered, and what is told beside one that was."""
    errors = {f"error[{i}]": str(result.error) for i, result in enumerate(results) if result.error is not None}
    facts = ((f"{name}[{i}]", value) for i, result in enumerate(results) for name, value in result.about.items())
    return {**errors, **{name: value for name, value in facts if value is not None}}


def pack(values: Sequence[Any]) -> bytes:
    """The binary form of an output: BYTES for strings, INT32 for integers."""
    if values and isinstance(values[0], str):
        encoded = [value.encode() for value in values]
        return b"".join(part for item in encoded for part in (struct.pack("<I", len(item)), item))
    return np.asarray(values, dtype="<i4").tobytes()


def unpack_bytes(raw: bytes, count: int) -> list[bytes]:
    """Split the binary form of a BYTES tensor into its ``count`` elements.

    Raises:
        InvalidRequest: naming ``text_input``, when the bytes end too early or go on too long.
    """
    items = []
    offset = 0
    for index in range(count):
        if offset + 4 > len(raw):
            raise InvalidRequest(INPUT, f"the binary data ends before element {index} of {count}")
        (length,) = struct.unpack_from("<I", raw, offset)
        offset += 4
        if offset + length > len(raw):
            raise InvalidRequest(INPUT, f"element {index} says {length} bytes, {len(raw) - offset} are left")
        items.append(raw[offset : offset + length])
        offset += length
    if offset != len(raw):
        raise InvalidRequest(INPUT, f"{len(raw) - offset} bytes are left over after element {count - 1}")
    return items


def decode_text(items: Sequence[Any], count: int) -> list[str | InvalidRequest]:
    """Turn the elements of ``text_input`` (str, or UTF-8 bytes) into ``count`` texts; one that is no text is its error.

    Raises:
        InvalidRequest: naming ``text_input``, when their number is wrong.
    """
    if len(items) != count:
        raise InvalidRequest(INPUT, f"shape says {count} elements, the data has {len(items)}")
    return [_text(index, item) for index, item in enumerate(items)]


def _text(index: int, item: Any) -> str | InvalidRequest:
    try:
        text = item.decode() if isinstance(item, bytes) else item
    except UnicodeDecodeError:
        return InvalidRequest(INPUT, f"element {index} is not UTF-8")
    if not isinstance(text, str):
        return InvalidRequest(INPUT, f"element {index} must be a string, not {type(text).__name__}")
    return text


def _only_input(tensors: list[dict[str, Any]]) -> dict[str, Any]:
    for tensor in tensors:
        if tensor["name"] != INPUT:
            name = tensor["name"][:64]
            raise InvalidRequest("inputs", f"unknown input tensor {name!r}; send one tensor named {INPUT!r}")
    if len(tensors) != 1:
        raise InvalidRequest("inputs", f"send exactly one tensor named {INPUT!r}, not {len(tensors)}")
    return tensors[0]


def _texts(tensor: dict[str, Any], tail: bytes, max_prompts: int) -> list[str | InvalidRequest]:
    count = _count(tensor, max_prompts)
    hints = _hints(tensor, "inputs")
    size, data = hints.get("binary_data_size"), tensor.get("data")
    if size is None:
        if not isinstance(data, list):
            raise InvalidRequest(INPUT, "data must be a list of strings, or binary_data_size must announce binary data")
        if tail:
            raise InvalidRequest("body", f"{len(tail)} bytes follow the JSON, no input announces them")
        return decode_text(data, count)
    if data is not None:
        raise InvalidRequest(INPUT, "data and binary_data_size are both set; send one of them")
    if isinstance(size, bool) or not isinstance(size, int) or size != len(tail):
        raise InvalidRequest(INPUT, f"binary_data_size is {shown(size)}, {len(tail)} bytes follow the JSON")
    return decode_text(unpack_bytes(tail, count), count)


def _count(tensor: dict[str, Any], max_prompts: int) -> int:
    """N, by the datatype and shape of ``text_input``."""
    for field in ("datatype", "shape"):
        if field not in tensor:
            raise InvalidRequest(INPUT, f"{field} is missing")
    datatype, shape = tensor["datatype"], tensor["shape"]
    if datatype != "BYTES":
        raise InvalidRequest(INPUT, f"datatype must be BYTES, not {shown(datatype)}")
    if not isinstance(shape, list) or [type(size) for size in shape] != [int] or shape[0] < 0:
        raise InvalidRequest(INPUT, f"shape must be [N], the number of prompts, not {shown(shape)}")
    if shape[0] == 0:
        raise InvalidRequest(INPUT, "the batch is empty; send at least one prompt")
    if shape[0] > max_prompts:
        raise InvalidRequest(INPUT, f"{shape[0]} prompts in one request; at most {max_prompts} are taken")
    return shape[0]


def _outputs(tensors: list[dict[str, Any]], binary: bool) -> dict[str, bool]:
    """The outputs to send, those asked for or all of them, and whether each goes as binary."""
    names = [tensor["name"] for tensor in tensors]
    for name in names:
        if name not in OUTPUTS:
            raise InvalidRequest("outputs", f"unknown output tensor {name[:64]!r}; known: {', '.join(OUTPUTS)}")
    if len(set(names)) != len(names):
        raise InvalidRequest("outputs", "an output tensor is asked for twice")
    hints = {tensor["name"]: _hints(tensor, "outputs") for tensor in tensors}
    found = {name: flag("binary_data", hint.get("binary_data", binary)) for name, hint in hints.items()}
    return found or dict.fromkeys(OUTPUTS, binary)


def _hints(tensor: dict[str, Any], where: str) -> dict[str, Any]:
    """The parameters of a tensor, none of which may change the answer; ``where`` is "inputs" or "outputs"."""
    hints = json_object(tensor, "parameters")
    for name in hints:
        if name not in HINTS[where]:
            raise InvalidRequest(where, f"the tensor's parameter {name[:64]!r} cannot be honoured; leave it out")
    return hints


def _tensors(parent: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = of_type(name, parent.get(name), list, "a list")
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise InvalidRequest(name, "must hold JSON objects with a name, which is a string")
    return value
