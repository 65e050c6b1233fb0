"""A v2 inference request over gRPC as plain bytes.

Two packages bring generated classes of this message, tritonclient and kserve, and one process cannot load both. A load
test has to run beside either, and needs one shape of one message.

channel.unary_unary(INFER)(infer_request("prometheus-mini", "Привет!", {"max_tokens": 8}))
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

INFER = "/inference.GRPCInferenceService/ModelInfer"
# Field numbers of open_inference_grpc.proto.
MODEL_NAME, PARAMETERS, INPUTS = 1, 4, 5
TENSOR_NAME, DATATYPE, SHAPE, CONTENTS = 1, 2, 3, 5
BYTES_CONTENTS = 8
KEY, VALUE = 1, 2
BOOL, INT64, STRING, DOUBLE = 1, 2, 3, 4


def infer_request(model: str, text: str, parameters: Mapping[str, Any]) -> bytes:
    """One text as the BYTES tensor ``text_input`` [1]; what is no bool, int, float or string travels as JSON."""
    contents = _block(BYTES_CONTENTS, text.encode())
    shape = _block(SHAPE, _varint(1))
    tensor = _block(TENSOR_NAME, b"text_input") + _block(DATATYPE, b"BYTES") + shape + _block(CONTENTS, contents)
    entries = (_block(KEY, name.encode()) + _block(VALUE, _parameter(value)) for name, value in parameters.items())
    head = _block(MODEL_NAME, model.encode()) + b"".join(_block(PARAMETERS, entry) for entry in entries)
    return head + _block(INPUTS, tensor)


def _parameter(value: Any) -> bytes:
    if isinstance(value, bool):
        return _varint(BOOL << 3) + _varint(value)
    if isinstance(value, int):
        return _varint(INT64 << 3) + _varint(value & (2**64 - 1))
    if isinstance(value, float):
        return _varint(DOUBLE << 3 | 1) + struct.pack("<d", value)
    return _block(STRING, (value if isinstance(value, str) else json.dumps(value)).encode())


def _block(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
