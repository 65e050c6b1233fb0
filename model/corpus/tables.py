"""Sentence pairs from tables: .tsv, and .csv as spreadsheets save it, with commas, semicolons or tabs."""

import csv
import re
from collections.abc import Iterable, Iterator

from model.corpus.files import CorpusError, SourceFile
from model.corpus.header import header
from model.corpus.lines import text_lines
from model.corpus.tally import Tally

FIELD_CHARS = 1 << 17  # a longer field is a quote that is never closed
Columns = list[tuple[str, ...]]


def tsv_pairs(file: SourceFile, columns: Columns, tally: Tally) -> Iterator[tuple[str, str]]:
    """The two columns of every line; an empty line is a pair of empty sides.

    Raises:
        CorpusError: when the columns are named the other way round.
    """
    for number, line in text_lines(file, tally):
        sides = line.split("\t")
        if len(sides) == 2:
            if number > 1 or not _names_columns(file, sides, tally):
                yield sides[0], sides[1]
        elif line.strip():
            tabs = "no tab" if len(sides) == 1 else f"{len(sides) - 1} tabs"
            cure = " (`cut -f1,2 OLD > NEW` keeps the first two columns)" if len(sides) > 2 else ""
            tally.reject(number, f"{tabs} in the line; a .tsv holds source<TAB>target{cure}: {line[:60]!r}")
        else:
            yield "", ""


def csv_pairs(file: SourceFile, columns: Columns, tally: Tally) -> Iterator[tuple[str, str]]:
    """The columns that the first row names as ``columns`` has them, or else the only two.

    Raises:
        CorpusError: when the columns are not there, or named the other way round, and where a quote is never closed.
    """
    lines = text_lines(file, tally)
    number, first = next(lines, (1, ""))
    marks = re.sub('"[^"]*"', "", first)
    delimiter = max(";\t,", key=lambda mark: (marks.count(mark), mark == ","))
    reader = csv.reader((f"{line}\n" for line in _again(first, lines)), delimiter=delimiter)
    csv.field_size_limit(FIELD_CHARS)
    wanted, begin = (0, 1), number - 1
    try:
        for index, row in enumerate(reader):
            line, begin = begin + 1, number - 1 + reader.line_num
            tally.count(line - begin)  # a field may go over several lines, and is one row
            if not index:
                names = [name.strip() for name in row]
                if found := find_columns(names, columns):
                    wanted = names.index(found[0]), names.index(found[1])
                    tally.headers += 1
                    width = len(row)
                    continue
                if (width := len(row)) != 2:
                    problem = "a first row that names them, or no more than two"
                    raise CorpusError(f"{file.name}:1: {missing_columns(columns, names)}; a .csv has {problem}")
                if _names_columns(file, row, tally):
                    continue
            if not row:
                yield "", ""
            elif len(row) != width:
                tally.reject(line, f"{len(row)} fields in the row, the first has {width}: {delimiter.join(row)[:60]!r}")
            else:
                yield row[wanted[0]], row[wanted[1]]
    except csv.Error as error:
        raise CorpusError(f"{file.name}:{begin + 1}: {error}; is a quote not closed there?") from None


def find_columns(names: Iterable[str], columns: Columns) -> tuple[str, ...] | None:
    """The first group of ``columns`` that is there as a whole."""
    return next((group for group in columns if all(name in names for name in group)), None)


def missing_columns(columns: Columns, found: list[str]) -> str:
    """What to say where no group of ``columns`` is there."""
    wanted = " or ".join(" and ".join(map(repr, group)) for group in columns)
    return f"no columns {wanted}; found: {', '.join(map(str, found)) or 'none'}"


def _names_columns(file: SourceFile, sides: list[str], tally: Tally) -> bool:
    """Whether a first row is no pair; it is counted then."""
    names = header(sides, tally.languages)
    if names == "swapped":
        row, (first, second) = "\t".join(sides).strip(), tally.languages
        raise CorpusError(
            f"{file.name}:1: the columns are {row!r}, corpus.languages says [{first}, {second}]: "
            f"swap the columns, or set corpus.languages=[{second}, {first}]"
        )
    tally.headers += bool(names)
    return bool(names)


def _again(first: str, lines: Iterator[tuple[int, str]]) -> Iterator[str]:
    yield first
    for _, line in lines:
        yield line
