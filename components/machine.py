"""What a step ran on: the versions of the libraries that decide a result, and the hardware.

python -c "from components.machine import hardware; print(hardware())"
"""

import contextlib
import platform
import sys
from importlib import metadata
from typing import Any

import psutil

from model import processors

LIBRARIES = ("torch", "onnx", "onnxruntime-gpu", "onnxruntime", "sentencepiece", "kfp", "kserve", "numpy", "sacrebleu")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a result."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores this process may use, memory in GiB; GPUs and int8 products as far as a library is loaded.

    A step that has no use for PyTorch or ONNX Runtime need not wait for them to be asked what they find.
    """
    found = {**processors.describe(), "memory_gib": round(psutil.virtual_memory().total / 2**30, 1)}
    if (torch := sys.modules.get("torch")) is not None:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        found["gpus"] = [*map(torch.cuda.get_device_name, range(count))]
    if (sessions := sys.modules.get("model.sessions")) is not None:
        found |= sessions.hardware()
    return {**found, "system": platform.system()}
