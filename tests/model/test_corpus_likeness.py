"""What counts as the same text, or as near to it: by brute force, and on the way from files to splits."""

from __future__ import annotations

import itertools
import os
import random
import signal
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import CorpusConfig
from model.corpus import CorpusError, prepare_corpus, read_split
from model.corpus.duplicates import PARTITIONS, NearDuplicates, write_lot
from model.corpus.likeness import Neighbours, normal_form, normal_forms, shingles, signatures
from model.corpus.trainsplit import train_files
from model.corpus.workers import in_order
from model.files import sha256_file

LETTERS = "абвгдежзиклмнопрстуфхцчшыэюя"
LATIN = "abcdefghijklmnopqrstuvwxyz"


def sentence(random: random.Random, letters: str = LETTERS, words: int = 8) -> str:
    """Words that nobody has seen, so that two sentences have hardly a run of characters in common."""
    return " ".join("".join(random.choices(letters, k=random.randint(3, 9))) for _ in range(words))


def pair(random: random.Random) -> tuple[str, str]:
    return sentence(random), sentence(random, LATIN)


@cache
def runs(form: str) -> set[str]:
    return shingles(form)


def similarity(one: str, other: str) -> float:
    shared = len(runs(one) & runs(other))
    return shared / (len(runs(one)) + len(runs(other)) - shared)


def write(path: Path, rows: list[tuple[str, str]]) -> str:
    path.write_text("".join(f"{ru}\t{en}\n" for ru, en in rows), "utf-8")
    return str(path)


def pairs(folder: Path, split: str) -> list[tuple[str, str]]:
    return [(row["ru"], row["en"]) for row in read_split(folder, split)]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Ёлка № 17, зелёная!", "елка 0 зеленая"),
        ("«Елка» — №5: ЗЕЛЕНАЯ...", "елка 0 зеленая"),
        ("snake_case  and\tTab", "snake case and tab"),
        ("Straße, v1.24", "strasse v0 0"),
        ("१२ हिन्दी", "0 हिन्दी"),
        ("12 %", "12 %"),
        ("…", "…"),
        ("", ""),
    ],
)
def test_a_normal_form(text: str, form: str) -> None:
    assert normal_form(text) == form


@given(st.text())
def test_a_normal_form_is_its_own(text: str) -> None:
    form = normal_form(text)
    assert normal_form(form) == form


@given(st.lists(st.text()))
def test_the_forms_of_many_texts_are_those_of_each(texts: list[str]) -> None:
    assert normal_forms([*texts, "a\0b"]) == [*map(normal_form, texts), "a b"]


def test_neighbours_are_those_of_brute_force() -> None:
    """None that is not near is called so, and hardly one that is is missed."""
    chance = random.Random(0)
    texts = [sentence(chance) for _ in range(300)]
    asked = []
    for text in texts:  # up to two words in eight are other ones
        words = text.split()
        for _ in range(chance.randint(0, 2)):
            words[chance.randrange(8)] = sentence(chance, words=1)
        asked.append(" ".join(words))
    found = Neighbours(texts, 0.7).nearest(asked)
    near = [similarity(text, other) >= 0.7 for text, other in zip(texts, asked, strict=True)]
    assert 50 < sum(near) < 250
    assert all(number in (None, at) for at, number in enumerate(found))
    assert not any(number is not None for number, is_near in zip(found, near, strict=True) if not is_near)
    assert sum(number is None for number, is_near in zip(found, near, strict=True) if is_near) <= 0.06 * sum(near)


def test_short_texts_and_none() -> None:
    neighbours = Neighbours(["да", "hello", "𝒜bc"], 0.8)
    assert neighbours.nearest(["да", "нет", "hello", "𝒜bc", "", "\ud800"]) == [0, None, 1, 2, None, None]
    assert neighbours.nearest([]) == []
    assert Neighbours([], 0.8).nearest(["да"]) == [None]


