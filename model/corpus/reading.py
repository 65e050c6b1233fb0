"""Rows from corpus files: sentence pairs from .tsv, .jsonl and .parquet, running text from .txt, .jsonl and .parquet.

A row that cannot be read (no tab, bytes that are not UTF-8, broken JSON, a missing column) is counted in a
:class:`Tally` with its file and line, and skipped: one bad line in a million must not stop a run. A file in which
nothing, or hardly anything, can be read does stop it, early. What is not asked for cannot spoil a row.

Columns of .jsonl and .parquet: the language codes ("ru", "en"), or {"translation": {"ru", "en"}} as on the Hugging
Face hub, or "source" and "target", with "author" if it is there; for running text "text" or "content".
"""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from model.corpus import encoding
from model.corpus.files import MAX_LINE_BYTES, CorpusError, SourceFile, line_blocks, read_blocks, seekable
from model.corpus.header import header

EXAMPLES = 5  # malformed rows described in the card
EARLY_ROWS = 1000  # rows after which a hopeless file is given up
PARQUET_ROWS = 4096
SAMPLE_BYTES = 1024  # of lines that are not UTF-8, to tell their encoding by
BOM = b"\xef\xbb\xbf"
ARRAY = "'.[]'"
ONE_A_LINE = "a .jsonl holds one record a line: `jq -c {} OLD > NEW.jsonl`"

Pair = tuple[str, str, str | None]  # the two sides in the order of the languages, and the author


@dataclass
class Tally:
    """Rows read so far, and those among them that were malformed, over all files and in the current one."""

    languages: Sequence[str] = ()
    rows: int = 0
    malformed: int = 0
    headers: int = 0  # first rows that name the columns
    nameless: int = 0  # rows kept without their author, which was not text
    examples: list[str] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    first: str = ""  # the first malformed row of the current file
    undecoded: bytes = b""  # the first lines that are not UTF-8, of the last file that has any

    def begin(self, file: SourceFile) -> None:
        """Start counting a file."""
        self.files.append({"file": file.name, "role": file.role, "rows": 0, "malformed": 0, "rejected": Counter()})
        self.first = ""

    def count(self, rows: int = 1) -> None:
        """Count rows, malformed or not."""
        self.rows += rows
        self.files[-1]["rows"] += rows

    def leave_out(self, reason: str) -> None:
        """Count a row of the current file that cleaning has rejected."""
        self.files[-1]["rejected"][reason] += 1

    def reject(self, row: int, problem: str) -> None:
        """Count a malformed row; its place is kept for the first few, and for the first of each file."""
        example = encoding.whole(f"{self.files[-1]['file']}:{row}: {problem}")
        self.malformed += 1
        self.files[-1]["malformed"] += 1
        self.first = self.first or example
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)

    def reject_bytes(self, row: int, error: UnicodeDecodeError) -> None:
        """Count a line, or a record's value, that is not UTF-8."""
        if not self.first:
            self.undecoded = b""
        if len(self.undecoded) < SAMPLE_BYTES:
            self.undecoded += bytes(error.object)[:SAMPLE_BYTES] + b"\n"
        self.reject(row, f"bytes that are not UTF-8 ({error.reason} at byte {error.start + 1} of the line)")

    def check_file(self, *, whole: bool) -> None:
        """Stop at a file that is not what its name says: half of its first rows, or all of its rows, are malformed."""
        rows, malformed = self.files[-1]["rows"], self.files[-1]["malformed"]
        if malformed and (malformed == rows if whole else rows >= EARLY_ROWS and 2 * malformed > rows):
            raise CorpusError(
                f"{self.first}\n{malformed:,} of the first {rows:,} rows of this file are malformed"
                f"{self.cure or '; is it the right one?'}"
            )

    def check(self, limit: float) -> None:
        """Stop when more than the share ``limit`` of all rows is malformed."""
        if self.malformed > limit * self.rows:
            raise CorpusError(
                f"{self.examples[0]}\n{self.malformed:,} of {self.rows:,} rows are malformed, more than the "
                f"{limit:.2%} that corpus.max_malformed allows; mend or remove them, or raise the limit{self.cure}"
            )

    @property
    def cure(self) -> str:
        """What to do about the lines that are not UTF-8, if there are any and their encoding is certain enough."""
        name, text = encoding.guess(self.undecoded, self.languages)
        return f"; in {name} it reads {text[:40]!r}: {encoding.cure(name)}" if name else ""


