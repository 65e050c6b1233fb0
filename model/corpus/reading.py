"""Rows from corpus files: sentence pairs or running text, from whatever type of file they are in.

A row that cannot be read (no tab, bytes that are not UTF-8, broken JSON, a missing column) is counted in a
:class:`Tally` with its file and line, and skipped: one bad line in a million must not stop a run. A file in which
nothing, or hardly anything, can be read does stop it, early. What is not asked for cannot spoil a row.

Columns of .jsonl and .parquet: the language codes ("ru", "en"), or {"translation": {"ru", "en"}} as on the Hugging
Face hub, or "source" and "target", with "author" if it is there; for running text "text" or "content".
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import orjson

from model import encoding
from model.corpus.bilingual import catalogue_pairs, exchanged_pairs
from model.corpus.files import CorpusError, SourceFile, seekable
from model.corpus.lines import ARRAY, ONE_A_LINE, decode_lines, text_blocks, text_lines
from model.corpus.sides import side_pairs
from model.corpus.tables import csv_pairs, find_columns, missing_columns, tsv_pairs
from model.corpus.tally import Tally

PARQUET_ROWS = 4096
_READERS = {
    ".tsv": tsv_pairs,
    ".csv": csv_pairs,
    **dict.fromkeys((".po", ".mo"), catalogue_pairs),
    **dict.fromkeys((".tmx", ".xliff", ".xlf"), exchanged_pairs),
}

Pair = tuple[str, str, str | None]  # the two sides in the order of the languages, and the author


def read_pairs(file: SourceFile, languages: Sequence[str], tally: Tally) -> Iterator[Pair]:
    """The sentence pairs of one file, uncleaned; a missing side (null) is the empty string.

    Raises:
        CorpusError: when the file cannot be read, or hardly any of its rows can.
    """
    tally.begin(file)
    columns, reader = [tuple(languages), ("source", "target")], _READERS.get(file.format)
    if pairs := side_pairs(file, tally) if file.other else reader(file, columns, tally) if reader else None:
        for first, second in pairs:
            yield first, second, None
    else:
        for (first, second), author in _records(file, columns, tally):
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


def _txt(file: SourceFile, tally: Tally) -> Iterator[str]:
    number = 0
    for block in text_blocks(file):
        try:
            text = encoding.decode(block)
            tally.count(text.count("\n") or 1)
        except UnicodeDecodeError:
            good = list(decode_lines(block.splitlines(keepends=True), number, tally))
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
        if isinstance(nested, dict) and not find_columns(record, columns):
            place = nested
        names = find_columns(place, columns)
        if names is None:
            tally.reject(number, missing_columns(columns, list(place)))
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
    for number, line in text_lines(file, tally):
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
            wanted = find_columns(names, columns) or (("translation",) if "translation" in names else ())
            if not wanted:
                raise CorpusError(f"{file.name}: {missing_columns(columns, names)}")
            wanted += ("author",) if "author" in names and len(columns[0]) > 1 else ()
            number = 0
            for batch in table.iter_batches(batch_size=PARQUET_ROWS, columns=list(wanted)):
                # Its blocks are read in any order, or all at first.
                file.meter.place = (file.size or 0) * number // max(1, table.metadata.num_rows)
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
