"""The documents keep their word: tables come from committed results, paths and links lead somewhere, defaults are the
code's, and calls get answers. ``tests/test_commands.py`` holds what people are told to type."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results import main as results
from model.config import Profile
from model.settings import Settings
from pipelines.request import load_profile, profile_names
from serving import errors
from serving.config import ServerConfig
from serving.engine import EngineConfig, GenerationRequest
from serving.engine.limits import DEFAULT_MAX_TOKENS
from serving.parameters import Parameters
from tests.helpers.bundles import tiny_bundle
from tests.helpers.commands import DOCUMENTS, ROOT, blocks, commands, tracked
from tests.helpers.servers import start_server

README = (ROOT / "README.md").read_text("utf-8")
CLIENTS = ROOT / ".venv-clients" / "bin" / "python"
SECTIONS = {name: dict(section) for name, section in Profile() if isinstance(section, Settings)}
SETTINGS = {f"{section}.{key}": value for section, keys in SECTIONS.items() for key, value in keys.items()}
SERVER = {f"--{name}": value for config in (ServerConfig(), EngineConfig()) for name, value in config}
NAMES = {str(path.relative_to(ROOT)) for path in tracked()}
FOLDERS = {str(parent) for name in NAMES for parent in Path(name).parents} - {"."}
# What commands make or people write, and so is in no checkout; the last two are in many folders.
MADE = ("runs", "build", "corpus", "keys.yaml", "component.py", "bundle.json")
by_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def prose(document: Path) -> str:
    """The document without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", document.read_text("utf-8"), flags=re.S | re.M)


def spans(document: Path) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`\n]+)`", prose(document))


@cache
def code() -> str:
    """All Python, the Makefile, and what continuous integration runs."""
    files = [path for path in tracked() if path.suffix == ".py" or path.name == "Makefile" or path.parent.name == ".ci"]
    return "\n".join(path.read_text("utf-8") for path in files)


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_tables_come_from_the_committed_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert results(["docs", "--check"]) == 0, capsys.readouterr().err


def test_the_tree_is_the_tree() -> None:
    """Every line is a folder of the repository, and every folder with code has a line."""
    block = next(block for _, block in blocks(ROOT / "README.md") if block.startswith("components/"))
    parent, rooms = "", []
    for line in block.splitlines():
        for name in re.match(r"\s*((?:\w+/(?:, )?)+)", line)[1].rstrip("/").split("/, "):  # type: ignore[index]
            parent, room = (parent, f"{parent}/{name}") if line.startswith("  ") else (name, name)
            rooms.append(room)
    assert set(rooms) <= FOLDERS
    tops = {folder for folder in FOLDERS if "/" not in folder and not folder.startswith(".")}
    divided = {room.split("/")[0] for room in rooms if "/" in room}
    packages = {str(Path(name).parent) for name in NAMES if name.endswith("__init__.py") and name.count("/") == 2}
    assert tops | {package for package in packages if package.split("/")[0] in divided} <= set(rooms)


@by_document
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(document)) + re.findall(r"^\[\w+\]: (\S+)", prose(document), re.M)
    for target in targets:
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (document.parent / path).resolve() if path else document
        assert linked.exists(), f"{document.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text("utf-8"), re.M)
            assert anchor in [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings], (
                target
            )


def test_every_document_is_linked() -> None:
    linked = {
        (other.parent / link).resolve() for other in DOCUMENTS for link in re.findall(r"\]\(([^)#]+)", prose(other))
    }
    assert set(DOCUMENTS) - {ROOT / "README.md"} <= linked


@by_document
def test_paths_exist(document: Path) -> None:
    for span in spans(document):
        path, _, name = span.partition("::")
        first = path.split("/")[0]
        is_path = re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", path) and first not in MADE
        if is_path and (("/" in path and first in FOLDERS) or re.search(r"\w\.(py|md|ya?ml)$", path)):
            places = {path.rstrip("/"), str(document.parent.relative_to(ROOT) / path)}
            assert places & (NAMES | FOLDERS), f"{document.name} names {span}"
            assert f"def {name}(" in (ROOT / path).read_text("utf-8") if name else True, span


