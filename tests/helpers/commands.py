"""The commands that documents and docstrings tell people to type: found, and taken apart as a shell would."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "k8s" / "README.md", *(ROOT / "docs").glob("*.md")]
TOOLS = r"(?:[\w./-]*/)?(?:python3? -[mc]|torchrun --\S+) |curl |kubectl |docker "
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
# A line of prose may begin with "make", so there only the Makefile's own targets count.
_LINE = re.compile(rf"(?:[A-Z_]+=\S+ )*(?:{TOOLS}|echo .*\| *\S*python|make (?:{'|'.join(TARGETS)})(?![\w-]))")
_SPAN = re.compile(rf"(`{{1,2}})((?:[A-Z_]+=\S+ )*(?:{TOOLS}|make (?=[a-z]))[^`]+)\1")
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.S | re.M)


@dataclass(frozen=True)
class Command:
    """A command where it stands; ``mention`` is one inside a sentence, which may leave its arguments out."""

    where: str
    text: str
    mention: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"

    def words(self) -> list[str]:
        """The words of the command, without pipes, redirections, variables in front, comments and optional brackets."""
        # What stands far to the right on the same line is a remark.
        text = self.text if "\n" in self.text else re.split(r" {3,}", self.text)[0]
        lexer = shlex.shlex(text, posix=True, punctuation_chars="|<>&")
        lexer.whitespace_split = True
        parts: list[list[str]] = [[]]
        for word in lexer:
            if word[0] in "|<>&":
                parts.append([])
            else:
                parts[-1].append(word.removeprefix("["))
        words = next((part for part in parts if any(re.search(r"python3?$", word) for word in part)), parts[0])
        first = next(i for i, word in enumerate(words) if not re.match("[A-Z_]+=", word))
        return [word if "[" in word else word.removesuffix("]") for word in words[first:]]


@cache
def commands() -> list[Command]:
    """Every command of the documents, of the docstrings, and of the comments and messages in the code."""
    return [command for path in tracked() for command in _commands(path)]


@cache
def tracked() -> list[Path]:
    """The repository's files, new ones too; everything below it where there is no git."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
    names = done.stdout.splitlines() or [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
    return [path for name in names if (path := ROOT / name).is_file() and ".venv" not in name]


def blocks(document: Path) -> list[tuple[str, str]]:
    """Language and text of the fenced blocks of a document."""
    return _FENCE.findall(document.read_text("utf-8"))


def _commands(path: Path) -> Iterator[Command]:
    name = str(path.relative_to(ROOT))
    if path.suffix == ".py" and path != Path(__file__):
        source = path.read_text("utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value:
                yield from _lines(name, node.value)
        yield from _spans(name, source)
    elif path.suffix == ".md":
        text = path.read_text("utf-8")
        yield from _lines(name, text)
        yield from _spans(name, _FENCE.sub("", text))
    elif path.suffix in (".yaml", "") and "results" not in path.parts:
        text = path.read_text("utf-8", errors="replace")
        comments = "\n".join(re.findall(r"^# *(?:.*?: )?((?:make|docker) .*)$", text, re.M))
        yield from _lines(name, comments)


def _lines(name: str, text: str) -> Iterator[Command]:
    """Commands that begin a line; one goes on until its quotes are closed, and after a backslash."""
    lines = iter(text.splitlines())
    for line in lines:
        if not _LINE.match(line.strip()):
            continue
        command = line.strip()
        while command.endswith("\\") or _open(command):
            following = next(lines, None)
            if following is None:
                break
            command = f"{command.removesuffix(chr(92))}\n{following}"
        if not _open(command):
            yield Command(name, command)


def _spans(name: str, text: str) -> Iterator[Command]:
    for match in _SPAN.finditer(text):
        yield Command(name, " ".join(match[2].split()), mention=True)


def _open(command: str) -> bool:
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return True
    return False
