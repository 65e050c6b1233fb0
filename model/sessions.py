"""What every session of ONNX Runtime needs on this processor, so that int8 comes out the same on all of them.

python -c "from model.sessions import hardware; print(hardware())"
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from model import processors

# y = MatMulInteger(a, b) for uint8 a and int8 b, as onnx.helper makes it: ``onnx`` itself is no part of a server.
PRODUCT = (
    b'\x08\x04:B\n\x18\n\x01a\n\x01b\x12\x01y"\rMatMulInteger\x12\x05probeZ\t\n\x01a\x12\x04\n\x02\x08\x02'
    b"Z\t\n\x01b\x12\x04\n\x02\x08\x03b\t\n\x01y\x12\x04\n\x02\x08\x06B\x04\n\x00\x10\n"
)
EXACT, PRECISE = "exact", "exact by session.x64quantprecision"


@functools.cache
def products_saturate() -> bool:
    """Whether products of uint8 by int8 come out wrong here: x86 before VNNI adds pairs of them in 16 bits.

    Asked by multiplying, not by the processor's flags: which kernel they lead to is ONNX Runtime's business.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(PRODUCT, options, providers=["CPUExecutionProvider"])
    a_MK, b_KN = np.full((2, 16), 255, np.uint8), np.full((16, 16), 127, np.int8)
    return bool((session.run(None, {"a": a_MK, "b": b_KN})[0] != 16 * 255 * 127).any())


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options of a quiet session that computes int8 as every other processor does: by slower kernels where the fast
    ones saturate.

    That takes 13-30 % more CPU time per token with AVX2, 1-29 % with AVX-512 without VNNI, and still 0.31-0.59 of
    fp32's (batches of 1, 8 and 32, both families, on one thread of a Zen 5 core with those instructions masked).
    Weights of 7 bits could not saturate either, but would cost every processor their accuracy.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if products_saturate():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def open_session(model: bytes | Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """A CPU session over a serialized model or a file; ``threads=0`` takes the processors this process may use."""
    options = session_options(threads or processors.available_cpus())
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def hardware() -> dict[str, Any]:
    """The processor, its instructions, the cores this process may use, and what makes its int8 products exact."""
    return {**processors.describe(), "int8_products": PRECISE if products_saturate() else EXACT}
