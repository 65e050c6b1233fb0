"""The wheel has one name at its top, prometheus_mini: the packages that it serves with lie inside.

`model` and `serving` are names that other people have too: a model.py beside their script would be imported in place of
ours, and such a folder in site-packages be mixed with ours. So the wheel holds prometheus_mini/model and
prometheus_mini/serving with their imports of each other rewritten, and of `model` only what is imported. An editable
install has the folders as they are.

    .venv/bin/python -m pip wheel --no-deps --wheel-dir build .
"""

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info

HOME = "prometheus_mini"
MOVED = ("model", "serving")
# Imports, and the commands that are told to people.
NAMED = re.compile(rf"""(^\s*(?:from|import) |python -m |Parser\(")({"|".join(MOVED)})\b""", re.M)


class BuildInOnePackage(build_py):
    """Build as always, then move the packages that lie beside ours into it."""

    def run(self) -> None:
        """Fill the folder that the wheel is made of; build/ may hold an older one."""
        built = Path(self.build_lib)
        if not self.editable_mode:
            shutil.rmtree(built, ignore_errors=True)
        super().run()
        if self.editable_mode:
            return
        for path in sorted(set(built.rglob("*.py")) - needed(built)):
            path.unlink()
        for name in MOVED:
            (built / name).rename(built / HOME / name)
        for path in built.rglob("*.py"):
            path.write_text(NAMED.sub(rf"\1{HOME}.\2", path.read_text("utf-8")), "utf-8")


class NameOnePackage(egg_info):
    """Tell what is imported by which name, as importlib.metadata reads it."""

    def run(self) -> None:
        """Write the folder of metadata."""
        super().run()
        Path(self.egg_info, "top_level.txt").write_text(f"{HOME}\n", "utf-8")


def needed(built: Path) -> set[Path]:
    """All files of ours and of serving, and what they import, in functions too."""
    found: set[Path] = set()
    waiting = [path for name in (HOME, "serving") for path in (built / name).rglob("*.py")]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [file for name in imported(path) for file in files(built, name)]
    return found


def imported(path: Path) -> Iterator[str]:
    """Dotted names of what a file imports: modules, and perhaps names in them."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(built: Path, name: str) -> Iterator[Path]:
    """The file of a module, and of each package that it lies in."""
    parts = name.split(".")
    for place in (built.joinpath(*parts[:length]) for length in range(1, len(parts) + 1)):
        yield from (file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file())


setup(cmdclass={"build_py": BuildInOnePackage, "egg_info": NameOnePackage})
