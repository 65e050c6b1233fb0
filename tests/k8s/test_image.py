"""The Dockerfiles without a container engine: what they copy exists and is enough, and what they install is locked."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.images import DOCKERFILES, fill_context

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {name: (ROOT / path).read_text() for name, path in DOCKERFILES.items()}
COPIES = {
    name: [line.split()[1:] for line in text.splitlines() if line.startswith("COPY ")] for name, text in TEXTS.items()
}
every_image = pytest.mark.parametrize("name", sorted(DOCKERFILES))


def locked(name: str) -> dict[str, str]:
    """Version by name of what a lock installs on Linux."""
    lines = (ROOT / "requirements" / f"{name}.lock").read_text().splitlines()
    return dict(line.split(" ;")[0].split("==") for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> dict[str, Path]:
    """For each image, a folder with exactly the files that its COPY lines take out of what is sent to the builder."""
    found = {}
    for name, copies in COPIES.items():
        sent, folder = tmp_path_factory.mktemp("sent"), tmp_path_factory.mktemp(name)
        fill_context(DOCKERFILES[name], sent)
        for *sources, target in copies:
            for source in sources:
                place = folder / target / Path(source).name if target.endswith("/") else folder / target
                place.parent.mkdir(parents=True, exist_ok=True)
                if (sent / source).is_dir():
                    shutil.copytree(sent / source, place)
                else:
                    shutil.copy(sent / source, place)
        found[name] = folder
    return found


def run(folder: Path, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
    )


def imports_without(folder: Path, blocked: tuple[str, ...], packages: tuple[str, ...]) -> None:
    """Every module of the packages can be imported where the blocked ones cannot."""
    modules = [
        ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
        for package in packages
        for path in sorted((folder / package).rglob("*.py"))
        if path.name != "__main__.py"
    ]
    assert len(modules) > 20
    block = f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"
    result = run(folder, "-c", block + f"import importlib\nfor name in {modules}: importlib.import_module(name)")
    assert result.returncode == 0, result.stderr


def test_the_copied_files_are_enough_to_start(images):
    result = run(images["predictor"], "-m", "serving", "--help")
    assert result.returncode == 0, result.stderr
    assert "--bundle" in result.stdout


def test_the_whole_predictor_imports_from_them_without_what_its_image_lacks(images):
    blocked = ("torch", "kfp", "onnx", "PIL", "grpc_tools", "release", "evaluation")
    imports_without(images["predictor"], blocked, ("serving",))


def test_every_step_imports_without_what_its_image_lacks(images):
    blocked = ("kserve", "pandas", "fastapi", "uvicorn", "pytest", "hypothesis", "moto", "tests", "tools")
    imports_without(images["pipeline"], blocked, ("components", "evaluation", "model", "release", "serving/engine"))


def test_the_steps_have_the_code_of_the_checkout(images):
    """Its hash, that is: what git says of it is given to the build."""
    code = "from pipelines.provenance import code_version; print(code_version().rpartition('-')[2])"
    here, there = run(ROOT, "-c", code), run(images["pipeline"], "-c", code)
    assert there.returncode == 0, there.stderr
    assert there.stdout == here.stdout


@every_image
def test_neither_tests_nor_tools_are_in_it(images, name):
    found = {path.name for path in images[name].iterdir()}
    assert not found & {"tests", "tools", "benchmarks", "k8s", "docs", "runs", ".git", ".venv"}
    assert not [*images[name].rglob("__pycache__")]


@every_image
def test_the_base_image_can_be_chosen_and_the_user_is_not_root(name):
    lines = TEXTS[name].splitlines()
    first = [line for line in lines if line and not line.startswith("#")][:2]
    assert first == ["ARG BASE_IMAGE=python:3.11-slim", "FROM ${BASE_IMAGE}"]
    assert len([line for line in lines if line.startswith("FROM ")]) == 1
    user = re.findall(r"^USER (\d+):(\d+)$", TEXTS[name], re.MULTILINE)
    assert len(user) == 1
    assert min(map(int, user[0])) > 0
    assert "HOME=/tmp" in TEXTS[name]


def test_a_container_listens_for_everyone():
    """Its own 127.0.0.1 can be reached by nobody; a command of one's own must not lose that."""
    assert 'ENTRYPOINT ["python3", "-m", "serving", "--host", "::"]' in TEXTS["predictor"]


@every_image
def test_nothing_is_copied_that_the_build_context_leaves_out(name):
    allowed = (ROOT / f"{DOCKERFILES[name]}.dockerignore").read_text().splitlines()
    sources = [source for *sources, _ in COPIES[name] for source in sources]
    assert sources
    assert {f"!{source}" for source in sources} == {line for line in allowed if line.startswith("!")} - {
        f"!{parent}" for source in sources for parent in Path(source).parents
    }


def test_the_locks_hold_what_their_image_needs_and_no_more():
    pipeline, serving = locked("pipeline"), locked("serving")
    assert serving["kserve"] == "0.21.0"
    assert pipeline["torch"] == "2.13.0"
    assert "onnxruntime-gpu" in serving and "onnxruntime-gpu" in pipeline
    assert not {"torch", "kfp", "onnx", "pymorphy3", "clearml"} & {*serving}
    assert not {"kserve", "pandas", "pytest", "ruff", "mypy", "moto", "hypothesis", "schemathesis"} & {*pipeline}


def test_the_locks_agree():
    everything = locked("all")
    for name in ("serving", "pipeline"):
        assert locked(name).items() <= everything.items()
    assert locked("serving-cuda").items() <= locked("pipeline-cuda").items()
    cuda = ("nvidia-", "cuda-", "triton")
    assert {
        name for lock in ("serving-cuda", "pipeline-cuda") for name in locked(lock) if not name.startswith(cuda)
    } == set()
    assert {"nvidia-cudnn-cu13", "nvidia-cufft", "nvidia-cublas"} <= {*locked("serving-cuda")}