@by_document
def test_settings_exist(document: Path) -> None:
    """``section.key`` is a setting, ``SET=section.key=value`` one that every profile for pairs takes."""
    key = rf"((?:{'|'.join(SECTIONS)})\.(?!json\b)\w+)"
    text = prose(document)
    assert set(re.findall(rf"`{key}[`=]", text)) <= SETTINGS.keys()
    for change in re.findall(rf"`SET='?({key[1:-1]}=[^`']+)'?`", text):
        for profile in ("demo", "small", "tiny"):
            load_profile(profile, ["gate.min_chrf={}", change])


def test_every_profile_is_explained() -> None:
    text = (ROOT / "docs" / "training.md").read_text("utf-8")
    assert [name for name in profile_names() if f"| `{name}` |" not in text] == []


def defaults(document: Path) -> Iterator[tuple[str, str]]:
    """Name and default in every table of the document that has a column of defaults."""
    for table in re.findall(r"(?:^\|.*\n)+", prose(document), re.M):
        head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        if "default" in head:
            for row in rows:
                told = row[head.index("default")]
                names = re.findall(r"`([^`]+)`", row[0])
                yield from zip(names, told.split(", ") if len(names) > 1 else [told], strict=True)


@by_document
def test_defaults_are_the_codes(document: Path) -> None:
    request = GenerationRequest([])
    known = SETTINGS | SERVER | {name: getattr(request, name) for name in request.__dataclass_fields__}
    known |= {"max_tokens": DEFAULT_MAX_TOKENS, "target": "by the text's script", "author": None}
    known |= {"split": Parameters().split, "format": Parameters().format}
    known |= {"source": "by the text's script", "glossary": "the server's"}
    for name, told in defaults(document):
        assert name in known, f"{document.name} names {name}"
        assert told == shown(known[name]), name


@by_document
def test_environment_variables_exist(document: Path) -> None:
    for span in spans(document):
        if name := re.match(r"[A-Z]+(_[A-Z]+)+(?![\w])", span):
            assert name[0] in code(), f"{document.name} names {span}"


def test_names_of_code_exist() -> None:
    for span in spans(ROOT / "CONTRIBUTING.md"):
        if name := re.fullmatch(r"([A-Za-z]\w+)(\(\w*\))?", span):
            assert re.search(rf"\b{name[1]}\b", code()), span


def test_errors_have_the_codes_that_are_told() -> None:
    raised = {(str(kind.status), kind.code) for kind in vars(errors).values() if hasattr(kind, "status")}
    told = re.findall(r"\| (\d{3}) \| ([A-Z_]+) \|", (ROOT / "docs" / "serving.md").read_text("utf-8"))
    assert len(told) > 4 and set(told) <= raised


def shown(value: Any) -> str:
    """A default as the documents write it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {item:g}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:.10g}"
    return str(value or "none")


@by_document
def test_options_exist(document: Path) -> None:
    """Options that stand alone between backticks are the server's."""
    told = {re.split("[ =]", span)[0] for span in spans(document) if re.match(r"--\w+", span)}
    assert told - {"--build-arg"} <= SERVER.keys()


def test_every_call_is_answered(tmp_path: Path) -> None:
    """Word for word, against the real server but for its port: every curl line, and the documents' Python."""
    calls = [command for command in commands() if command.words()[0] == "curl"]
    assert len(calls) >= 10
    (tmp_path / "token").write_text("secret\n")
    python_blocks = [block for document in DOCUMENTS for language, block in blocks(document) if language == "python"]
    assert python_blocks
    with start_server(tiny_bundle(tmp_path / "bundle", max_positions=128), tmp_path / "log") as server:

        def here(text: str) -> str:
            text = text.replace("localhost:8080", f"127.0.0.1:{server.http_port}")
            return text.replace("localhost:8081", f"127.0.0.1:{server.grpc_port}")

        for call in calls:
            _, *words = call.words()
            done = subprocess.run(
                ["bash", "-c", f"curl -sS --fail-with-body {here(' '.join(quoted(word) for word in words))}"],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0 and done.stdout, f"{call}\n{done.stdout}{done.stderr}"
        for block in python_blocks:
            python = CLIENTS if "import openai" in block and CLIENTS.exists() else Path(sys.executable)
            command = [python, "-c", here(block).replace("runs/latest/bundle", str(tmp_path / "bundle"))]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            # What goes wrong in a thread is told, and the status stays 0.
            assert done.returncode == 0 and "Traceback" not in done.stderr, f"{block}\n{done.stderr}"


def quoted(word: str) -> str:
    """A word for the shell; what the shell has to fill in stays open."""
    return f'"{word}"' if "$(" in word else shlex.quote(word)
