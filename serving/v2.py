"""The v2 inference protocol's tensors, for REST and gRPC alike; knows neither of them.

In:  ``text_input``  BYTES [N]
Out: ``text_output`` BYTES [N], ``finish_reason`` BYTES [N], ``prompt_tokens`` INT32 [N], ``generated_tokens`` INT32 [N]

An element in fault has an empty ``text_output`` and the ``finish_reason`` "error"; why stands in the answer's parameter
``error[i]``. The others are answered.

A BYTES tensor in binary form is, for each element, its length as a little-endian uint32 and then its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from serving.engine import GenerationResult
from serving.errors import InvalidRequest, NotFound, shown

INPUT = "text_input"
OUTPUTS = {"text_output": "BYTES", "finish_reason": "BYTES", "prompt_tokens": "INT32", "generated_tokens": "INT32"}
VERSION = "1"
# Parameters that say how a tensor travels. Others (Triton's classification, shared memory) would change the answer.
HINTS = {"inputs": ("binary_data_size", "content_type"), "outputs": ("binary_data", "content_type")}


@dataclass(frozen=True)
class Call:
    """One v2 inference request, whichever protocol brought it."""

    id: str
    texts: list[str | InvalidRequest]  # [N]
    parameters: Mapping[str, Any]
    outputs: tuple[str, ...]  # names, in the order asked for
    binary: Mapping[str, bool] = field(default_factory=dict)  # REST only: which outputs go as binary


def check_model(name: str, version: str, served: str) -> None:
    """Refuse another model or version than the one served; an empty version is any.

    Raises:
        NotFound: naming it.
    """
    if name != served:
        raise NotFound(f"model {name[:64]!r} is not served here; {served!r} is")
    if version not in ("", VERSION):
        raise NotFound(f"model {served!r} has no version {version[:64]!r}; it has {VERSION!r}")


def check_inputs(names: Sequence[str]) -> None:
    """Refuse anything but exactly one input tensor, ``text_input``.

    Raises:
        InvalidRequest: naming the input.
    """
    if list(names) == [INPUT]:
        return
    for name in names:
        if name != INPUT:
            raise InvalidRequest("inputs", f"unknown input tensor {name[:64]!r}; send one tensor named {INPUT!r}")
    raise InvalidRequest("inputs", f"send exactly one tensor named {INPUT!r}, not {len(names)}")


def check_input(datatype: str, shape: Sequence[Any], max_prompts: int) -> int:
    """Check the datatype and shape of ``text_input`` and return N.

    Raises:
        InvalidRequest: naming ``text_input``.
    """
    if datatype != "BYTES":
        raise InvalidRequest(INPUT, f"datatype must be BYTES, not {shown(datatype)}")
    if len(shape) != 1 or isinstance(shape[0], bool) or not isinstance(shape[0], int) or shape[0] < 0:
        raise InvalidRequest(INPUT, f"shape must be [N], the number of prompts, not {shown(list(shape))}")
    if shape[0] == 0:
        raise InvalidRequest(INPUT, "the batch is empty; send at least one prompt")
    if shape[0] > max_prompts:
        raise InvalidRequest(INPUT, f"{shape[0]} prompts in one request; at most {max_prompts} are taken")
    return shape[0]


def check_outputs(names: Sequence[str]) -> tuple[str, ...]:
    """Return the outputs to send: those asked for, or all of them.

    Raises:
        InvalidRequest: naming an unknown or repeated output.
    """
    for name in names:
        if name not in OUTPUTS:
            raise InvalidRequest("outputs", f"unknown output tensor {str(name)[:64]!r}; known: {', '.join(OUTPUTS)}")
    if len(set(names)) != len(names):
        raise InvalidRequest("outputs", "an output tensor is asked for twice")
    return tuple(names) or tuple(OUTPUTS)


def check_hints(where: str, names: Iterable[str]) -> None:
    """Refuse parameters of a tensor that would change the answer; ``where`` is "inputs" or "outputs".

    Raises:
        InvalidRequest: naming one.
    """
    for name in names:
        if name not in HINTS[where]:
            raise InvalidRequest(where, f"the tensor's parameter {name[:64]!r} cannot be honoured; leave it out")


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


def output_values(results: Sequence[GenerationResult]) -> dict[str, list]:
    """The four output tensors, each [N]."""
    return {
        "text_output": [result.text for result in results],
        "finish_reason": [result.finish_reason for result in results],
        "prompt_tokens": [result.prompt_tokens for result in results],
        "generated_tokens": [result.generated_tokens for result in results],
    }


def row_errors(results: Sequence[GenerationResult]) -> dict[str, str]:
    """The answer's parameters: why an element was not answered."""
    return {f"error[{i}]": str(result.error) for i, result in enumerate(results) if result.error is not None}


def pack(values: Sequence[Any]) -> bytes:
    """The binary form of an output: BYTES for strings, INT32 for integers."""
    if values and isinstance(values[0], str):
        encoded = [value.encode() for value in values]
        return b"".join(part for item in encoded for part in (struct.pack("<I", len(item)), item))
    return np.asarray(values, dtype="<i4").tobytes()