def read_pairs(file: SourceFile, languages: Sequence[str], tally: Tally) -> Iterator[Pair]:
    """The sentence pairs of one file, uncleaned; a missing side (null) is the empty string.

    Raises:
        CorpusError: when the file cannot be read, or hardly any of its rows can.
    """
    tally.begin(file)
    if file.format == ".tsv":
        yield from _tsv(file, tally)
    else:
        for (first, second), author in _records(file, [tuple(languages), ("source", "target")], tally):
            named = isinstance(author, str | None)
            tally.nameless += not named
            yield first, second, author if named else None
    tally.check_file(whole=True)


def read_documents(file: SourceFile, tally: Tally) -> Iterator[Iterable[str]]:
    """The running text of one file, in blocks: a .txt is one document, the other types hold one in each row.

    Raises:
        CorpusError: when the file cannot be read, or hardly any of its rows can.
    """
    tally.begin(file)
    if file.format == ".txt":
        yield _txt(file, tally)
    else:
        for (text,), _ in _records(file, [("text",), ("content",)], tally):
            yield [text]
    tally.check_file(whole=True)


def _tsv(file: SourceFile, tally: Tally) -> Iterator[Pair]:
    for number, line in _lines(file, tally):
        sides = line.split("\t")
        if len(sides) == 2:
            names = header(sides, tally.languages) if number == 1 else ""
            if names == "swapped":
                first, second = tally.languages
                raise CorpusError(
                    f"{file.name}:1: the columns are {line.strip()!r}, corpus.languages says [{first}, {second}]: "
                    f"swap the columns, or set corpus.languages=[{second}, {first}]"
                )
            if names:
                tally.headers += 1
            else:
                yield sides[0], sides[1], None
        elif line.strip():
            tabs = "no tab" if len(sides) == 1 else f"{len(sides) - 1} tabs"
            cure = " (`cut -f1,2 OLD > NEW` keeps the first two columns)" if len(sides) > 2 else ""
            tally.reject(number, f"{tabs} in the line; a .tsv holds source<TAB>target{cure}: {line[:60]!r}")
        else:
            yield "", "", None


def _txt(file: SourceFile, tally: Tally) -> Iterator[str]:
    number = 0
    for block in _blocks(file):
        try:
            text = encoding.decode(block)
            tally.count(text.count("\n") or 1)
        except UnicodeDecodeError:
            good = list(_decode_lines(block.splitlines(keepends=True), number, tally))
            tally.count(len(good))
            text = "".join(line for _, line in good)
        number += block.count(b"\n")
        tally.check_file(whole=False)
        yield text


def _records(file: SourceFile, columns: list[tuple[str, ...]], tally: Tally) -> Iterator[tuple[list[str], Any]]:
    """The wanted values of each record, from whichever of ``columns`` it has, and its author, whatever that is."""
    for number, record in (_parquet if file.format == ".parquet" else _jsonl)(file, columns, tally):
        if not isinstance(record, dict):
            tally.reject(number, f"a JSON {type(record).__name__}, not an object; {ONE_A_LINE.format(ARRAY)}")
            continue
        place, nested = record, record.get("translation")
        if isinstance(nested, dict) and not _find(record, columns):
            place = nested
        names = _find(place, columns)
        if names is None:
            tally.reject(number, _missing(columns, list(place)))
            continue
        try:
            values = [_text(place[name]) for name in names]
        except UnicodeDecodeError as error:
            tally.reject_bytes(number, error)
            continue
        if wrong := [name for name, value in zip(names, values, strict=True) if not isinstance(value, str)]:
            tally.reject(number, f"not text: {', '.join(wrong)}")
            continue
        author = record.get("author")
        with contextlib.suppress(UnicodeDecodeError):
            author = _text(author) or None
        yield values, author


def _text(value: Any) -> Any:
    """A value, which is text if it is bytes that are UTF-8, whatever a file calls them, and none if it is missing."""
    if isinstance(value, UnicodeDecodeError):
        raise value
    return "" if value is None else encoding.decode(value) if isinstance(value, bytes) else value


def _jsonl(file: SourceFile, columns: list[tuple[str, ...]], tally: Tally) -> Iterator[tuple[int, Any]]:
    for number, line in _lines(file, tally):
        if not line.strip():
            tally.count(-1)  # not a record
            continue
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            try:
                escaped = isinstance(line, bytes)
                record = _ESCAPED.decode(line.decode("utf-8", "surrogateescape")) if escaped else _JSON.decode(line)
            except (ValueError, RecursionError) as error:
                start = line.strip()[:1] if number == 1 else ""
                hint = {"[": ONE_A_LINE.format(ARRAY), "{": ONE_A_LINE.format(".")}.get(start, "")
                tally.reject(number, f"not JSON ({error}){hint and '; '}{hint}")
                continue
        yield number, record