def test_near_duplicates_on_disk(tmp_path: Path) -> None:
    """The first of a group stays, in whatever lots the rows come, of which some have none."""
    chance = random.Random(1)
    forms = [sentence(chance, words=12) for _ in range(500)]
    copies = {500 + n: n * 7 for n in range(60)}
    forms += [f"{forms[first]} {sentence(chance, words=1)}" for first in copies.values()]
    found = []
    for size in (560, 90):
        (work := tmp_path / str(size)).mkdir()
        lots = [forms[start : start + size] for start in range(0, len(forms), size)] + [[]]
        for number, lot in enumerate(lots):
            write_lot(work, number, signatures(lot), 0.8)
        near = NearDuplicates(work, [*map(len, lots)], 0.8)
        pairs = [pair for partition in range(PARTITIONS) for pair in near(partition)]
        assert all(copies[row] == first for row, first in pairs)
        assert 57 <= len(dict(pairs)) <= 60
        found.append(pairs)
    assert found[0] == found[1]
    assert signatures([]).dtype == np.uint32


@given(st.lists(st.lists(st.booleans(), max_size=7), max_size=9), st.integers(1, 9))
def test_files_of_the_train_split(lots: list[list[bool]], size: int) -> None:
    """Each has as many rows as it should, in their order; each row that does not stay is left out of one of them."""
    dropped = bytearray(itertools.chain.from_iterable(lots))
    kept, out = list[tuple[int, int]](), list[tuple[int, int]]()
    for number, file in enumerate(train_files([*map(len, lots)], dropped, size)):
        rows = [(lot, row) for lot, begin, end, left in file for row in range(begin, end) if row not in left]
        out += [(lot, row) for lot, _, _, left in file for row in left]
        assert len(kept) == number * size and len(rows) <= size
        kept += rows
    everything = [(lot, row, left) for lot, rows in enumerate(lots) for row, left in enumerate(rows)]
    assert kept == [(lot, row) for lot, row, left in everything if not left]
    assert out == [(lot, row) for lot, row, left in everything if left]


def corpus_of(folder: Path, rows: list[tuple[str, str]], tests: list[tuple[str, str]], **settings: Any) -> dict:
    config = CorpusConfig(**{"valid_rows": 20, "heldout_rows": 30, "shard_rows": 200, **settings})
    given = [write(folder / "news.tsv", tests)] if tests else []
    return prepare_corpus([write(folder / "a.tsv", rows)], given, folder / "out", config)


def respelled(text: str) -> str:
    return text.upper().replace(" ", ", ") + "!"


def test_nothing_near_to_what_is_held_out_is_trained_on(tmp_path: Path) -> None:
    """Of every pair there are three more: one side respelled, one side nearly the same, and one like a test row."""
    chance = random.Random(2)
    rows = [pair(chance) for _ in range(100)]
    again = [(respelled(ru), sentence(chance, LATIN)) for ru, _ in rows]
    near = [(sentence(chance), f"{sentence(chance, LATIN, 1)} {en}") for _, en in rows]
    tests = [pair(chance) for _ in range(20)]
    near += [(f"{ru} {sentence(chance, words=1)}", sentence(chance, LATIN)) for ru, _ in tests]
    same = [(respelled(ru), sentence(chance, LATIN)) for ru, _ in tests]
    trained = {}
    for leaks in ("exact", "form", "near"):
        card = corpus_of(tmp_path, [*rows, *again, *near, *same], tests, leaks=leaks)
        counts = card["counts"]
        assert counts["read"] == counts["kept"] + sum(counts["rejected"].values()) + counts["duplicates"] == 340
        held = {
            normal_form(side) for name in ("valid", "heldout", "test/news") for row in pairs(tmp_path / "out", name)
            for side in row
        }  # fmt: skip
        forms = [normal_form(side) for row in pairs(tmp_path / "out", "train") for side in row]
        trained[leaks] = [
            sum(form in held for form in forms),
            sum(max(similarity(form, one) for one in held) >= 0.8 for form in forms),
        ]
        expected = {"exact": set(), "form": {"heldout_side", "test_set"}}
        expected["near"] = expected["form"] | {"near_heldout", "near_test_set"}
        assert set(counts["rejected"]) == expected[leaks]
    assert trained["exact"][0] > 5 and trained["form"][0] == 0
    assert trained["form"][1] > 5 and trained["near"][1] <= 0.06 * trained["form"][1]


