"""Where a result comes from: the code's version, the libraries' versions and the hardware.

python -m pipelines.provenance
"""

import hashlib
import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components import machine
from components.machine import versions
from model.options import OK, Parser, run

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("components", "evaluation", "model", "pipelines", "release", "serving")
DESCRIBED = "PROMETHEUS_CODE_DESCRIBED"  # in an image, which has no git: what git said of it when it was built


def code_version() -> str:
    """``<git describe, or the package's version>-<hash of the sources>``.

    The hash is there because a work tree that git calls dirty can be dirty in many ways, and caches and results must
    tell them apart; and because an archive has no git at all. Data that the code reads counts as code. What builds an
    image is not in it, and does not count: an image has the version of the checkout that it was built from.
    """
    digest = hashlib.sha256()
    files = (path for package in SOURCES for path in (ROOT / package).rglob("*.*") if path.is_file())
    for path in sorted(
        path for path in files if path.suffix != ".pyc" and not path.name.startswith((".", "Dockerfile"))
    ):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    if described := os.environ.get(DESCRIBED, ""):
        return f"{described}-{digest.hexdigest()[:10]}"
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        described = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return f"{described}-{digest.hexdigest()[:10]}"


def hardware() -> dict[str, Any]:
    """The machine: processor, cores this process may use, memory, GPUs that PyTorch can use."""
    for name in ("torch", "model.sessions"):
        importlib.import_module(name)
    return machine.hardware()  # which asks what is loaded


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
