"""What is wrong with people's files, in the words they get: encodings, columns, headers, counts by reason.

And what is no reason to lose a row.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from model.config import CorpusConfig
from model.corpus import CorpusError, prepare_corpus, read_split
from model.corpus.files import BLOCK_BYTES
from model.corpus.header import header
from model.encoding import decode, guess, whole, wide

CONFIG = CorpusConfig(valid_rows=2, heldout_rows=2, leaks="exact", duplicates="exact")
PAIRS = [(f"Предложение номер {n}.", f"Sentence number {n}.") for n in range(40)]
TSV = "".join(f"{ru}\t{en}\n" for ru, en in PAIRS)


def config(**settings: Any) -> CorpusConfig:
    return CorpusConfig(**{"valid_rows": 2, "heldout_rows": 2, "leaks": "exact", "duplicates": "exact", **settings})


def prepare(tmp_path: Path, name: str, data: bytes, **settings: Any) -> dict[str, Any]:
    (tmp_path / name).write_bytes(data)
    return prepare_corpus([str(tmp_path / name)], [], tmp_path / "out", config(**settings))


def refusal(tmp_path: Path, name: str, data: bytes, **settings: Any) -> str:
    with pytest.raises(CorpusError) as caught:
        prepare(tmp_path, name, data, **settings)
    return str(caught.value)


def kept(tmp_path: Path) -> set[tuple[str, str]]:
    return {(r["ru"], r["en"]) for split in ("train", "valid", "heldout") for r in read_split(tmp_path / "out", split)}


# Encodings


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(("name", "kind"), [("a.tsv", "parallel"), ("a.txt", "text"), ("a.jsonl.gz", "text")])
def test_wide_encodings_are_named_with_their_cure(tmp_path: Path, encoding: str, name: str, kind: str) -> None:
    data = TSV.encode(encoding)
    said = refusal(tmp_path, name, gzip.compress(data) if name.endswith(".gz") else data, kind=kind)
    named = encoding.upper().replace("-LE", "LE").replace("-BE", "BE")
    assert said == (
        f"{tmp_path}/{name}: the text is in {named}, not UTF-8; convert it with `iconv -f {named} -t UTF-8 OLD > NEW`"
    )


@pytest.mark.parametrize(
    ("encoding", "languages", "text"),
    [
        ("cp1251", ["ru", "en"], "Привет, мир!\tHello, world!\n"),
        ("koi8-r", ["ru", "en"], "Привет, мир!\tHello, world!\n"),
        ("cp866", ["ru", "en"], "Привет, мир!\tHello, world!\n"),
        ("cp1251", ["en", "uk"], "Hello, world!\tПривіт, світе!\n"),
        ("cp1252", ["de", "en"], "Das Café ist größer.\tThe café is bigger.\n"),
        ("cp1253", ["el", "en"], "Γειά σου κόσμε\tHello, world!\n"),
        ("cp1255", ["he", "en"], "שלום עולם\tHello, world!\n"),
        ("gb18030", ["zh", "en"], "你好，世界。\tHello, world!\n"),
        ("cp932", ["ja", "en"], "こんにちは、世界。\tHello, world!\n"),
        ("euc-jp", ["ja", "en"], "こんにちは、世界。\tHello, world!\n"),
        ("big5", ["zh", "en"], "這是一個句子，很好。\tThis is a sentence.\n"),
        ("cp1252", ["en", "ru"], "The café is naïve.\tCafe\n"),
        ("cp1252", ["fr", "en"], "Çà et là, l'été s'achève à Noël.\tSummer ends.\n"),
        ("cp1250", ["pl", "en"], "Zażółć gęślą jaźń\tMake it yellow\n"),
        ("iso8859-2", ["cs", "en"], "Příliš žluťoučký kůň\tA too yellow horse\n"),
        ("cp949", ["ko", "en"], "안녕하세요 세계\tHello, world!\n"),
    ],
)
def test_other_encodings_are_named_with_their_cure(
    tmp_path: Path, encoding: str, languages: list[str], text: str
) -> None:
    for name, kind in (("a.tsv", "parallel"), ("a.txt", "text")):
        said = refusal(tmp_path, name, text.encode(encoding) * 9, languages=languages, kind=kind)
        assert "bytes that are not UTF-8" in said and text[:5] in said
        assert f"`iconv -f {encoding.upper()} -t UTF-8 OLD > NEW`" in said


def test_a_page_of_which_most_lines_are_ascii_is_named_too(tmp_path: Path) -> None:
    text = "Das ist ein Satz.\tThis is a sentence.\n" * 20 + "Das Café ist größer.\tThe cafe is bigger.\n"
    said = refusal(tmp_path, "a.tsv", text.encode("cp1252"), languages=["de", "en"])
    assert "1 of 21 rows are malformed, more than the 1.00%" in said
    assert said.endswith(
        "; in CP1252 it reads 'Das Café ist größer.\\tThe cafe is bigger.': convert it with "
        "`iconv -f CP1252 -t UTF-8 OLD > NEW`"
    )
    (tmp_path / "good.tsv").write_text(TSV, "utf-8")
    with pytest.raises(CorpusError, match=r"must be whole; mend or remove the row; in CP1252 it reads"):
        prepare_corpus([str(tmp_path / "good.tsv")], [str(tmp_path / "a.tsv")], tmp_path / "out", CONFIG)


def test_dashes_and_zeros_are_no_letters() -> None:
    assert wide("Кот — это… кот.\n".encode("utf-16-le")) == "UTF-16LE"
    assert wide(b"a\0b\tc\n\0plain text\n" * 9) == wide("Кот\0\tCat\0\nпёс\0\tdog\n".encode() * 9) == ""


@given(st.text(), st.sampled_from(["utf-8", "utf-8-sig"]))
def test_no_text_in_utf8_is_taken_for_another(text: str, encoding: str) -> None:
    if "\0" not in text or not text.isascii():
        assert wide(text.encode(encoding)) == ""


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_byte_order_mark_tells(text: str) -> None:
    assert wide(text.encode("utf-16")).startswith("UTF-")


def test_too_little_to_guess_by_is_not_guessed_at() -> None:
    assert guess("Я".encode("cp1251"), ["ru", "en"]) == ("", "")
    assert guess(b"plain", ["ru", "en"]) == ("", "")


@given(st.binary(), st.lists(st.sampled_from(["ru", "de", "zh", "xx"]), max_size=2))
def test_any_bytes_can_be_guessed_at(line: bytes, languages: list[str]) -> None:
    name, text = guess(line, languages)
    assert not name or line.decode(name, "replace").split("\n")[0] == text


@given(st.text())
def test_surrogates_are_joined_or_left_out(text: str) -> None:
    units = [unit for c in text for unit in c.encode("utf-16-le")]
    surrogates = "".join(chr(units[i] + 256 * units[i + 1]) for i in range(0, len(units), 2))
    assert whole(surrogates) == text == decode(surrogates.encode("utf-8", "surrogatepass"))
    assert whole("\ud83d" + text + "\ud83d") == text == whole(text)


def test_lone_surrogates_are_cleaned_in_every_reader(tmp_path: Path) -> None:
    good = [json.dumps({"ru": ru, "en": en}) for ru, en in PAIRS]
    bad = '{"ru": "Кот \\ud83d спит.", "en": "The cat \\ude00 sleeps.", "translation": {"x\\ud83d": "\\udc00"}}'
    smile = '{"ru": "Улыбка \\ud83d\\ude00", "en": "A smile \\ud83d\\ude00"}'
    data = "\n".join([*good, bad, smile]).encode()
    prepare(tmp_path, "a.jsonl", data)
    expected = {*PAIRS, ("Кот спит.", "The cat sleeps."), ("Улыбка 😀", "A smile 😀")}
    assert kept(tmp_path) == expected
    lines = TSV + "Кот \ud83d спит.\tThe cat \ude00 sleeps.\nУлыбка \ud83d\ude00\tA smile 😀\n"
    prepare(tmp_path, "a.tsv", lines.encode("utf-8", "surrogatepass"))
    assert kept(tmp_path) == expected
    columns = [[line.split("\t")[i].encode("utf-8", "surrogatepass") for line in lines.splitlines()] for i in (0, 1)]
    parquet.write_table(pyarrow.table({"ru": columns[0], "en": columns[1]}), tmp_path / "a.parquet")
    test = tmp_path / "test.jsonl"
    test.write_text('{"ru": "Пёс \\ud83d лает", "en": "Dog"}\n', "utf-8")
    prepare_corpus([str(tmp_path / "a.parquet")], [str(test)], tmp_path / "out", CONFIG)
    assert kept(tmp_path) == expected
    assert list(read_split(tmp_path / "out", "test/test")) == [{"ru": "Пёс  лает", "en": "Dog"}]
    text = "".join(f"Кот \ud83d спит {n} часов.\n" for n in range(200))
    (tmp_path / "a.txt").write_bytes(text.encode("utf-8", "surrogatepass"))
    prepare_corpus([str(tmp_path / "a.txt")], [], tmp_path / "out", config(kind="text", max_chars=100))


# What nobody asked for


@pytest.mark.parametrize(
    "extra",
    [
        '"score": NaN',
        '"score": -Infinity',
        '"score": 1e999',
        '"n": ' + "9" * 5000,
        '"note": "raw\ttab"',
        '"ru": "Нет"',
        '"translation": {"ru": 5}',
        '"author": 7',
        '"author": {"name": "Anna"}',
        '"author": NaN',
        '"source": null, "target": 3',
        '"meta": {"deep": [1, {"x": NaN}]}',
    ],
)
def test_a_field_that_nobody_reads_spoils_no_row(tmp_path: Path, extra: str) -> None:
    lines = [f'{{{extra}, "ru": "{ru}", "en": "{en}"}}' for ru, en in PAIRS]
    card = prepare(tmp_path, "a.jsonl", "\n".join(lines).encode())
    assert kept(tmp_path) == set(PAIRS)
    assert card["authors"] == [] and card["counts"]["rejected"] == {}
    told = "40 rows have an author that is not text, and are kept without it"
    assert (told in card["notes"]) == ("author" in extra)


@pytest.mark.parametrize("field", ["note", "author"])
def test_bytes_of_a_field_that_nobody_reads_spoil_no_row(tmp_path: Path, field: str) -> None:
    lines = [f'{{"{field}": "XX", "ru": "{ru}", "en": "{en}"}}'.encode().replace(b"XX", b"caf\xe9") for ru, en in PAIRS]
    prepare(tmp_path, "a.jsonl", b"\n".join(lines))
    assert kept(tmp_path) == set(PAIRS)
    bad = '{"ru": "Привет, мир", "en": "Hello"}\n'.encode("cp1251") * 40
    assert "`iconv -f CP1251 -t UTF-8 OLD > NEW`" in refusal(tmp_path, "a.jsonl", bad)


def test_a_map_of_languages_is_read(tmp_path: Path) -> None:
    kind = pyarrow.map_(pyarrow.string(), pyarrow.string())
    column = pyarrow.array([[("ru", ru), ("en", en)] for ru, en in PAIRS], kind)
    parquet.write_table(pyarrow.table({"translation": column}), tmp_path / "a.parquet")
    prepare_corpus([str(tmp_path / "a.parquet")], [], tmp_path / "out", CONFIG)
    assert kept(tmp_path) == set(PAIRS)


def test_a_third_column_is_told_the_cure(tmp_path: Path) -> None:
    assert "`cut -f1,2 OLD > NEW` keeps the first two" in refusal(tmp_path, "a.tsv", b"a\tb\t0.5\n")


def test_a_thousand_authors_of_running_text_are_nobodys_business(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"Some text number {n}.", "author": f"a{n}" if n % 2 else n}) for n in range(1000)]
    card = prepare(tmp_path, "a.jsonl", "\n".join(lines).encode(), kind="text")
    assert card["authors"] == [] and card["counts"]["kept"] == 1000


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.binary(),
        pyarrow.large_binary(),
        pyarrow.binary_view(),
        pyarrow.dictionary(pyarrow.int32(), pyarrow.binary()),
        pyarrow.large_string(),
        pyarrow.binary(60),
    ],
    ids=str,
)
@pytest.mark.parametrize("nested", [False, True])
def test_bytes_that_are_utf8_are_text_whatever_parquet_calls_them(
    tmp_path: Path, kind: pyarrow.DataType, nested: bool
) -> None:
    width = kind.byte_width if pyarrow.types.is_fixed_size_binary(kind) else 0
    values = [[side.encode().ljust(width, b"\0") for side in column] for column in zip(*PAIRS, strict=True)]
    plain = [pyarrow.array(column, pyarrow.binary(width) if width else pyarrow.binary()) for column in values]
    columns: Any = (
        [column if width else column.cast(kind) for column in plain]
        if "dict" not in str(kind)
        else [column.dictionary_encode() for column in plain]
    )
    if nested and "dict" not in str(kind):
        columns = {"translation": pyarrow.StructArray.from_arrays(columns, ["ru", "en"])}
    else:
        columns = {"ru": columns[0], "en": columns[1], "author": [b"\xff"] * 40, "source": [b"\xff"] * 40}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    prepare_corpus([str(tmp_path / "a.parquet")], [], tmp_path / "out", CONFIG)
    assert kept(tmp_path) == set(PAIRS)


def test_a_column_that_nobody_reads_spoils_no_row(tmp_path: Path) -> None:
    bad = pyarrow.Array.from_buffers(pyarrow.string(), 40, [None, *pyarrow.array([b"\xff"] * 40).buffers()[1:]])
    ru, en = zip(*PAIRS, strict=True)
    table = pyarrow.table({"ru": ru, "en": en, "source": bad, "target": bad, "author": bad, "translation": range(40)})
    parquet.write_table(table, tmp_path / "a.parquet")
    card = prepare_corpus([str(tmp_path / "a.parquet")], [], tmp_path / "out", CONFIG)
    assert kept(tmp_path) == set(PAIRS)
    assert card["notes"][-1] == "40 rows have an author that is not text, and are kept without it"


# Files are what their bytes say


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz", "a.tsv.zst"])
@pytest.mark.parametrize(
    "data",
    [
        TSV.encode(),
        gzipped(TSV.encode()),
        zstandard.ZstdCompressor().compress(TSV.encode()),
        b"\x50\x2a\x4d\x18\x04\0\0\0skip" + zstandard.ZstdCompressor().compress(TSV.encode()),
        gzipped(gzipped(TSV.encode())),
        gzipped(TSV[:500].encode()) + gzipped(TSV[500:].encode()),
        gzipped(TSV.encode()) + bytes(3 * BLOCK_BYTES),
        gzipped(TSV[:500].encode()) + bytes(BLOCK_BYTES) + gzipped(TSV[500:].encode()) + b"\0",
    ],
    ids=["plain", "gzip", "zstd", "skippable", "twice", "members", "padded", "padded-between"],
)
def test_a_compressed_file_is_what_its_bytes_say(tmp_path: Path, name: str, data: bytes) -> None:
    prepare(tmp_path, name, data)
    assert kept(tmp_path) == set(PAIRS)


def test_a_parquet_file_may_be_compressed_whatever_its_name(tmp_path: Path) -> None:
    ru, en = zip(*PAIRS, strict=True)
    parquet.write_table(pyarrow.table({"ru": ru, "en": en}), tmp_path / "x.parquet")
    data = (tmp_path / "x.parquet").read_bytes()
    for name, content in (("a.parquet", gzipped(data)), ("a.parquet.gz", data), ("b.parquet.zst", gzipped(data))):
        prepare(tmp_path, name, content)
        assert kept(tmp_path) == set(PAIRS)
    assert "Parquet; name it .parquet" in refusal(tmp_path, "a.tsv", data)


def archive() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        file.writestr("a.tsv", TSV)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bz2.compress(TSV.encode()), "bzip2 data; decompress it with `bzip2 -d`"),
        (lzma.compress(TSV.encode()), "xz data; decompress it with `xz -d`"),
        (archive(), "a ZIP archive"),
        (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", "a PDF; save its text as plain text in UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    ],
)
@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz", "a.jsonl", "a.parquet"])
def test_what_is_not_text_is_named_with_its_cure(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    assert message in refusal(tmp_path, name, data)


# Counts by reason, and the cure


def test_swapped_columns_are_named(tmp_path: Path) -> None:
    swapped = "".join(f"{en}\t{ru}\n" for ru, en in PAIRS).encode()
    assert refusal(tmp_path, "a.tsv", swapped) == (
        f"{tmp_path}/a.tsv: nothing is left after cleaning 40 rows; rejected: swapped 40 (corpus.languages)\n"
        "the first by swapped: 'Sentence number 0.' ⇥ 'Предложение номер 0.'\n"
        "column 1 is written in Latin, column 2 in Cyrillic, corpus.languages says [ru, en]: swap the columns, "
        "or set corpus.languages=[en, ru]"
    )
    (tmp_path / "good.tsv").write_text(TSV, "utf-8")
    card = prepare_corpus([str(tmp_path / "good.tsv"), str(tmp_path / "a.tsv")], [], tmp_path / "out", CONFIG)
    assert f"{tmp_path}/a.tsv: 40 of its 40 rows are left out: swapped 40 (corpus.languages)" in card["notes"]
    assert any("swap the columns" in note for note in card["notes"])


def test_a_refusal_counts_by_reason_and_names_the_settings(tmp_path: Path) -> None:
    rows = "Hello\tHallo\n" * 3 + "ы" * 50 + "\ty\n" + "я" * 1001 + "\ty\n" + "\t\n"
    said = refusal(tmp_path, "a.tsv", rows.encode())
    assert (
        "nothing is left after cleaning 6 rows; rejected: script 3 (corpus.min_script_ratio), "
        "length_ratio 1 (corpus.max_length_ratio), too_long 1 (corpus.max_chars), empty 1\n"
        "the first by script: 'Hello' ⇥ 'Hallo'\n" in said
    )


def test_too_few_rows_are_counted_after_deduplication(tmp_path: Path) -> None:
    said = refusal(tmp_path, "a.tsv", "Да\tYes\n".encode() * 500 + b"Hello\tHallo\n")
    assert said.startswith(
        "only 1 of 501 rows are left, too few to hold some out and train on the rest: give more text; "
    )
    assert "left out: duplicates 499, script 1 (corpus.min_script_ratio)\n" in said


def test_a_text_too_short_is_told_what_a_row_is(tmp_path: Path) -> None:
    said = refusal(tmp_path, "a.txt", b"To be, or not to be.\n", kind="text", languages=["en"])
    assert "only 1 of 1 rows are left" in said
    assert "a row of running text is a piece of up to corpus.max_chars = 1,000 characters" in said


def test_ordinary_chinese_pairs_are_kept(tmp_path: Path) -> None:
    pairs = [
        ("我爱你。", "I love you very much."),
        ("请打开窗户。", "Please open the window now."),
        ("今天天气很好。", "The weather is very nice today."),
        ("他昨天去了图书馆。", "He went to the library yesterday afternoon."),
        ("会议将于下周一上午九点举行。", "The meeting will take place next Monday at nine o'clock in the morning."),
        ("这本书非常有趣，我一口气读完了。", "This book was so interesting that I finished it in one sitting."),
    ]
    data = "".join(f"{zh}\t{en}\n" for zh, en in pairs).encode()
    card = prepare(tmp_path, "a.tsv", data, languages=["zh", "en"])
    assert card["counts"]["rejected"] == {}
    junk = "这是一个很长的句子，它和英文没有任何关系，只是为了测试长度而写的。\tYes, it is so.\n"
    card = prepare(tmp_path, "a.tsv", data + junk.encode(), languages=["zh", "en"])
    assert card["counts"]["rejected"] == {"length_ratio": 1}


def test_a_language_without_a_known_script_is_said(tmp_path: Path) -> None:
    card = prepare(tmp_path, "a.tsv", TSV.encode(), languages=["xx", "en"])
    assert card["counts"]["kept"] == 40
    assert "not judged by script: xx, of which model/languages.py knows none" in card["notes"]


# Headers and records


@pytest.mark.parametrize(
    ("row", "languages", "expected"),
    [
        ("Deutsch\tEnglisch", "de en", "own"),
        ("Deutsch\tFranzösisch", "de fr", "own"),
        ("source\ttarget", "de en", "own"),
        ('"src"\t"tgt"\r', "de en", "own"),
        ("de\ten", "de en", "own"),
        ("pt-BR\ten_US", "pt-BR en-US", "own"),
        ("text_de\ttext_en", "de en", "own"),
        ("Source (English)\tTarget (German)", "en de", "own"),
        ("#Türkçe\tİngilizce", "tr en", "own"),
        ("Русский\tАнглийский", "ru en", "own"),
        ("en\tde", "de en", "swapped"),
        ("English\tDeutsch", "de en", "swapped"),
        ("Haus\thouse", "de en", ""),
        ("Hallo Welt\tHello world", "de en", ""),
        ("Ich spreche Deutsch.\tI speak German.", "de en", ""),
        ("de\tof", "es en", ""),
        ("\t", "de en", ""),
        ("我\tI", "zh en", ""),
    ],
)
def test_a_header_is_told_from_a_pair(row: str, languages: str, expected: str) -> None:
    assert header(row.split("\t"), languages.split()) == expected


@given(st.text(), st.text())
def test_any_row_can_be_looked_at(first: str, second: str) -> None:
    assert header([first, second], ["de", "en"]) in ("", "own", "swapped")


def test_a_header_is_neither_trained_nor_tested_on(tmp_path: Path) -> None:
    rows = "".join(f"Der Satz {n}.\tThe sentence {n}.\n" for n in range(40))
    (tmp_path / "test.tsv").write_text("Deutsch\tEnglisch\nEin Test.\tA test.\n", "utf-8")
    (tmp_path / "a.tsv").write_text(f"\ufeffDeutsch\tEnglisch\n{rows}Deutsch\tGerman\n", "utf-8")
    german = config(languages=["de", "en"])
    card = prepare_corpus([str(tmp_path / "a.tsv")], [str(tmp_path / "test.tsv")], tmp_path / "out", german)
    assert (card["counts"]["read"], card["counts"]["kept"]) == (42, 41)
    assert card["counts"]["rejected"] == {"header": 1} and card["counts"]["test"] == {"test": 1}
    assert "test set test: 1 rows that name the columns left out" in card["notes"]
    with pytest.raises(CorpusError, match=r"a.tsv:1: .*: swap the columns, or set corpus.languages=\[de, en\]"):
        prepare_corpus([str(tmp_path / "a.tsv")], [], tmp_path / "out", config(languages=["en", "de"]))


@pytest.mark.parametrize(
    ("data", "cure"),
    [
        ('[{"ru": "а", "en": "a"}]', "`jq -c '.[]' OLD > NEW.jsonl`"),
        ('[\n{"ru": "а", "en": "a"},\n{"ru": "б", "en": "b"}\n]', "`jq -c '.[]' OLD > NEW.jsonl`"),
        ('{\n "ru": "а",\n "en": "a"\n}', "`jq -c . OLD > NEW.jsonl`"),
        ("[" + '{"ru": "а", "en": "a"},' * 200_000 + "{}]", "`jq -c '.[]' OLD > NEW.jsonl`"),
    ],
)
def test_json_that_is_not_one_record_a_line_is_told_the_cure(tmp_path: Path, data: str, cure: str) -> None:
    said = refusal(tmp_path, "a.jsonl", data.encode())
    assert "a .jsonl holds one record a line" in said and cure in said
