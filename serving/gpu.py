"""Memory of the GPU, for metrics, as NVIDIA's management library tells it; the driver brings that along.

Where there is no driver or GPU there is no figure, and no error. Written by nvidia-ml-py's source; it has NOT been run
on a GPU: none was at hand.

    read = gpu_memory(); read()  # {"gpu_used": bytes, "gpu_total": bytes}
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import pynvml

log = logging.getLogger("serving")


def gpu_memory() -> Callable[[], dict[str, int]]:
    """What reads the memory of the GPU that CUDA calls device 0; it finds nothing where that cannot be read."""
    # CUDA counts only what this variable lets it see, NVML counts all.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    try:
        pynvml.nvmlInit()
        by_index, by_uuid = pynvml.nvmlDeviceGetHandleByIndex, pynvml.nvmlDeviceGetHandleByUUID
        device = by_index(int(visible)) if visible.isdigit() else by_uuid(visible)
    except pynvml.NVMLError as error:
        log.info("no figures of GPU memory: %s", error)
        return dict

    def read() -> dict[str, int]:
        try:
            memory = pynvml.nvmlDeviceGetMemoryInfo(device)
        except pynvml.NVMLError:
            return {}
        return {"gpu_used": memory.used, "gpu_total": memory.total}

    return read
