"""What pip installs: one name at the top, no torch, and three lines that run anywhere, beside other people's names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers.bundles import tiny_bundle

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("model", "prometheus_mini", "serving", "pyproject.toml", "setup.py", "LICENSE")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
OFFLINE = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
# The three lines, as they are told; what is printed is for the test.
THREE_LINES = """
from prometheus_mini import load
model = load({bundle!r})
text = model.translate("Привет!", to="en")
print(text, sep="")
"""


def run(*command: object, cwd: Path = ROOT) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built, as building writes beside it; with what an older build may have left."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    left = folder / "build" / "lib" / "prometheus_mini" / "serving" / "gone.py"
    left.parent.mkdir(parents=True)
    left.touch()
    return folder


@pytest.fixture(scope="module")
def wheel(sources: Path) -> Path:
    run(*PIP, "wheel", *OFFLINE, "--wheel-dir", sources / "dist", sources)
    (found,) = (sources / "dist").glob("*.whl")
    return found


def environment(folder: Path, *install: object) -> Path:
    """Python of a new environment, which sees the libraries of this one and has what is to be installed."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(*PIP, "--python", python, "install", *OFFLINE, *install)
    return python


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("wheel") / "venv", wheel)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "b")


def test_the_wheel_has_what_serves_and_nothing_else(wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in names} == {"prometheus_mini"}
    parts = {"/".join(name.split("/")[1:3]) for name in names if name.count("/") > 2}
    assert not parts & {"model/corpus", "model/onnx", "model/training", "model/store"}
    assert not any(re.search("test|tool|network|Dockerfile|gone", name) for name in names)
    for name in ("model/scripts.json", "serving/playground/index.html", "py.typed", "serving/rest/openai.py"):
        assert f"prometheus_mini/{name}" in names


def test_the_metadata_tells_one_name(installed: Path, tmp_path: Path) -> None:
    code = "from importlib import metadata; print(*(metadata.packages_distributions().keys() & {NAMES}))"
    names = {"model", "prometheus_mini", "serving"}
    assert run(installed, "-c", code.replace("{NAMES}", str(names)), cwd=tmp_path).split() == ["prometheus_mini"]


def test_three_lines_run_beside_names_of_other_people(installed: Path, bundle: Path, tmp_path: Path) -> None:
    for name in ("model.py", "serving.py", "tests.py"):
        (tmp_path / name).write_text("raise SystemExit('not ours')\n")
    (tmp_path / "three.py").write_text(THREE_LINES.format(bundle=str(bundle)), "utf-8")
    assert run(installed, "three.py", cwd=tmp_path).strip()


def test_every_module_of_the_wheel_imports_without_torch(installed: Path, tmp_path: Path) -> None:
    code = """
import importlib, pkgutil, sys
sys.modules["torch"] = sys.modules["kfp"] = sys.modules["onnx"] = None
import prometheus_mini
names = [found.name for found in pkgutil.walk_packages(prometheus_mini.__path__, "prometheus_mini.")]
for name in names:
    importlib.import_module(name)
print(len(names), {"model", "serving"} & sys.modules.keys())
"""
    count, *others = run(installed, "-c", code, cwd=tmp_path).split()
    assert int(count) > 50 and others == ["set()"]


def test_its_commands_have_their_names(installed: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "grpc.py").write_text("raise ModuleNotFoundError('as without the extra', name='grpc')")
    assert run(installed, "-m", "prometheus_mini.serving.chat", "--help", cwd=tmp_path).startswith(
        "usage: python -m prometheus_mini.serving.chat "
    )
    command = [installed, "-m", "prometheus_mini.serving", "--bundle", bundle]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: the server needs grpc: install prometheus-mini with its extra, server\n"


def test_an_editable_install_runs_anywhere_too(sources: Path, bundle: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", "--editable", sources)
    (tmp_path / "three.py").write_text(THREE_LINES.format(bundle=str(bundle)), "utf-8")
    assert run(python, "three.py", cwd=tmp_path).strip()
    (tmp_path / "model.py").touch()
    done = subprocess.run([python, "three.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert f"another module called model, {tmp_path / 'model.py'}; rename that" in done.stderr


LOADED = "\nimport sys; print(*sys.modules)"


def test_what_is_loaded_is_asked_for_in_ranges_that_hold_what_is_tested(
    installed: Path, bundle: Path, tmp_path: Path
) -> None:
    lines = run(installed, "-c", THREE_LINES.format(bundle=str(bundle)) + LOADED, cwd=tmp_path).splitlines()
    requirements = [Requirement(line) for line in requires(installed, "prometheus-mini")]
    lock, asked_for = ((ROOT / "requirements" / name).read_text("utf-8") for name in ("serving.lock", "serving.in"))
    assert {one.name for one in requirements} == set(re.findall(r"^[\w-]+", asked_for, re.M))
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", lock, re.M))
    for one in requirements:
        assert one.specifier.contains(pins[one.name]), f"{one} leaves out {pins[one.name]}, which is tested"
    found = metadata.packages_distributions()
    loaded = {name.lower() for module in lines[-1].split() if "." not in module for name in found.get(module, ())}
    assert loaded & {"onnxruntime-gpu", "onnxruntime"}
    assert loaded - {"prometheus-mini"} <= closure({one.name for one in requirements if asked(one)})


def requires(python: Path, name: str) -> list[str]:
    """What a distribution asks for, in another environment."""
    return run(
        python, "-c", f"from importlib import metadata; print(*metadata.requires({name!r}), sep='\\n')"
    ).splitlines()


def asked(requirement: Requirement) -> bool:
    """Whether it is asked for here, without an extra."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def closure(names: set[str]) -> set[str]:
    """Distributions and all that they ask for here, by their names in this environment."""
    installed = {canonicalize_name(found.name): found for found in metadata.distributions()}
    known, waiting = set[str](), [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in installed and name not in known:
            known.add(name)
            lines = [Requirement(line) for line in installed[name].requires or []]
            waiting += [canonicalize_name(one.name) for one in lines if asked(one)]
    return {installed[name].name.lower() for name in known}
