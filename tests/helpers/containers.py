"""A container engine, and the images of this checkout in it; where there is none, tests are skipped and say why.

image = built("predictor").image
with container(image, "--read-only", "-p", "127.0.0.1::8080") as name:
    docker("exec", name, "id")
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest

from pipelines.images import BASE, Built, ImageError, build, engine

BASE_IMAGE = os.environ.get("BASE_IMAGE") or BASE
# What every cluster that is run with care asks of a pod.
CONFINED = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp"]


def run_docker(*arguments: str, seconds: float = 600) -> subprocess.CompletedProcess[str]:
    """A command of the engine, whatever its exit status."""
    command = [*engine(), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)


def docker(*arguments: str, seconds: float = 600) -> str:
    """What a command of the engine prints; it must succeed."""
    done = run_docker(*arguments, seconds=seconds)
    assert done.returncode == 0, f"{arguments[0]}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout.strip()


def logs(name: str) -> str:
    """What a container has said."""
    done = run_docker("logs", name)
    return done.stdout + done.stderr


@cache
def why_not() -> str:
    """Why no image can be run here; empty where one can."""
    try:
        done = run_docker("version", seconds=60)
    except ImageError as error:
        return str(error)
    if done.returncode:
        return f"no container engine answers: {(done.stderr.strip().splitlines() or ['no word'])[-1]}"
    if run_docker("image", "inspect", BASE_IMAGE).returncode and run_docker("pull", BASE_IMAGE).returncode:
        return f"the engine has no {BASE_IMAGE} and cannot pull it: name another base image by $BASE_IMAGE"
    return ""


def why_no_steps() -> str:
    """Why the steps' image is not built here: the first build on a base loads gigabytes, later ones reuse layers."""
    of_this_base = f"label=org.opencontainers.image.base.name={BASE_IMAGE}"
    names = run_docker("images", "--filter", of_this_base, "--format", "{{.Repository}}").stdout.splitlines()
    if any(name.endswith("prometheus-mini/pipeline") for name in names):
        return ""
    return f"its first build on {BASE_IMAGE} loads up to 3 GB: after `make images`, once, it is tested"


@cache
def _built(name: str) -> Built:
    return build(name, "cpu", "localhost/test", BASE_IMAGE, torch_index=os.environ.get("TORCH_INDEX"))


def built(name: str) -> Built:
    """The image of this very code, built now from what the engine has kept of the last build."""
    if reason := why_not() or (why_no_steps() if name == "pipeline" else ""):
        pytest.skip(f"the {name}'s image was NOT run: {reason}")
    return _built(name)


@contextmanager
def container(image: str, *options: str, command: tuple[str, ...] = ()) -> Iterator[str]:
    """A running container, by its id; it is removed at the end of the block."""
    name = docker("run", "--detach", *options, image, *command)
    try:
        yield name
    finally:
        run_docker("rm", "--force", name)
