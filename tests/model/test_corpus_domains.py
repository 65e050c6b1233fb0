"""A file beside the text that names each row's domain: it reaches the right records, wherever the text is from."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import zstandard

from model.config import CorpusConfig
from model.corpus import CorpusError, prepare_corpus, read_split
from model.corpus.stamp import stamp

CONFIG = CorpusConfig(valid_rows=5, heldout_rows=5, leaks="exact", duplicates="exact")
ROWS = [(f"Это предложение номер {n}.", f"This is sentence number {n}.") for n in range(60)]
DOMAINS = ["docs" if n % 2 else ("ui" if n % 4 else "") for n in range(60)]
TEXT = "".join(f"{ru}\t{en}\n" for ru, en in ROWS)
NAMED = "".join(f"{name}\n" for name in DOMAINS)


def prepared(source: Path, out: Path, config: CorpusConfig = CONFIG) -> dict[str, str | None]:
    """The domain of each row that is left, by its number."""
    prepare_corpus([str(source)], [], out, config)
    rows = (row for split in ("train", "valid", "heldout") for row in read_split(out, split))
    return {row["en"].split()[-1].rstrip("."): row.get("domain") for row in rows}


EXPECTED = {str(n): name or None for n, name in enumerate(DOMAINS)}


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
@pytest.mark.parametrize("folder", [False, True])
def test_domains_reach_the_records_and_the_card(tmp_path: Path, ending: str, folder: bool) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "pairs.tsv.zst").write_bytes(zstandard.compress(TEXT.encode()))
    packed = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[ending](NAMED.encode())
    (data / f"pairs.source{ending}").write_bytes(packed)
    assert prepared(data if folder else data / "pairs.tsv.zst", tmp_path / "out") == EXPECTED
    card = prepare_corpus([str(data)], [], tmp_path / "again", CONFIG)
    trained = [row.get("domain") for row in read_split(tmp_path / "again", "train")]
    assert card["domains"] == {name: trained.count(name) for name in ("docs", "ui")}
    assert card["left_out"] == [] and [file["rows"] for file in card["files"]] == [60]


def test_two_sides_have_one_file_of_domains(tmp_path: Path) -> None:
    for side, name in enumerate(("news.ru", "news.en")):
        (tmp_path / name).write_text("".join(f"{row[side]}\n" for row in ROWS), "utf-8")
    (tmp_path / "news.source").write_text(NAMED)
    assert prepared(tmp_path / "news.ru", tmp_path / "a") == EXPECTED
    assert prepared(tmp_path / "news.en", tmp_path / "b") == EXPECTED


def test_rows_that_are_left_out_shift_nothing(tmp_path: Path) -> None:
    lines = TEXT.splitlines()
    lines[10], lines[20], lines[30] = "no tab", "", "Одно.\tTwo words, and so many more of them that they are too long."
    (tmp_path / "pairs.tsv").write_text("ru\ten\n" + "\n".join(lines), "utf-8")
    (tmp_path / "pairs.source").write_text("\n" + NAMED)
    found = prepared(tmp_path / "pairs.tsv", tmp_path / "out", CONFIG.model_copy(update={"max_malformed": 0.1}))
    assert found == {n: name for n, name in EXPECTED.items() if n not in ("10", "20", "30")}
    quoted = "".join(f'"{ru}","{en[:5]}\n{en[5:]}"\n' for ru, en in ROWS)  # two lines are one row
    (tmp_path / "table.csv").write_text(quoted, "utf-8")
    (tmp_path / "table.source").write_text(NAMED)
    assert prepared(tmp_path / "table.csv", tmp_path / "table") == EXPECTED


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (NAMED[:-5], r"pairs.source: ends before the row 60 of .*pairs.tsv, whose domains it names.*both again"),
        (NAMED + "ui\n", r"pairs.source: goes on after the last row, 60, of"),
        ("".join(f"d{n}\n" for n in range(60)) * 6, "more than 256 domains"),
    ],
)
def test_a_file_of_domains_that_does_not_fit_is_refused(tmp_path: Path, names: str, message: str) -> None:
    rows = TEXT
    if "256" in message:
        names = "".join(f"d{n}\n" for n in range(360))
        rows = "".join(f"Это предложение номер {n}.\tThis is sentence number {n}.\n" for n in range(360))
    (tmp_path / "pairs.tsv").write_text(rows, "utf-8")
    (tmp_path / "pairs.source").write_text(names)
    with pytest.raises(CorpusError, match=message):
        prepared(tmp_path / "pairs.tsv", tmp_path / "out")


def test_without_domains_nothing_is_written_of_them_and_with_them_the_stamp_is_another(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text(TEXT, "utf-8")
    plain = stamp([str(pairs)], [], CONFIG)
    prepare_corpus([str(pairs)], [], tmp_path / "out", CONFIG)
    assert all(row.keys() == {"ru", "en"} for row in read_split(tmp_path / "out", "train"))
    stamps = {plain}
    for names in (NAMED, NAMED.replace("ui", "ux")):
        (tmp_path / "pairs.source").write_text(names)
        stamps.add(stamp([str(pairs)], [], CONFIG))
    assert len(stamps) == 3