def test_no_valid_row_has_a_side_that_is_held_out(tmp_path: Path) -> None:
    chance = random.Random(3)
    rows = [pair(chance) for _ in range(40)]
    many = [(ru if n % 2 else respelled(ru), sentence(chance, LATIN)) for ru, _ in rows for n in range(10)]
    corpus_of(tmp_path, many, [])
    valid, heldout = (
        {normal_form(side) for row in pairs(tmp_path / "out", split) for side in row} for split in ("valid", "heldout")
    )
    assert valid and heldout and valid.isdisjoint(heldout)


def test_of_duplicates_one_is_trained_on(tmp_path: Path) -> None:
    chance = random.Random(4)
    rows = [pair(chance) for _ in range(300)]
    same = [(respelled(ru), en.title()) for ru, en in rows[:50]]
    half = [(respelled(ru), sentence(chance, LATIN)) for ru, _ in rows[50:100]]  # another translation is no duplicate
    near = [(f"{ru} {sentence(chance, words=1)}", en) for ru, en in rows[100:150]]
    found = {}
    for duplicates in ("exact", "form", "near"):
        card = corpus_of(
            tmp_path,
            [*rows, *same, *half, *near, *rows[-7:]],
            [],
            duplicates=duplicates,
            leaks="exact",
            valid_rows=0,
            heldout_rows=0,
        )
        counts = card["counts"]
        assert counts["read"] == counts["kept"] + sum(counts["rejected"].values()) + counts["duplicates"] == 457
        found[duplicates] = (counts["duplicates"], counts["rejected"])
    assert found["exact"] == (7, {})
    assert found["form"] == (7, {"same_form": 50})
    near_ones = found["near"][1].pop("near_duplicate")
    assert found["near"] == found["form"] and 45 <= near_ones <= 50


@pytest.mark.parametrize("kind", ["parallel", "text"])
def test_the_number_of_processes_changes_no_byte(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: Literal["parallel", "text"],
    capfd: pytest.CaptureFixture[str],
) -> None:
    for step in ("shard", "merge"):
        monkeypatch.setattr(f"model.corpus.{step}.SMALL_ROWS", 100)
    monkeypatch.setattr("model.corpus.shard.BATCH_ROWS", 50)
    chance = random.Random(5)
    rows = [pair(chance) for _ in range(300)]
    rows += [(f"{ru} {sentence(chance, words=1)}", en) for ru, en in rows[:100]] + [("", "none")] * 5 + rows[:9]
    source = write(tmp_path / "a.tsv", rows)
    if kind == "text":
        (tmp_path / "a.txt").write_text("\n\n".join(ru for ru, _ in rows), "utf-8")
        source = str(tmp_path / "a.txt")
    cards, contents = [], []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        config = CorpusConfig(
            kind=kind, duplicates="near", valid_rows=20, heldout_rows=30, processes=processes, max_chars=120
        )
        card = prepare_corpus([source], [], out, config)
        cards.append({name: card[name] for name in card if name not in ("seconds", "config")})
        contents.append({str(path.relative_to(out)): sha256_file(path) for path in out.rglob("*.zst")})
    assert cards[0] == cards[1] and contents[0] == contents[1]
    if kind == "parallel":
        assert cards[0]["counts"]["rejected"]["near_duplicate"] > 60
        for told in cards[0]["examples"]["near_duplicate"]:
            assert similarity(*(normal_form("\t".join(told[name])) for name in ("row", "like"))) > 0.7
    assert "Traceback" not in capfd.readouterr().err


class Steps:
    """Doubles a number; ends its process at a negative one."""

    def __call__(self, number: int) -> int:
        if number < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * number


def test_work_is_given_back_in_order() -> None:
    tasks = [(f"label {n}", n) for n in range(40)]
    wanted = [(f"label {n}", 2 * n) for n in range(40)]
    assert list(in_order(Steps, (), tasks, 2, 3)) == list(in_order(Steps, (), tasks, 1, 3)) == wanted
    with pytest.raises(CorpusError, match=r"a process of the preparation was killed.*corpus.processes=1"):
        list(in_order(Steps, (), [*tasks, ("killed", -1)], 2, 3))
