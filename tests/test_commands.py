"""Every command that a document, a docstring or a message tells people to type is understood by what it calls."""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import importlib.util
import io
import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.request import read_request
from tests.helpers.commands import ROOT, TARGETS, Command, commands, tracked

BENCH = re.findall(r"^([\w-]+)", (ROOT / "requirements" / "bench.in").read_text("utf-8"), re.M)
PACKAGES = ("benchmarks", "evaluation", "model", "pipelines", "release", "serving", "tools")


def chosen(*tools: str) -> list[Command]:
    """The commands that begin with one of the tools, each once; a line that is to be typed goes before a mention."""
    found = {tuple(command.words()): command for command in sorted(commands(), key=lambda each: not each.mention)}
    return [command for (tool, *_), command in found.items() if Path(tool).name in tools]


def modules() -> list[tuple[Command, str, list[str]]]:
    """Every ``python -m`` of ours: where, the module, its arguments."""
    found = []
    for command in chosen("python", "python3"):
        _, flag, name, *arguments = command.words()
        if flag == "-m" and name.split(".")[0] in PACKAGES:
            found.append((command, name, arguments))
    for command in chosen("torchrun"):
        if "-m" in (words := command.words()):  # else a sentence begins with its name
            name, *arguments = words[words.index("-m") + 1 :]
            found.append((command, name, arguments))
    return found


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of ``python -m name``."""
    spec = importlib.util.find_spec(name)
    assert spec, f"there is no module {name}"
    if spec.submodule_search_locations:
        spec = importlib.util.find_spec(f"{name}.__main__")
    assert spec and spec.origin, f"{name} cannot be run"
    try:
        return importlib.import_module(spec.name).parser()
    except ModuleNotFoundError as missing:
        # The other engines have an environment of their own; the command line needs none of them.
        assert missing.name and missing.name.split(".")[0] in BENCH, missing
    tree = ast.parse(Path(spec.origin).read_text("utf-8"))
    ours = [node for node in tree.body if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGES)]
    made = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "parser")
    made.returns, tree.body = None, [*ours, made]
    found: dict[str, Any] = {"__doc__": "", "Path": Path}
    exec(compile(tree, spec.origin, "exec"), found)
    return found["parser"]()


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace | None:
    """The parsed arguments; None for --help."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return parser.parse_args(arguments)
    except SystemExit as end:
        assert end.code == 0, said.getvalue()
        return None


def test_the_commands_are_found() -> None:
    texts = [command.text for command in commands()]
    assert "make pipeline-run PROFILE=gpt CORPUS=novel.txt" in texts
    assert "kubectl apply -f k8s/" in texts
    assert len(modules()) > 50 and len(chosen("make")) > 20 and len(chosen("curl")) > 10


def accept(options: argparse.Namespace, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check a request to the pipeline as it does itself, in a folder that has the files that are named."""
    monkeypatch.chdir(folder)
    for value in [*options.corpus, *options.test]:
        if name := re.sub(r"\S+://\S+", "", value).strip():
            (folder / name).write_text("a\tb\n", "utf-8")
    begun = options.init_from if "://" in options.init_from else ""  # no run is there
    read_request(options.profile, options.set, options.corpus, options.test, begun)


@pytest.mark.parametrize("command", modules(), ids=lambda found: str(found[0]))
def test_every_module_takes_its_arguments(
    command: tuple[Command, str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that is only mentioned may leave its arguments out."""
    told, name, arguments = command
    parser = parser_of(name)
    if arguments or not told.mention:
        options = parse(parser, arguments)
        if name == "pipelines.run" and options:
            accept(options, tmp_path, monkeypatch)


def test_every_module_that_runs_is_told() -> None:
    """What has a ``__main__`` names its command in its own docstring or another's."""
    runnable = set()
    for path in tracked():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path.suffix == ".py" and name.split(".")[0] in PACKAGES:
            body = ast.parse(path.read_text("utf-8")).body
            if any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in body):
                runnable.add(name.removesuffix(".__main__"))
    assert runnable and runnable <= {name for _, name, _ in modules()}


@pytest.mark.parametrize(
    "command", [each for each in chosen("python", "python3") if each.words()[1] == "-c"], ids=lambda each: each.where
)
def test_every_line_of_code_runs(command: Command) -> None:
    python, _, code = command.words()
    if "/" not in python:
        python = sys.executable
    elif not (ROOT / python).exists():
        pytest.skip(f"no {python}: NOT run: {command}")
    done = subprocess.run([python, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


@pytest.mark.parametrize("command", chosen("make"), ids=str)
def test_every_make_line_is_understood(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shell and make make of it is what the program takes: nothing is run."""
    _, target, *variables = command.words()
    assert target in TARGETS
    assert all(re.match(r"[A-Z_]+=", word) for word in variables)
    line = f"{shlex.join(command.words())} -n --no-print-directory -o .venv/.stamp -o .venv-bench/.stamp"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for shown in done.stdout.replace("\\\n", " ").splitlines():
        words = shlex.split(shown.replace("exec ", ""), comments=True)
        if words[1:2] == ["-m"] and words[2].split(".")[0] in PACKAGES:
            options = parse(parser_of(words[2]), words[3:])
            if words[2] == "pipelines.run" and options:
                accept(options, tmp_path, monkeypatch)


def test_every_kubectl_and_docker_line_names_what_there_is() -> None:
    files = [path.read_text("utf-8") for path in (ROOT / "k8s").rglob("*.yaml")]
    documents = [document for text in files for document in yaml.safe_load_all(text) if "metadata" in document]
    named = {(d["kind"].lower(), d["metadata"]["name"]) for d in documents}
    # Kubeflow's namespace is made with Kubeflow.
    named |= {("namespace", d["metadata"]["namespace"]) for d in documents if "namespace" in d["metadata"]}
    # KServe makes a Service of an InferenceService; people make the secrets that no manifest has.
    named |= {("service", f"{name}-predictor") for kind, name in named if kind == "inferenceservice"}
    named |= {("secret", name) for text in files for name in re.findall(r"secretName: ([\w-]+)", text)}
    for command in chosen("kubectl", "docker"):
        words = command.words()
        for option, value in itertools.pairwise(words):
            if option in ("-f", "-k"):
                assert (ROOT / value).exists(), command
            if option == "-n":
                assert ("namespace", value) in named, command
        for kind, name in re.findall(
            r"\b(inferenceservice|service|deployment|secret)(?:/|=| generic | )([a-z][\w-]+)", command.text
        ):
            assert (kind, name) in named, command
    assert len(chosen("kubectl")) > 3 and len(chosen("docker")) > 1
