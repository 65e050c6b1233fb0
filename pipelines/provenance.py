"""Where a result comes from: the code's version, the libraries' versions and the hardware.

python -m pipelines.provenance
"""

import contextlib
import hashlib
import json
import platform
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from model.options import OK, Parser, run

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("components", "evaluation", "model", "pipelines", "serving")
LIBRARIES = ("torch", "onnx", "onnxruntime-gpu", "onnxruntime", "sentencepiece", "kfp", "kserve", "numpy", "sacrebleu")


def code_version() -> str:
    """``<git describe, or the package's version>-<hash of the sources>``.

    The hash is there because a work tree that git calls dirty can be dirty in many ways, and caches and results must
    tell them apart; and because an image or an archive has no git at all. Data that the code reads counts as code.
    """
    digest = hashlib.sha256()
    files = (path for package in SOURCES for path in (ROOT / package).rglob("*.*") if path.is_file())
    for path in sorted(path for path in files if path.suffix != ".pyc"):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        described = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return f"{described}-{digest.hexdigest()[:10]}"


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a result."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def hardware() -> dict[str, Any]:
    """The machine: processor, cores this process may use, memory, GPUs that PyTorch can use."""
    import torch

    from model import sessions

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus, memory = [*map(torch.cuda.get_device_name, range(count))], psutil.virtual_memory().total
    return {**sessions.hardware(), "memory_gib": round(memory / 2**30, 1), "gpus": gpus, "system": platform.system()}


def parser() -> Parser:
    """The command line."""
    return Parser("pipelines.provenance", "Print the code's version, the libraries' and the hardware as JSON.")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the facts."""
    parser().parse_args(argv)
    print(json.dumps({"code_version": code_version(), "versions": versions(), "hardware": hardware()}, indent=1))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
