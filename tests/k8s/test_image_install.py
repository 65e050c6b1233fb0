"""requirements/install.py, in an environment of its own and with small packages: which torch, which ONNX Runtime."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK = """\
# a comment
numpy==1
onnxruntime-gpu==3 ; sys_platform == "linux"
onnxruntime==3 ; sys_platform != "linux"
torch==2
unused==1
"""


def wheel(folder: Path, name: str, version: str) -> None:
    """A package of one file that imports nothing, with its own tests."""
    folder.mkdir(parents=True, exist_ok=True)
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as out:
        out.writestr(f"{module}/__init__.py", "")
        out.writestr(f"{module}/tests/test_it.py", "")
        out.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        out.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        out.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Three package indexes: one of everything but torch's CPU build, one of that alone, and one that has nothing."""
    folder = tmp_path_factory.mktemp("indexes")
    for name, version in {
        "numpy": "1",
        "onnxruntime": "3",
        "onnxruntime-gpu": "3",
        "torch": "2",
        "unused": "1",
    }.items():
        wheel(folder / "all" / name, name, version)
    wheel(folder / "all" / "nvidia-cublas", "nvidia-cublas", "13")
    wheel(folder / "cpu" / "torch", "torch", "2+cpu")
    (folder / "nothing").mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {name: f"http://127.0.0.1:{server.server_port}/{name}/" for name in ("all", "cpu", "nothing")}
    server.shutdown()


def install(folder: Path, index: str, *options: str) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    """What install.py says, and the versions in its environment afterwards."""
    python = folder / "environment" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder / "environment"], check=True)
    requirements = folder / "requirements"
    requirements.mkdir()
    (requirements / "install.py").write_bytes((ROOT / "requirements" / "install.py").read_bytes())
    (requirements / "pipeline.lock").write_text(LOCK)
    (requirements / "pipeline-cuda.lock").write_text("nvidia-cublas==13\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment = {**kept, "PIP_INDEX_URL": index, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [
        python,
        requirements / "install.py",
        "pipeline",
        "--report",
        folder / "image.json",
        "--imports",
        "numpy,torch",
    ]
    done = subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json"], capture_output=True, text=True, check=True
    )
    return done, {each["name"]: each["version"] for each in json.loads(listed.stdout)}


def test_cpu_takes_torchs_cpu_build_from_its_index_and_plain_onnx_runtime(tmp_path, indexes):
    done, found = install(
        tmp_path, indexes["all"], "--variant", "cpu", "--torch-index", indexes["cpu"], "--without", "unused"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert found.items() >= {"numpy": "1", "onnxruntime": "3", "torch": "2+cpu"}.items()
    assert not {"onnxruntime-gpu", "nvidia-cublas", "unused"} & {*found}
    report = json.loads((tmp_path / "image.json").read_text())
    assert report["torch"] == f"the CPU build, from {indexes['cpu']}"
    assert report["torch"] in done.stdout
    packages = next((tmp_path / "environment" / "lib").glob("python*/site-packages"))
    assert not [*packages.glob("*/tests")]
    compiled = {path.parent.parent.name for path in packages.glob("*/__pycache__/*.pyc")}
    assert {"numpy", "torch"} <= compiled
    assert "onnxruntime" not in compiled


def test_gpu_takes_the_lock_and_the_cuda_libraries(tmp_path, indexes):
    done, found = install(tmp_path, indexes["all"], "--variant", "gpu", "--torch-index", indexes["cpu"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert found.items() >= {"onnxruntime-gpu": "3", "torch": "2", "nvidia-cublas": "13", "unused": "1"}.items()
    assert "onnxruntime" not in found


def test_a_torch_that_cannot_train_ends_the_build(tmp_path, indexes):
    """Without a CPU build the CUDA build is taken; here it is an empty package, which the trial finds out."""
    done, found = install(tmp_path, indexes["all"], "--variant", "cpu", "--torch-index", indexes["nothing"])
    assert found["torch"] == "2"
    assert done.returncode != 0
    assert not (tmp_path / "image.json").exists()


def test_a_lock_that_cannot_be_had_ends_the_build(tmp_path, indexes):
    done, _ = install(tmp_path, indexes["nothing"], "--variant", "cpu")
    assert done.returncode != 0
    assert "could not install the lock" in done.stderr
