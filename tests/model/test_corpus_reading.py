"""Every format in every compression, through real files; every way in which a file can be wrong, by its message."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from model.corpus import CorpusError
from model.corpus.files import MAX_LINE_BYTES, display, extensions, stem
from model.corpus.reading import Tally, read_documents, read_pairs
from model.corpus.sources import expand

PAIRS = [("Привет, мир!", "Hello, world!"), ("Кошка спит.", "The cat sleeps."), ("Ещё 🙂", "More 🙂")]
COMPRESS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}


def parquet_bytes(columns: dict[str, Any]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue().to_pybytes()


def jsonl(records: list[Any]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


RU, EN = [list(column) for column in zip(*PAIRS, strict=True)]
NESTED = [{"ru": ru, "en": en} for ru, en in PAIRS]
CONTENT = {
    "pairs.tsv": "".join(f"{ru}\t{en}\n" for ru, en in PAIRS).encode(),
    "crlf.tsv": ("\ufeff" + "\r\n".join(f"{ru}\t{en}" for ru, en in PAIRS)).encode(),
    "codes.jsonl": jsonl(NESTED),
    "nested.jsonl": jsonl([{"translation": pair} for pair in NESTED]),
    "sides.jsonl": b"\n" + jsonl([{"target": en, "source": ru, "id": 1} for ru, en in PAIRS]),
    "codes.parquet": parquet_bytes({"id": [1, 2, 3], "en": EN, "ru": RU}),
    "nested.parquet": parquet_bytes({"translation": NESTED}),
    "sides.parquet": parquet_bytes({"source": RU, "target": EN}),
}


def write(directory: Path, name: str, data: bytes) -> str:
    path = directory / name
    path.write_bytes(data)
    return str(path)


def pairs(source: str, tally: Tally | None = None) -> list[tuple[str, str, str | None]]:
    tally = tally or Tally()
    return [row for file in expand(source, "parallel") for row in read_pairs(file, ["ru", "en"], tally)]


def documents(source: str, tally: Tally | None = None) -> list[str]:
    tally = tally or Tally()
    return ["".join(blocks) for file in expand(source, "text") for blocks in read_documents(file, tally)]


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("name", CONTENT)
def test_pairs_in_every_format(tmp_path: Path, name: str, compression: str) -> None:
    tally = Tally()
    source = write(tmp_path, name + compression, COMPRESS[compression](CONTENT[name]))
    assert [(ru, en.rstrip("\r"), author) for ru, en, author in pairs(source, tally)] == [(*p, None) for p in PAIRS]
    assert (tally.rows, tally.malformed) == (3, 0)


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("kind", ["txt", "text.jsonl", "content.jsonl", "text.parquet"])
def test_running_text_in_every_format(tmp_path: Path, kind: str, compression: str) -> None:
    text = "Глава 1\n\n  Жил-был кот.\nИ пёс.\n\nEnd"
    column, _, format_ = kind.partition(".")
    data = {"": text.encode(), "jsonl": jsonl([{column: text}]), "parquet": parquet_bytes({column: [text]})}[format_]
    assert documents(write(tmp_path, f"a.{format_ or 'txt'}{compression}", COMPRESS[compression](data))) == [text]


def test_authors_and_nulls(tmp_path: Path) -> None:
    rows = [{"ru": "а", "en": "a", "author": "Анна"}, {"ru": None, "en": "b"}, {"ru": "в", "en": "c", "author": None}]
    expected = [("а", "a", "Анна"), ("", "b", None), ("в", "c", None)]
    assert pairs(write(tmp_path, "a.jsonl", jsonl(rows))) == expected
    columns = {name: [row.get(name) for row in rows] for name in ("author", "ru", "en")}
    assert pairs(write(tmp_path, "a.parquet", parquet_bytes(columns))) == expected


def test_concatenated_members_and_padding_are_read_through(tmp_path: Path) -> None:
    halves = [f"{ru}\t{en}\n".encode() for ru, en in PAIRS]
    for compression, padding in ((".gz", b"\0" * 512), (".zst", b"")):
        data = b"".join(map(COMPRESS[compression], halves)) + padding
        assert len(pairs(write(tmp_path, "a.tsv" + compression, data))) == 3


def test_a_directory_is_all_its_files_of_the_right_types(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path, "README.md", b"# not data")
    write(tmp_path, "b.tsv", CONTENT["pairs.tsv"])
    write(tmp_path, "deep/a.jsonl.gz", gzip.compress(CONTENT["codes.jsonl"]))
    write(tmp_path, "notes.txt", b"text\n")

    def names(kind: str) -> list[str]:
        return [Path(file.url).name for file in expand(str(tmp_path), kind) if file.role == "train"]

    assert names("parallel") == ["b.tsv", "a.jsonl.gz"]
    assert names("text") == ["a.jsonl.gz", "notes.txt"]


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.tsv", b"", "a.tsv.*: the file is empty"),
        ("a.jsonl", b"", "the file is empty"),
        (
            "a.parquet",
            parquet_bytes({"ru": pyarrow.array([], "string"), "en": pyarrow.array([], "string")}),
            "is empty",
        ),
        ("a.tsv", b"no tab here\nnor here\n", r"a.tsv\S*:1: no tab in the line.*\n2 of the first 2 rows"),
        ("a.tsv", b"a\tb\tc\n", r":1: 2 tabs in the line; a .tsv holds source<TAB>target"),
        ("a.tsv", "Привет\tHello\n".encode("cp1251"), r":1: bytes that are not UTF-8 \(.* at byte 1 of the line\)"),
        ("a.jsonl", b'{"ru": "a"', r":1: not JSON \("),
        ("a.jsonl", b"[1]\n", r":1: a JSON list, not an object"),
        (
            "a.jsonl",
            b'{"de": "a", "en": "b"}\n',
            r":1: no columns 'ru' and 'en' or 'source' and 'target'; found: de, en",
        ),
        ("a.jsonl", b'{"ru": 1, "en": "b"}\n', ":1: not text: ru"),
        ("a.parquet", parquet_bytes({"de": ["a"], "id": [1]}), "no columns 'ru' and 'en'.*; found: de, id"),
        ("a.parquet", parquet_bytes({"ru": [1], "en": ["a"]}), ":1: not text: ru"),
        ("a.parquet", b"PAR1 and then nothing", "a.parquet.*: damaged, or not Parquet"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, name: str, data: bytes, message: str, compression: str) -> None:
    source = write(tmp_path, name + compression, COMPRESS[compression](data))
    with pytest.raises(CorpusError, match=message):
        pairs(source)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("missing.tsv", "parallel", "missing.tsv: no such file; check the path"),
        ("missing", "parallel", "no such file"),
        ("a.xlsx", "parallel", r"not a type that kind parallel reads \(.tsv, .csv, .jsonl, .parquet, .po, .mo, .tmx"),
        ("a.txt", "parallel", "this type is read with corpus.kind text"),
        ("a.tsv.bz2", "parallel", "not a type that kind parallel reads"),
        ("a.tsv", "text", "this type is read with corpus.kind parallel"),
        ("empty", "text", "no file of a supported type for kind text .*found: no files"),
        (".", "text", "no file of a supported type for kind text .*found: .bz2, .csv, .tsv, .xlsx; save its text"),
    ],
)
def test_sources_that_cannot_be_used(tmp_path: Path, name: str, kind: str, message: str) -> None:
    for present in ("a.csv", "a.xlsx", "a.tsv.bz2", "a.tsv"):
        write(tmp_path, present, b"a\tb\n")
    if name == "a.txt":
        write(tmp_path, name, b"a\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=message):
        expand(str(tmp_path / name), kind)


@pytest.mark.parametrize("compression", [".gz", ".zst"])
def test_damaged_compression_is_an_error(tmp_path: Path, compression: str) -> None:
    data = COMPRESS[compression](CONTENT["pairs.tsv"] * 1000)
    with pytest.raises(CorpusError, match=f"ends in the middle of its {compression} data"):
        pairs(write(tmp_path, "short.tsv" + compression, data[:-9]))
    with pytest.raises(CorpusError, match=f"(damaged|ends in the middle of its) {compression} data"):
        pairs(write(tmp_path, "cut.tsv" + compression, data[:20] + data[30:]))
    with pytest.raises(CorpusError, match=f"damaged, or not {compression} data"):
        pairs(write(tmp_path, "noise.tsv" + compression, bytes(range(200, 255)) + data[1:]))


def test_bad_rows_among_good_ones_are_counted_and_named(tmp_path: Path) -> None:
    good = "Кошка\tCat\n".encode()
    tally = Tally()
    source = write(tmp_path, "a.tsv", good * 2 + b"no tab\n" + good + b"\xff\tx\n" + good * 996)
    assert len(pairs(source, tally)) == 999
    assert (tally.rows, tally.malformed) == (1001, 2)
    assert [example.removeprefix(source) for example in tally.examples] == [
        ":3: no tab in the line; a .tsv holds source<TAB>target: 'no tab'",
        ":5: bytes that are not UTF-8 (invalid start byte at byte 1 of the line)",
    ]
    tally.check(0.01)
    with pytest.raises(CorpusError, match=r"a.tsv:3: no tab.*\n2 of 1,001 rows are malformed, more than the 0.10%"):
        tally.check(0.001)


def test_bad_bytes_in_running_text_cost_their_line(tmp_path: Path) -> None:
    tally = Tally()
    source = write(tmp_path, "a.txt", b"one\ntwo \xff\nthree")
    assert documents(source, tally) == ["one\nthree"]
    assert (tally.rows, tally.examples) == (
        3,
        [f"{source}:2: bytes that are not UTF-8 (invalid start byte at byte 5 of the line)"],
    )


def test_bad_bytes_in_parquet_cost_their_row(tmp_path: Path) -> None:
    column = pyarrow.Array.from_buffers(pyarrow.string(), 2, [None, *pyarrow.array([b"ok", b"\xff"]).buffers()[1:]])
    tally = Tally()
    assert pairs(write(tmp_path, "a.parquet", parquet_bytes({"ru": column, "en": ["a", "b"]})), tally) == [
        ("ok", "a", None)
    ]
    assert (tally.rows, tally.malformed) == (2, 1)
    assert ":2: bytes that are not UTF-8" in tally.examples[0]


def test_a_hopeless_file_is_given_up_early(tmp_path: Path) -> None:
    tally = Tally()
    with pytest.raises(CorpusError, match=":1: no tab in the line"):
        pairs(write(tmp_path, "a.tsv", b"no tab\n" * 2_000_000), tally)
    assert tally.rows < 500_000


def test_a_line_without_end_is_rejected_and_the_next_is_read(tmp_path: Path) -> None:
    tally = Tally()
    long = b"x" * (3 * MAX_LINE_BYTES) + b"\ty\n"
    assert pairs(write(tmp_path, "a.tsv", b"a\tb\n" + long + b"c\td"), tally) == [("a", "b", None), ("c", "d", None)]
    assert tally.rows == 3
    assert ":2: the line is longer than" in tally.examples[0]


@pytest.mark.parametrize("text", ["слово " * 1_000_000, "ы" * 4_000_000])
def test_running_text_without_a_line_end_is_read_whole(tmp_path: Path, text: str) -> None:
    assert documents(write(tmp_path, "a.txt", text.encode())) == [text]


def test_names() -> None:
    assert extensions("s3://b/x.TSV.ZST") == (".tsv", ".zst")
    assert [stem(name) for name in ("a/test_docs.tsv", "x.v2.jsonl.gz", "https://h/t.tsv?sig=1", "hf://o/name/")] == [
        "test_docs",
        "x.v2",
        "t",
        "name",
    ]
    assert display("https://user:secret@host/x.tsv?signature=abc") == "https://host/x.tsv"