def _parquet(file: SourceFile, columns: list[tuple[str, ...]], tally: Tally) -> Iterator[tuple[int, Any]]:
    import pyarrow
    from pyarrow import parquet

    with seekable(file) as stream:
        try:
            table = parquet.ParquetFile(stream)
            names = table.schema_arrow.names
            wanted = _find(names, columns) or (("translation",) if "translation" in names else ())
            if not wanted:
                raise CorpusError(f"{file.name}: {_missing(columns, names)}")
            wanted += ("author",) if "author" in names and len(columns[0]) > 1 else ()
            number = 0
            for batch in table.iter_batches(batch_size=PARQUET_ROWS, columns=list(wanted)):
                tally.count(batch.num_rows)
                yield from enumerate(_rows(batch), number + 1)
                number += batch.num_rows
                tally.check_file(whole=False)
        except (pyarrow.ArrowException, OSError) as error:
            raise CorpusError(f"{file.name}: damaged, or not Parquet: {error}") from None
    if not number:
        raise CorpusError(f"{file.name}: the file is empty; give a file with rows in it")


def _rows(batch: Any) -> Iterator[dict[str, Any]]:
    """The batch's rows; where a value cannot be decoded, the error in its place."""
    try:
        yield from batch.to_pylist(maps_as_pydicts="lossy")
    except UnicodeDecodeError:
        for index in range(batch.num_rows):
            yield {name: _value(batch.column(name)[index]) for name in batch.schema.names}


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py(maps_as_pydicts="lossy")
    except UnicodeDecodeError as error:
        return error


def _find(names: Iterable[str], columns: list[tuple[str, ...]]) -> tuple[str, ...] | None:
    return next((group for group in columns if all(name in names for name in group)), None)


def _missing(columns: list[tuple[str, ...]], found: list[str]) -> str:
    wanted = " or ".join(" and ".join(map(repr, group)) for group in columns)
    return f"no columns {wanted}; found: {', '.join(map(str, found)) or 'none'}"


def _blocks(file: SourceFile) -> Iterator[bytes]:
    for i, block in enumerate(line_blocks(read_blocks(file))):
        if i == 0 and (name := encoding.wide(block[:4096])):
            raise CorpusError(f"{file.name}: the text is in {name}, not UTF-8; {encoding.cure(name)}")
        yield block if i else block.removeprefix(BOM)


def _lines(file: SourceFile, tally: Tally) -> Iterator[tuple[int, Any]]:
    """Numbered lines without their ends, each counted; undecodable and endless ones are rejected here.

    But for those of a .jsonl that are not UTF-8: they come as bytes, for it may be in what nobody reads.
    """
    number, inside = 0, False  # inside: within a line too long to hold
    for block in _blocks(file):
        lines = block.removesuffix(b"\n").split(b"\n") if block else []
        if inside or (len(block) >= MAX_LINE_BYTES // 2 and b"\n" not in block):
            if not inside:
                number += 1
                tally.count()
                array = file.format == ".jsonl" and block.lstrip().startswith(b"[")
                hint = f"; {ONE_A_LINE.format(ARRAY)}" if array else ""
                tally.reject(number, f"the line is longer than {MAX_LINE_BYTES >> 21} MiB{hint}")
            inside, lines = b"\n" not in block, lines[1:]
        try:
            numbered: Iterator[tuple[int, Any]] = enumerate([line.decode() for line in lines], number + 1)
        except UnicodeDecodeError:
            jsonl = file.format == ".jsonl"
            numbered = enumerate(lines, number + 1) if jsonl else _decode_lines(lines, number, tally)
        for at, line in numbered:
            tally.count()
            yield at, line
        number += len(lines)
        tally.check_file(whole=False)


def _decode_lines(lines: list[bytes], number: int, tally: Tally) -> Iterator[tuple[int, str]]:
    for at, line in enumerate(lines, number + 1):
        try:
            yield at, encoding.decode(line)
        except UnicodeDecodeError as error:
            tally.count()
            tally.reject_bytes(at, error)


def _value_of(text: Any) -> Any:
    """A string of a line that is not UTF-8: bytes, if that is because of this one."""
    try:
        return text.encode("utf-8", "surrogateescape") if isinstance(text, str) and not text.isascii() else text
    except UnicodeEncodeError:
        return encoding.whole(text)


def _lenient(value_of: Callable[[Any], Any]) -> json.JSONDecoder:
    """Reads what Python, JavaScript and Java write beside the standard: NaN, endless numbers, surrogates, raw tabs."""
    return json.JSONDecoder(
        object_hook=lambda record: {encoding.whole(name): value_of(value) for name, value in record.items()},
        parse_int=float,
        strict=False,
    )


_JSON = _lenient(lambda value: encoding.whole(value) if isinstance(value, str) else value)
_ESCAPED = _lenient(_value_of)
