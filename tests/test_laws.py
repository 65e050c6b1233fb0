"""The laws of the house: imports point down, serving needs no torch, model needs no Kubeflow, nothing is pickled."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SERVED = ("bundle", "config", "environment", "errors", "files", "languages", "options", "processors", "sessions")
SERVED += ("settings", "text", "tokenizer")
SERVED += ("documents", "encoding", "progress")
ALLOWED = {
    "model": ("model",),
    "serving": ("serving", *(f"model.{name}" for name in SERVED)),
    # What pip installs: its names, for programs.
    "prometheus_mini": ("prometheus_mini", "serving", "model.errors"),
    # What gates a model runs through what serves it; the engine imports neither KServe nor HTTP.
    "evaluation": ("evaluation", "model", "serving.engine", "serving.errors"),
    "release": ("release", "model"),
    "components": ("components", "evaluation", "release", "model"),
    "pipelines": ("pipelines", "components", "evaluation", "release", "model"),
    # Neither is a part of the product.
    "benchmarks": ("benchmarks", "pipelines", "evaluation", "serving", "model"),
    "tools": ("tools", "serving.engine", "model"),
}
BLOCKED_CODE = """
import importlib, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)

sys.meta_path.insert(0, Blocker())
package = importlib.import_module(PACKAGE)
names = [PACKAGE] + [m.name for m in pkgutil.walk_packages(package.__path__, PACKAGE + ".")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def sources(packages=tuple(ALLOWED)) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = path.relative_to(ROOT).with_suffix("").parts[: -node.level] if node.level else ()
            module = ".".join((*above, node.module or "")).rstrip(".")
            # `from model import bundle` imports model.bundle: only the longer name tells which room is entered.
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def within(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def test_the_scan_sees_the_code():
    assert len(sources()) > 40
    assert any(name.startswith("model.config") for path in sources() for _, name in imports(path))


def test_imports_point_down_only():
    broken = []
    for path in sources():
        relative = path.relative_to(ROOT).as_posix()
        package = relative.split("/")[0]
        for line, name in imports(path):
            if name.split(".")[0] in (*ALLOWED, "tests") and not within(name, ALLOWED[package]):
                broken.append(f"{relative}:{line} imports {name}")
    assert not broken, "\n".join(broken)


def room(name: str, folder: Path) -> str:
    """What of a folder's files and folders an imported name lies in; empty where it lies elsewhere."""
    parts = folder.relative_to(ROOT).parts
    inside = tuple(name.split(".")[: len(parts) + 1])
    path = ROOT.joinpath(*inside)
    found = len(inside) > len(parts) and inside[:-1] == parts and (path.is_dir() or path.with_suffix(".py").exists())
    return inside[-1] if found else ""


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_no_two_rooms_of_a_folder_need_each_other(package):
    """Files and folders side by side have an order; a package's face, its __init__.py, hands their names on."""
    for folder in {path.parent for path in sources() if path.is_relative_to(ROOT / package)}:
        needs: dict[str, set[str]] = {}
        for path in folder.rglob("*.py"):
            own = path.relative_to(folder).with_suffix("").parts[0]
            if own != "__init__":
                needs.setdefault(own, set()).update(room(name, folder) for _, name in imports(path))
        for own, others in needs.items():
            others.difference_update(("", own))
        list(TopologicalSorter(needs).static_order())  # raises CycleError, which names the circle


def test_the_engine_knows_no_protocol():
    banned = ("kserve", "fastapi", "starlette", "grpc", "torch", "kfp")
    files = [p for p in sources() if p.relative_to(ROOT).as_posix().startswith("serving/engine/")]
    assert files
    broken = [f"{p}:{line} imports {name}" for p in files for line, name in imports(p) if within(name, banned)]
    assert not broken, "\n".join(broken)


def test_nothing_is_pickled():
    banned = ("pickle", "cPickle", "dill", "joblib", "shelve", "marshal")
    broken = [f"{p}:{line} imports {name}" for p in sources() for line, name in imports(p) if within(name, banned)]
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.save", "torch.load"):
                broken.append(f"{path}:{node.lineno} calls {ast.unparse(node.func)}")
            if any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in getattr(node, "keywords", [])):
                broken.append(f"{path} allows pickle")
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("package", "blocked"),
    [("serving", ("torch", "kfp")), ("model", ("kfp", "kserve")), ("model.bundle", ("torch", "onnx", "kfp", "kserve"))],
)
def test_packages_import_without(package, blocked):
    code = f"PACKAGE = {package!r}\nBLOCKED = {blocked!r}\n{BLOCKED_CODE}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) >= 2


def test_the_blocker_blocks():
    code = f"PACKAGE = 'model'\nBLOCKED = ('torch',)\n{BLOCKED_CODE}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "No module named 'torch" in done.stderr
