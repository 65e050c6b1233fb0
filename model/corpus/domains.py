"""Where each row of a file is from: a file beside it that names a domain in each line, such as docs, ui or news.

``pairs.source`` belongs to ``pairs.tsv``, or to ``pairs.ru`` and ``pairs.en``, and may be compressed as they may. Its
line 7 tells of the file's row 7, the one that names the columns counted, too. A blank line tells nothing.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from model.corpus.files import WEB, CorpusError, SourceFile, extensions, line_blocks, read_blocks, reported
from model.corpus.sides import side_of

SUFFIX = ".source"
# Their rows are counted one by one as they are read.
ROW_BY_ROW = (".tsv", ".csv", ".jsonl", ".po", ".mo", ".tmx", ".xliff", ".xlf")


def add_domains(files: list[SourceFile], languages: Sequence[str]) -> list[SourceFile]:
    """The files of a folder, each with that of its rows' domains, which is no file of its own then."""
    there = {file.name: file for file in files}
    found = {}
    for file in files:
        if beside := next((there[name] for name in _names(file.name, languages) if name in there), None):
            found[file.name] = beside
    taken = {file.name for file in found.values()}
    return [replace(file, domains=found.get(file.name)) for file in files if file.name not in taken]


def with_domains(file: SourceFile, filesystem: Any, path: str, languages: Sequence[str]) -> SourceFile:
    """The file with that of its rows' domains, where one lies beside it; on the web it is not looked for."""
    folder, own = path.rpartition("/")[0], file.url.rpartition("/")[2]
    for name in [] if file.url.startswith(WEB) else _names(own, languages):
        with reported(file.name):
            if filesystem.exists(f"{folder}/{name}"):
                size = filesystem.info(f"{folder}/{name}").get("size")
                shown, url = (text.removesuffix(own) + name for text in (file.name, file.url))
                return replace(file, domains=SourceFile(url, shown, size))
    return file


class Domains:
    """The domains of a file's rows, read along with them."""

    def __init__(self, file: SourceFile) -> None:
        self._file, self._lines = file, _lines(file.domains) if file.domains else None
        self._row, self._domain = 0, ""

    def of(self, row: int) -> str | None:
        """The domain of a row by its number from 1 on, which never falls; None where nothing names it.

        Raises:
            CorpusError: where the lines have come to an end.
        """
        if self._lines and row > self._row:
            if row > self._row + 1:
                next(itertools.islice(self._lines, row - self._row - 1, row - self._row - 1), None)
            if (line := next(self._lines, None)) is None:
                self._differ(f"ends before the row {row:,}")
            self._row, self._domain = row, str(line)
        return self._domain or None

    def end(self, rows: int) -> None:
        """Check that there are as many lines as the file had rows.

        Raises:
            CorpusError: where there are not.
        """
        if self._lines and rows:
            self.of(rows)
            if next(self._lines, None) is not None:
                self._differ(f"goes on after the last row, {rows:,},")

    def _differ(self, problem: str) -> None:
        assert self._file.domains
        raise CorpusError(
            f"{self._file.domains.name}: {problem} of {self._file.name}, whose domains it names, a line for each row; "
            "copy or make both again, or name it otherwise if it is something else"
        )


def _names(name: str, languages: Sequence[str]) -> list[str]:
    """What the file with the domains of a file's rows may be called."""
    kind, compression = extensions(name)
    side = side_of(name, languages)
    if not side and kind not in ROW_BY_ROW:
        return []
    plain = side[1] if side else name[: len(name) - len(kind) - len(compression)]
    return [f"{plain}{SUFFIX}{ending}" for ending in ("", ".zst", ".gz")]


def _lines(file: SourceFile) -> Iterator[str]:
    for block in line_blocks(read_blocks(file)):
        yield from (line.decode("utf-8", "replace").strip() for line in block.removesuffix(b"\n").split(b"\n"))
