"""Shards and their merge make the corpus that one process makes, byte for byte, however many they are."""

from __future__ import annotations

import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from model.config import ConfigError, CorpusConfig, from_dict
from model.corpus import CorpusError, files, prepare_corpus, reading
from model.corpus.files import SourceFile
from model.corpus.merge import merge_shards
from model.corpus.shard import write_shard
from model.corpus.shares import shares
from model.corpus.stamp import stamp
from model.files import sha256_file

LETTERS = {"ru": "абвгдежзиклмнопрстуфхцчшыэюя", "en": "abcdefghijklmnopqrstuvwxyz"}
# Neither of them is in another one's words, so that the detector of languages has something to tell apart.
GERMAN = "Der alte Mann ging jeden Morgen durch den Garten und fütterte dort die kleinen Vögel"
ENGLISH = "The old man walked through the garden every morning and fed the little birds there"
Pair = tuple[str, str]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a border of shards falls within every file, and within the tables of Parquet."""
    monkeypatch.setattr(files, "BLOCK_BYTES", 600)
    monkeypatch.setattr(reading, "PARQUET_ROWS", 16)


def sentence(chance: random.Random, language: str, words: int = 8) -> str:
    letters = LETTERS[language]
    return " ".join("".join(chance.choices(letters, k=chance.randint(3, 9))) for _ in range(words))


def pairs(chance: random.Random, count: int) -> list[Pair]:
    return [(sentence(chance, "ru"), sentence(chance, "en")) for _ in range(count)]


def respelled(pair: Pair) -> Pair:
    return pair[0].upper() + "!", pair[1].replace(" ", ", ")


def near(chance: random.Random, pair: Pair) -> Pair:
    return f"{pair[0]} {sentence(chance, 'ru', 1)}", f"{sentence(chance, 'en', 1)} {pair[1]}"


def table(rows: list[Pair]) -> str:
    return "".join(f"{one}\t{other}\n" for one, other in rows)


@pytest.fixture
def text(tmp_path: Path) -> list[str]:
    """Sources of most kinds, in which rows of the first are again in the others, respelled, nearly, or as they are."""
    chance, data = random.Random(7), tmp_path / "data"
    data.mkdir()
    rows = pairs(chance, 240)
    again = [*rows[:20], *map(respelled, rows[20:40]), *(near(chance, row) for row in rows[40:80])]
    again += [(ru, sentence(chance, "en")) for ru, _ in rows[80:200]]
    bad = [
        "no tab",
        "\t",
        "Одно.\tTwo",
        "Вот и всё это.\tИ тут тоже самое.",
        "Same\tSame",
        "\t".join(f"{side} a@b.org" for side in rows[0]),
    ]
    (data / "a.tsv").write_text(table(rows) + "\n".join(bad) + "\n", "utf-8")
    (data / "a.source").write_text("".join(f"{('ui', 'docs', '')[n % 3]}\n" for n in range(246)))
    (data / "b.tsv.zst").write_bytes(zstandard.compress(("ru\ten\n" + table(pairs(chance, 90) + again)).encode()))
    (data / "b.source.gz").write_bytes(gzip.compress("".join(f"news{n % 2}\n" for n in range(291)).encode()))
    records = [
        {"ru": ru, "en": en, "author": ["Анна", "Иван", None, 7][n % 4]} for n, (ru, en) in enumerate(pairs(chance, 80))
    ]
    lines = [json.dumps(record, ensure_ascii=False).encode() for record in records]
    lines[50], lines[60] = (
        b"{broken",
        b'{"ru": "\xc4\xe0", "en": "Yes"}',
    )  # one in the second part of the file, at any rate
    (data / "c.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    quoted = "".join(f'"{ru},\n{ru[:9]}","{en}, {en[:9]}"\n' for ru, en in pairs(chance, 60))
    (data / "d.csv").write_text("Russian,English\n" + quoted, "utf-8")
    sides = pairs(chance, 70) + [respelled(row) for row in again[:10]]
    for side, code in enumerate(("ru", "en")):
        (data / f"e.{code}").write_text("".join(f"{row[side]}\n" for row in sides), "utf-8")
    columns = {"ru": [row[0] for row in rows[100:160]], "en": [row[1].upper() for row in rows[100:160]]}
    parquet.write_table(pyarrow.table(columns), data / "f.parquet")
    units = "".join(f'msgid "{en}"\nmsgstr "{ru}"\n\n' for ru, en in pairs(chance, 60))
    (data / "ru.po").write_text(f'msgid ""\nmsgstr "Language: ru\\n"\n\n{units}', "utf-8")
    return [str(data)]


@pytest.fixture
def tests(tmp_path: Path) -> list[str]:
    """Test sets that the text leaks: as they are, respelled and nearly."""
    chance, rows = random.Random(7), pairs(random.Random(7), 240)
    news = [rows[200], respelled(rows[201]), near(chance, rows[202]), ("", "Empty"), *pairs(chance, 3)]
    (tmp_path / "news.tsv").write_text(table(news), "utf-8")
    (tmp_path / "talks.jsonl").write_text(
        "".join(json.dumps({"ru": ru, "en": en, "author": "Zoë"}) + "\n" for ru, en in rows[203:205]), "utf-8"
    )
    return [str(tmp_path / "news.tsv"), str(tmp_path / "talks.jsonl")]


def settings(shards: int = 1, **more: Any) -> CorpusConfig:
    usual = {"valid_rows": 12, "heldout_rows": 15, "shard_rows": 100, "max_malformed": 0.1}
    return from_dict(CorpusConfig, {**usual, **more, "shards": shards})


def content(folder: Path) -> dict[str, Any]:
    """Every file by its hash; of the cards all but how long it took."""
    found: dict[str, Any] = {str(path.relative_to(folder)): sha256_file(path) for path in folder.rglob("*.zst")}
    for path in folder.rglob("corpus.json"):
        found[str(path.relative_to(folder))] = {**json.loads(path.read_text("utf-8")), "seconds": 0}
    return found


def in_shards(folder: Path, sources: list[str], tests: list[str], **more: Any) -> list[dict[str, Any]]:
    """What one process makes is what shards make: 2 and 5 in this process, and 3 by the functions of the steps.

    Returns:
        The cards of the five shards, which were not made for nothing.
    """
    made = {}
    for shards in (1, 2, 5):
        corpus, holdout = folder / f"corpus-{shards}", folder / f"holdout-{shards}"
        prepare_corpus(sources, tests, corpus, settings(shards, **more), holdout)
        made[shards] = content(corpus), content(holdout)
    assert made[2] == made[1] and made[5] == made[1]
    config = settings(3, **more)
    for number in (2, 0, 1):
        write_shard(sources, tests, folder / f"shard-{number}", config, number, 3)
    places = [folder / f"shard-{number}" for number in (1, 2, 0)]
    before = [content(place) for place in places]
    merge_shards(places, folder / "corpus-3", config, folder / "holdout-3")
    assert (content(folder / "corpus-3"), content(folder / "holdout-3")) == made[1]
    assert [content(place) for place in places] == before, "a merge that is tried again finds what the first found"
    cards = [write_shard(sources, tests, folder / "one", settings(5, **more), number) for number in range(5)]
    # What is compressed comes in blocks of up to 128 KiB, and a small file in one.
    assert sum(card["counts"]["read"] > 0 for card in cards) >= 4
    return cards


def counted(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "corpus-1" / "corpus.json").read_text("utf-8"))["counts"])


@pytest.mark.parametrize(
    ("more", "reasons"),
    [
        ({}, {"near_heldout", "near_test_set", "same_form", "test_set", "heldout_side"}),
        ({"duplicates": "near"}, {"near_duplicate", "same_form", "near_heldout"}),
        ({"leaks": "exact", "duplicates": "exact", "mask": True}, {"test_set", "heldout_side"}),
        ({"leaks": "form", "processes": 2}, {"test_set", "same_form"}),
    ],
    ids=["usual", "near", "exact", "form"],
)
def test_pairs(tmp_path: Path, text: list[str], tests: list[str], more: dict[str, Any], reasons: set[str]) -> None:
    cards = in_shards(tmp_path, text, tests, **more)
    assert sum(card["goes_on"] for card in cards) >= 3, "borders are within files"
    counts = counted(tmp_path)
    rejected = counts["rejected"]
    assert reasons | {"malformed", "header", "identical", "script"} <= set(rejected)
    assert (
        counts["duplicates"] >= 10 and sum(rejected.values()) + counts["kept"] + counts["duplicates"] == counts["read"]
    )
    assert bool(counts["masked"]) == ("mask" in more)
    card = json.loads((tmp_path / "corpus-1" / "corpus.json").read_text("utf-8"))
    assert {"ui", "docs", "news0", "news1"} <= set(card["domains"]) and card["authors"] == ["Zoë", "Анна", "Иван"]
    assert len(card["malformed"]) == 3 and len(card["files"]) == 9
    assert any("rows have an author that is not text" in note for note in card["notes"])


def test_several_sources_in_their_order(tmp_path: Path) -> None:
    """One that is given twice is read twice, and a small one is not parted."""
    rows = pairs(random.Random(3), 150)
    for name, part in (("a", rows[:140]), ("b", rows[139:])):
        (tmp_path / f"{name}.tsv").write_text(table(part), "utf-8")
    sources = [str(tmp_path / f"{name}.tsv") for name in ("b", "a", "b")]
    in_shards(tmp_path, sources, [])
    assert counted(tmp_path)["duplicates"] == 12


def test_languages_of_one_script(tmp_path: Path) -> None:
    chance = random.Random(5)
    words = (GERMAN.split(), ENGLISH.split())
    rows = [tuple(" ".join(chance.sample(side, len(side))) for side in words) for _ in range(60)]
    rows += [(other, one) for one, other in rows[:8]]
    (tmp_path / "a.tsv").write_text(table(rows), "utf-8")
    in_shards(tmp_path, [str(tmp_path / "a.tsv")], [], languages=["de", "en"], leaks="exact")
    assert counted(tmp_path)["rejected"]["language"] >= 8


@pytest.mark.parametrize("held_out_end", [0.0, 0.2])
def test_running_text(tmp_path: Path, held_out_end: float) -> None:
    """And text of which the end of each file is held out, where no file is parted."""
    chance = random.Random(9)
    lines = [sentence(chance, "en", chance.randint(4, 12)) + ".\n" for _ in range(900)]
    sources, begin = [], 0
    for name, count in {"a.txt": 150, "b.txt.zst": 400, "c.jsonl": 200, "d.txt": 100, "e.txt": 50}.items():
        part = lines[begin : begin + count] + lines[:20]
        whole = "".join(part) if "txt" in name else "".join(json.dumps({"text": line}) + "\n" for line in part)
        path = tmp_path / name
        path.write_bytes(zstandard.compress(whole.encode()) if name.endswith("zst") else whole.encode())
        sources.append(str(path))
        begin += count
    (tmp_path / "scene.txt").write_text(lines[500], "utf-8")
    more = {"kind": "text", "languages": ["en"], "max_chars": 120, "held_out_end": held_out_end}
    cards = in_shards(tmp_path, sources, [str(tmp_path / "scene.txt")], **more)
    assert any(card["goes_on"] for card in cards) == (not held_out_end)
    rejected = counted(tmp_path)["rejected"]
    assert rejected["test_set"] and ("held_out_rest" in rejected) == bool(held_out_end)


def test_no_row_is_lost_or_read_twice_whatever_the_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that all rules keep, in blocks of a few bytes, so that borders fall into lines and between them."""
    rows = pairs(random.Random(1), 40)
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"{ru}\t{en}\nbad\n" for ru, en in rows), "utf-8")
    whole = {"leaks": "exact", "duplicates": "exact", "max_malformed": 1.0, "valid_rows": 1, "heldout_rows": 1}
    for size in (1, 7, 64, 100, 1000, 1 << 20):
        monkeypatch.setattr(files, "BLOCK_BYTES", size)
        for of in (1, 2, 3, 7, 40):
            cards = [write_shard([str(path)], [], tmp_path / "out", settings(of, **whole), n) for n in range(of)]
            tallies = [card["counts"]["tally"] for card in cards]
            assert sum(card["counts"]["read"] for card in cards) == 40
            assert [sum(tally[name] for tally in tallies) for name in ("rows", "malformed")] == [80, 40]


