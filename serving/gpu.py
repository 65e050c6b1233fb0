"""Memory of the GPU, for metrics: asked of NVIDIA's management library, which the driver brings along.

``nvidia-ml-py`` would be a package for two numbers. Where the library or the GPU is missing there is no figure, and no
error: serving does not depend on it. Follows NVML's documentation and has NOT been run: no GPU was at hand.

    read = gpu_memory(); read and read()  # (used, total) bytes
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable

log = logging.getLogger("serving")


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def gpu_memory() -> Callable[[], tuple[int, int]] | None:
    """What tells (used, total) bytes of the GPU that CUDA calls device 0; None where that cannot be read."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        device = ctypes.c_void_p()
        found = nvml.nvmlInit_v2()
        # CUDA counts only what this variable lets it see, NVML counts all.
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
        if not found and visible.isdigit():
            found = nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(visible)), ctypes.byref(device))
        elif not found:
            found = nvml.nvmlDeviceGetHandleByUUID(visible.encode(), ctypes.byref(device))
    except (OSError, AttributeError) as error:
        log.info("no figures of GPU memory: %s", error)
        return None
    if found:
        log.info("no figures of GPU memory: NVML answers %d", found)
        return None

    def read() -> tuple[int, int]:
        memory = _Memory()
        return (0, 0) if nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) else (memory.used, memory.total)

    return read
