"""Keys and values of all slots, in memory that ONNX Runtime reads and writes by address.

All tensors of one kind (keys and values of every layer) are one block, so that a slot is copied for all of them at
once: by one NumPy assignment on the CPU, by one cudaMemcpy2D on the GPU.

The CUDA branch has NOT been run: no GPU was at hand.

Legend: P tensors, N all slots, K key/value heads, T tokens, h head width.
"""

import contextlib
import ctypes
import functools
from typing import Any

import numpy as np
import onnxruntime

ALIGNMENT = 64  # bytes of a cache line
CUDART = ("libcudart.so.13", "libcudart.so.12", "libcudart.so")
DEVICE_TO_DEVICE = 3


class Block:
    """P tensors [N, K, T, h] of zeros.

    Zeros, not garbage: attention multiplies what lies beyond a text by 0, and 0 times NaN is NaN. Pages of a block that
    was never needed are never touched, hence cost no memory on the CPU.

    Attributes:
        names: of the P tensors.
        values: [P, N, K, T, h] on the CPU.
        bytes: size of the block.
    """

    def __init__(self, names: list[str], shape: tuple[int, int, int, int], dtype: type, device: str) -> None:
        self.names, self.dtype, self.device = names, dtype, device
        self._shape = shape
        self._slot_bytes = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
        self.bytes = len(names) * shape[0] * self._slot_bytes
        if device == "cpu":
            raw = np.zeros(self.bytes + ALIGNMENT, np.uint8)
            start = -raw.ctypes.data % ALIGNMENT
            self.values: np.ndarray = raw[start : start + self.bytes].view(dtype).reshape(len(names), *shape)
            self._base = self.values.ctypes.data
        else:
            self._value = onnxruntime.OrtValue.ortvalue_from_shape_and_type([len(names), *shape], dtype, device, 0)
            self._base = self._value.data_ptr()

    def parts(self, slot: int, slots: int) -> list[tuple[str, tuple[Any, ...]]]:
        """For each tensor its name, and what binds slots ``slot`` .. ``slot + slots - 1`` of it."""
        shape = [slots, *self._shape[1:]]
        return [
            (name, (self.device, 0, self.dtype, shape, self._base + (i * self._shape[0] + slot) * self._slot_bytes))
            for i, name in enumerate(self.names)
        ]

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` of T of one slot to another, in every tensor."""
        if self.device == "cpu":
            self.values[:, target, :, :length] = self.values[:, source, :, :length]
            return
        to, of = (ctypes.c_void_p(self._base + slot * self._slot_bytes) for slot in (target, source))
        width, height = ctypes.c_size_t(self._slot_bytes), ctypes.c_size_t(len(self.names))
        pitch = ctypes.c_size_t(self._shape[0] * self._slot_bytes)
        cuda = cudart()
        status = cuda.cudaMemcpy2D(to, pitch, of, pitch, width, height, DEVICE_TO_DEVICE)
        # The copy runs in CUDA's default stream, which ONNX Runtime's own stream does not wait for.
        if status or (status := cuda.cudaDeviceSynchronize()):
            raise RuntimeError(f"copying a slot of the cache on the GPU failed with CUDA error {status}")


@functools.cache
def cudart() -> Any:
    """CUDA's runtime library, which ONNX Runtime's CUDA provider has loaded already; None where none can be loaded."""
    for name in CUDART:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    return None