@given(st.lists(st.none() | st.integers(1, 10**12), min_size=1, max_size=20), st.integers(1, 64), st.booleans())
def test_shares_are_all_of_the_text_once(sizes: list[int | None], of: int, whole: bool) -> None:
    given = [SourceFile(f"{number}.tsv", f"{number}.tsv", size) for number, size in enumerate(sizes)]
    read = [share for number in range(of) for share in shares(given, number, of, whole=whole)]
    for file in given:
        own = [share for share in read if share.file is file]
        assert own[0].begin == 0 and own[-1].end is None
        assert [share.end for share in own[:-1]] == [share.begin for share in own[1:]]
        assert all(share.begin < (file.size or 1) for share in own)
        assert len(own) == 1 or not (whole or file.size is None)
    assert [share.file for share in read] == sorted((share.file for share in read), key=given.index)


def test_blocks_are_alike_however_a_server_sends_them() -> None:
    chance = random.Random(2)
    data = chance.randbytes(5000)

    class Slow(io.BytesIO):
        """Hands out fewer bytes than it is asked for."""

        def read(self, size: int | None = -1) -> bytes:
            return super().read(chance.randint(1, max(1, size or 1)))

    blocks = [*files._chunks(Slow(data), SourceFile("a", "a"))]
    assert b"".join(blocks) == data and {len(block) for block in blocks[:-1]} == {600}


