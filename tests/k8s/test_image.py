"""serving/Dockerfile without a container engine: what it copies exists and is enough to start."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "serving" / "Dockerfile").read_text()
COPIES = [line.split()[1:] for line in DOCKERFILE.splitlines() if line.startswith("COPY ")]


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """A folder with exactly the files that the image's COPY lines bring."""
    folder = tmp_path_factory.mktemp("image")
    for *sources, target in COPIES:
        for source in sources:
            place = folder / target / Path(source).name if target.endswith("/") else folder / target
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place)
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": "/usr/bin:/bin"},
    )


def test_the_copied_files_are_enough_to_start(image):
    result = run(image, "-m", "serving", "--help")
    assert result.returncode == 0, result.stderr
    assert "--bundle" in result.stdout


def test_the_whole_predictor_imports_from_them_without_torch_or_kfp(image):
    blocked = "import sys\nfor name in ('torch', 'kfp', 'onnx'): sys.modules[name] = None\n"
    modules = [
        ".".join(path.relative_to(image).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((image / "serving").rglob("*.py"))
        if path.name != "__main__.py"
    ]
    result = run(image, "-c", blocked + f"import importlib\nfor name in {modules}: importlib.import_module(name)")
    assert result.returncode == 0, result.stderr


def test_the_base_image_can_be_chosen_and_the_user_is_not_root():
    lines = DOCKERFILE.splitlines()
    first = [line for line in lines if line and not line.startswith("#")][:2]
    assert first == ["ARG BASE_IMAGE=python:3.11-slim", "FROM ${BASE_IMAGE}"]
    user = re.findall(r"^USER (\d+)", DOCKERFILE, re.MULTILINE)
    assert len(user) == 1
    assert int(user[0]) > 0


def test_a_container_listens_for_everyone():
    """Its own 127.0.0.1 can be reached by nobody; a command of one's own must not lose that."""
    assert 'ENTRYPOINT ["python3", "-m", "serving", "--host", "::"]' in DOCKERFILE


def test_nothing_is_copied_that_the_build_context_leaves_out():
    allowed = (ROOT / "serving" / "Dockerfile.dockerignore").read_text().splitlines()
    for *sources, _ in COPIES:
        for source in sources:
            assert f"!{source}" in allowed


def test_the_lock_has_no_training_packages():
    lock = (ROOT / "requirements" / "serving.lock").read_text()
    assert re.search(r"(?m)^kserve==0\.21\.0", lock)
    assert re.search(r"(?m)^onnxruntime-gpu==", lock)
    assert not re.search(r"(?m)^(torch|kfp|onnx|pymorphy3|clearml)==", lock)
