"""What all slots remember of their texts, in memory that ONNX Runtime reads and writes by address.

All tensors of one kind (keys and values of every layer, or recurrent states) are one block, so that a slot is copied
for all of them at once: by one NumPy assignment on the CPU, by one cudaMemcpy2D on the GPU.

The CUDA branch has NOT been run: no GPU was at hand.

Legend: P tensors, N all slots, K key/value heads, T tokens, h head width, D width of the network.
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

    def __init__(self, names: list[str], shape: tuple[int, ...], dtype: type, device: str) -> None:
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
        else:
            self._copy_on_gpu(source, target)

    def forget(self, slot: int) -> None:
        """Make a slot one without a text: nothing to do, for attention reads no further than the text."""

    def _copy_on_gpu(self, source: int, target: int) -> None:
        to, of = (self._address(slot) for slot in (target, source))
        pitch, width, height = self._pitches()
        _done("copying", cudart().cudaMemcpy2D(to, pitch, of, pitch, width, height, DEVICE_TO_DEVICE))

    def _address(self, slot: int) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._base + slot * self._slot_bytes)

    def _pitches(self) -> tuple[ctypes.c_size_t, ...]:
        """Bytes from one tensor to the next, bytes of a slot in each, and how many tensors."""
        sizes = self._shape[0] * self._slot_bytes, self._slot_bytes, len(self.names)
        return tuple(map(ctypes.c_size_t, sizes))


class States(Block):
    """P recurrent states [N, 1, D]: each holds a whole text, so it is copied whole, and is zero where there is none."""

    def copy(self, source: int, target: int, length: int) -> None:
        """Give one slot the states of another; ``length`` is its text's, whatever that is."""
        if self.device == "cpu":
            self.values[:, target] = self.values[:, source]
        else:
            self._copy_on_gpu(source, target)

    def forget(self, slot: int) -> None:
        """Make a slot one without a text."""
        if self.device == "cpu":
            self.values[:, slot] = 0
        else:
            pitch, width, height = self._pitches()
            _done("clearing", cudart().cudaMemset2D(self._address(slot), pitch, 0, width, height))


def _done(what: str, status: int) -> None:
    """Wait for what runs in CUDA's default stream, which ONNX Runtime's own stream does not wait for."""
    if status or (status := cudart().cudaDeviceSynchronize()):
        raise RuntimeError(f"{what} a slot of the cache on the GPU failed with CUDA error {status}")


@functools.cache
def cudart() -> Any:
    """CUDA's runtime library, which ONNX Runtime's CUDA provider has loaded already; None where none can be loaded."""
    for name in CUDART:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    return None