def test_what_is_wrong_with_the_text_is_told_alike(tmp_path: Path) -> None:
    rows = pairs(random.Random(4), 60)
    cp1251 = [row.encode("cp1251") for row in table(pairs(random.Random(6), 8)).splitlines(keepends=True)]
    lines = [line.encode() for line in table(rows).splitlines(keepends=True)]
    texts = {
        "too many rows are malformed": b"".join(lines[:30] + cp1251 + lines[30:]),
        "a file in which nothing can be read": b"no tab\n" * 200,
        "nothing is left": "".join(f"{en}\t{ru}\n" for ru, en in rows).encode(),
        "too few": lines[0],
    }
    for name, text in texts.items():
        (tmp_path / "a.tsv").write_bytes(text)
        told = []
        for shards in (1, 2, 5):
            with pytest.raises(CorpusError) as raised:
                prepare_corpus([str(tmp_path / "a.tsv")], [], tmp_path / "out", settings(shards, max_malformed=0.01))
            told.append(str(raised.value))
            assert [path.name for path in tmp_path.iterdir()] == ["a.tsv"], "nothing is left behind"
        assert len(set(told)) == 1, name


def test_a_stamp_knows_no_shards(text: list[str], tests: list[str]) -> None:
    assert stamp(text, tests, settings(1)) == stamp(text, tests, settings(5))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"shards": 0}, "corpus.shards: must be at least 1, not 0 (Parts of the text"),
        ({"shards": 65}, "corpus.shards: must be at most 64, not 65 (Parts of the text"),
        ({"shards": -3}, "corpus.shards: must be at least 1, not -3"),
        ({"shards": 1.5}, "corpus.shards: expected int, found 1.5"),
        (
            {"shards": 2, "max_rows": 10},
            "must be 1 beside corpus.max_rows=10, .* set corpus.max_rows=0, or corpus.shards=1",
        ),
    ],
)
def test_a_number_of_shards_that_makes_no_sense_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace("(", r"\(")):
        from_dict(CorpusConfig, given, "corpus")


