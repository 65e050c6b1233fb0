"""Addresses of people and machines: what is masked, what only looks like it, and the same on both sides of a pair."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import CorpusConfig
from model.corpus import prepare_corpus, read_split
from model.corpus.masking import mask


@pytest.mark.parametrize(
    ("text", "masked", "kind"),
    [
        ("Пишите на anna.k+news@mail.work.org.", "Пишите на name@example.com.", "email"),
        ("(анна@почта.рф)", "(name@example.com)", "email"),
        ("ping 10.0.0.255, now", "ping 192.0.2.1, now", "ip"),
        ("Сервер 8.8.8.8.", "Сервер 192.0.2.1.", "ip"),
        ("http://127.0.0.1:8080/", "http://192.0.2.1:8080/", "ip"),
        ("at fe80::1ff:fe23:4567:890a", "at 2001:db8::1", "ip"),
        ("[::1]:80", "[2001:db8::1]:80", "ip"),
        ("Звоните: +7 (495) 123-45-67.", "Звоните: +1 202-555-0100.", "phone"),
        ("8 (495) 123-45-67", "+1 202-555-0100", "phone"),
        ("8-800-555-35-35", "+1 202-555-0100", "phone"),
        ("Call (212) 555-0143 or", "Call +1 202-555-0100 or", "phone"),
        ("+442071234567", "+1 202-555-0100", "phone"),
    ],
)
def test_what_is_masked(text: str, masked: str, kind: str) -> None:
    found: Counter[str] = Counter()
    assert mask(text, found) == masked
    assert found == {kind: 1}


@pytest.mark.parametrize(
    "text",
    [
        "std::string, a::b, add::bad, 1:: and ::",
        "в 12:30:45 и 2026-11-29",
        "1.2.3 и 1.2.3.4.5 и 300.1.2.3",
        "user@host and @nick, a @ b",
        "Число 8 123 456 и 1024 сэмпла",
        "2 + 2 = 4, +15 %, 1 234 567,89",
        "ISBN 978-5-17-118366-1",
        "",
    ],
)
def test_what_only_looks_like_it(text: str) -> None:
    found: Counter[str] = Counter()
    assert mask(text, found) == text and not found


@given(st.text(st.sampled_from("a1.@+-() :8%яf"), max_size=80))
def test_what_is_masked_stays_as_it_is(text: str) -> None:
    """What stands for an address is found again, and replaced by itself."""
    once = mask(text, Counter())
    assert mask(once, Counter()) == once


def test_a_corpus_is_masked_on_both_sides_and_off_by_default(tmp_path: Path) -> None:
    chance = random.Random(0)
    words = [["".join(chance.choices(letters, k=8)) for _ in range(200)] for letters in ("абвгде", "abcdef")]
    lines = [f"{ru} я{n}@дом.рф\t{en} me{n}@home.org\n" for n, (ru, en) in enumerate(zip(*words, strict=True))]
    source, test = tmp_path / "a.tsv", tmp_path / "mail.tsv"
    source.write_text("".join(lines), "utf-8")
    test.write_text(lines[3], "utf-8")
    for masked in (False, True):
        config = CorpusConfig(valid_rows=5, heldout_rows=5, leaks="form", mask=masked)
        card = prepare_corpus([str(source)], [str(test)], tmp_path / "out", config)
        assert card["counts"]["masked"] == ({"email": 2 * 199} if masked else {})
        assert card["counts"]["rejected"] == {"test_set": 1}
        rows = [row for split in ("train", "valid", "heldout") for row in read_split(tmp_path / "out", split)]
        assert len(rows) == 199
        assert all(row[code].endswith(" name@example.com") == masked for row in rows for code in ("ru", "en"))
        assert next(read_split(tmp_path / "out", "test/mail"))["en"].endswith(" me3@home.org")
