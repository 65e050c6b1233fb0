"""Nothing is reported to the makers of libraries: no file below a fresh home, no look-up, wherever we are entered."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from model.config import Profile
from model.environment import NO_TELEMETRY
from pipelines.compile import compile_pipeline
from pipelines.images import step_tags
from pipelines.parameters import parameters
from tests.helpers.bundles import tiny_bundle
from tests.helpers.servers import start_server, wait_until
from tests.helpers.traces import CONTINUOUS_INTEGRATION, LOOK_UP, may_trace, tracer

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("benchmarks", "components", "evaluation", "model", "pipelines", "serving")
# What reports by itself, or loads something that does.
LIBRARIES = {"clearml", "ctranslate2", "huggingface_hub", "kfp", "kserve", "onnxruntime", "onnxruntime_genai", "torch"}
LIBRARIES |= {"mlflow", "transformers"}


def imported(path: Path) -> set[str]:
    """The outermost names of what a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_sets_it_before_anything_else(package):
    _docstring, first, *_ = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8")).body
    assert ast.unparse(first) == "from model import environment as environment"


def test_nothing_that_reports_is_imported_elsewhere():
    tracked = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    files = [ROOT / name for name in tracked.stdout.split()] or [p for p in ROOT.rglob("*.py") if ".venv" not in str(p)]
    using = {path.relative_to(ROOT).parts[0] for path in files if path.exists() and imported(path) & LIBRARIES}
    assert {"model", "serving", "components"} <= using <= {*PACKAGES, "tests"}  # the tests' conftest imports a package
    assert imported(ROOT / "model" / "environment.py") == {"os", "sys"}


def test_images_manifests_make_and_every_step_say_it(tmp_path):
    dockerfile = (ROOT / "serving" / "Dockerfile").read_text(encoding="utf-8")
    before_packages, _ = dockerfile.split("RUN ", 1)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    runtime = yaml.safe_load((ROOT / "k8s" / "20-servingruntime.yaml").read_text(encoding="utf-8"))
    images = dict.fromkeys(step_tags("cpu"), "registry/image:1")
    compile_pipeline(tmp_path / "p.yaml", images, parameters(Profile(), "v1"))
    pipeline, _ = yaml.safe_load_all((tmp_path / "p.yaml").read_text(encoding="utf-8"))
    containers = [*runtime["spec"]["containers"], *(e["container"] for e in executors(pipeline))]
    assert len(containers) == 12
    for name, value in NO_TELEMETRY.items():
        assert f" {name}={value}" in before_packages
        assert f"\nexport {name} ?= {value}\n" in makefile
        assert all({"name": name, "value": value} in container["env"] for container in containers)


def executors(pipeline: dict) -> list[dict]:
    return list(pipeline["deploymentSpec"]["executors"].values())


@pytest.mark.parametrize("said", [None, "0"])
def test_what_a_person_has_said_stays(said):
    environment = {name: value for name, value in os.environ.items() if name not in NO_TELEMETRY}
    environment |= {} if said is None else {"ORT_DISABLE_TELEMETRY": said}
    code = (
        "import os, sys, types; early = types.ModuleType('onnxruntime'); sys.modules['onnxruntime'] = early\n"
        "early.disable_telemetry_events = lambda: print('told', end=' ')\n"
        "import components; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == ("told 1" if said is None else said), done.stderr


def test_a_server_writes_nothing_at_home_and_looks_nothing_up(tmp_path, monkeypatch):
    """Beside a server that is told to report: its first look-up is the clock of the silent one."""
    for name in (*NO_TELEMETRY, *CONTINUOUS_INTEGRATION):
        monkeypatch.delenv(name, raising=False)
    bundle = tiny_bundle(tmp_path / "a bundle's (python3) $HOME::x [v2]")  # a name is a name here, too
    traced = may_trace(tmp_path)
    with ExitStack() as servers:
        for kind, said in (("silent", None), ("reporting", "0")):
            home = tmp_path / kind
            home.mkdir()
            with monkeypatch.context() as changed:
                changed.setenv("HOME", str(home))
                for variable in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
                    changed.setenv(variable, str(home / variable))
                if said:
                    changed.setenv("ORT_DISABLE_TELEMETRY", said)
                if traced:
                    changed.setattr(sys, "executable", str(tracer(tmp_path / f"{kind}.trace")))
                server = servers.enter_context(start_server(bundle, tmp_path / f"{kind}.log"))
            assert server.post("/generate", {"prompt": "hello", "target": "ru"}).status_code == 200
        assert any(path.name == "deviceid" for path in (tmp_path / "reporting").rglob("*")), "the control says nothing"
        if traced:
            control = tmp_path / "reporting.trace"
            wait_until(lambda: bool(LOOK_UP.search(control.read_text("utf-8", "replace"))), "a look-up", 120)
    assert list((tmp_path / "silent").rglob("*")) == []
    if not traced:
        pytest.skip("no strace, or it may not trace: files were checked, look-ups were NOT")
    trace = (tmp_path / "silent.trace").read_text("utf-8", "replace")
    assert "socket(AF_INET" in trace and not LOOK_UP.search(trace)