def test_shards_that_do_not_make_up_a_corpus_are_refused(tmp_path: Path) -> None:
    rows = pairs(random.Random(8), 80)
    source = tmp_path / "a.tsv"
    source.write_text(table(rows), "utf-8")

    def shard(name: str, number: int, config: CorpusConfig) -> Path:
        write_shard([str(source)], [], tmp_path / name, config, number)
        return tmp_path / name

    two = [shard(f"two-{number}", number, settings(2)) for number in range(2)]

    def refused(places: list[Path], told: str, config: CorpusConfig | None = None) -> None:
        with pytest.raises(CorpusError, match=told):
            merge_shards(places, tmp_path / "out", config or settings(2))
        assert not (tmp_path / "out").exists()

    refused([], "the shards none are given, and 0 to 1 make up the corpus")
    refused(
        two[:1], r"the shards 0 are given, and 0 to 1 make up the corpus \(corpus.shards=2\): give each of them once"
    )
    refused([*two, two[0]], "the shards 0, 0, 1 are given")
    refused(two, "the shards 0, 1 are given, and 0 to 2 make up", settings(3))
    refused([two[0], shard("three-1", 1, settings(3))], "the shards 0, 1 are given")
    refused(
        [two[0], shard("seed", 1, settings(2, seed=1))], "prepared with another corpus.seed; prepare all shards with"
    )
    refused([two[0], tmp_path], "not a shard of a corpus, or damaged; prepare it again")
    rows_file = two[1] / "rows.zst"
    whole = rows_file.read_bytes()
    rows_file.write_bytes(whole[:-1])
    refused(two, "rows.zst: not all of it is there; prepare the shard again")
    rows_file.write_bytes(whole)
    card = (two[1] / "shard.json").read_text("utf-8")
    (two[1] / "shard.json").write_text(card.replace('"format_version": 1', '"format_version": 9'), "utf-8")
    refused(two, "not a shard of format version 1; prepare it again")
    (two[1] / "shard.json").write_text(card, "utf-8")
    source.write_text(table(rows[1:]), "utf-8")
    refused([two[0], shard("later", 1, settings(2))], "its files have other names or sizes than those of shard 0")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(CorpusError, match="is there and is not a corpus"):
        merge_shards(two, tmp_path / "out", settings(2))


def test_a_shard_that_is_none_is_refused(tmp_path: Path) -> None:
    for number in (-1, 2):
        with pytest.raises(CorpusError, match=f"there is no shard {number}: 2 are numbered from 0 to 1"):
            write_shard(["a.tsv"], [], tmp_path / "out", settings(2), number)
    told = "3 shards are prepared, and corpus.shards is 2: compile the pipeline with this setting, or set it to 3"
    with pytest.raises(CorpusError, match=told):
        write_shard(["a.tsv"], [], tmp_path / "out", settings(2), 0, 3)
    with pytest.raises(CorpusError, match="no text is given, and corpus"):
        write_shard([], [], tmp_path / "out", settings(2))
