"""Which of our code a step runs: every file that its component imports, however far away, and the data beside them.

Kubeflow's cache cannot see inside an image. So each step is given the hash of its own code as a constant: a step is
run anew when what it runs has changed, and only then; and it refuses to run in an image that holds other code than the
pipeline was compiled from. The lists of the libraries that `make images` installs count as code: another version of
torch trains another model.

    python -c "from components.code import code_of; print(code_of('train_model'))"
"""

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

from model.errors import ProjectError

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("components", "evaluation", "model", "pipelines", "release", "serving")
LIBRARIES = ("requirements/pipeline.lock", "requirements/pipeline-cuda.lock")
DIGITS = 10  # of the hash, in hexadecimal: 40 bits tell the few versions of a step apart


class CodeError(ProjectError, RuntimeError):
    """A step that would run other code than the pipeline was compiled from."""


@functools.cache
def code_of(component: str) -> str:
    """``train_model-0c31f48da7``: the component's name and the hash of all the files that it runs."""
    digest = hashlib.sha256()
    for path in files_of(component):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{component}-{digest.hexdigest()[:DIGITS]}"


def check(code: str) -> str:
    """What to say where this place's code is not ``code`` (of :func:`code_of`); empty where it is."""
    component = code.rpartition("-")[0]
    if (here := code_of(component)) == code:
        return ""
    return f"the pipeline was compiled from {code}, and what would run here is {here}"


def files_of(component: str) -> list[Path]:
    """The files of a component's own code, sorted: modules, what they import, data in their folders, LIBRARIES."""
    start = ROOT / "components" / component / "component.py"
    modules, waiting = set[Path](), [start]
    while waiting:
        path = waiting.pop()
        if path not in modules:
            modules.add(path)
            waiting += _imported(path)
    folders = {path.parent for path in modules}
    data = {path for folder in folders for path in folder.iterdir() if _is_data(path)}
    return sorted(modules | data | {ROOT / name for name in LIBRARIES})


def _is_data(path: Path) -> bool:
    """Whether a file may be read by the code beside it; what builds an image is not in the image."""
    built = path.name.startswith((".", "Dockerfile"))
    return path.is_file() and path.suffix not in ("", ".py", ".pyc", ".md") and not built


@functools.cache
def _imported(path: Path) -> tuple[Path, ...]:
    """Our files that a file imports, in its functions too, each after the packages that it lies in."""
    found = [file for name in _names(path) for file in _files(name)]
    return tuple(dict.fromkeys([*found, *_files(".".join(path.relative_to(ROOT).parent.parts))]))


def _names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = path.relative_to(ROOT).with_suffix("").parts[: -node.level] if node.level else ()
            module = ".".join((*above, node.module or "")).rstrip(".")
            yield from (f"{module}.{alias.name}" for alias in node.names)  # a module, or a name in one


def _files(name: str) -> Iterator[Path]:
    """The file of a module, of each package that it lies in, or of the module that the name is in."""
    parts = name.split(".")
    if parts[0] not in PACKAGES:
        return
    for i in range(1, len(parts) + 1):
        place = ROOT.joinpath(*parts[:i])
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                yield file
