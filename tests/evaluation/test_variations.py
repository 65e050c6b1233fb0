"""Dirty rows and rows in pairs: the same from run to run, dirt of every kind, and what is expected of each."""

from __future__ import annotations

import random
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.variations import dirty, variations
from model.text.cleaning import STRESS, as_typed, clean_line, clean_source

ROWS = [
    'Максим сказал: "Ещё рано!"',
    "It's the neighbour's cat.",
    "Ёжик идёт в библиотеку — один.",
    "Save",
    "Сохранить",
    "42",
    "He sleeps.",
] * 30


def test_the_dirt_is_the_same_every_time_and_of_every_kind() -> None:
    found, again = (list(variations(ROWS)) for _ in range(2))
    assert found == again
    dirt = found[0]
    assert len(dirt.sources) == len(ROWS)
    together = "\n".join(dirt.sources)
    for sign in ("\u00a0", "\t", "  ", "\u00ad", "\u200b", STRESS, "\ufeff", "“", "’", "–", "🙂", "Ежик", "Еще"):
        assert sign in together, repr(sign)
    assert any(not unicodedata.is_normalized("NFC", source) for source in dirt.sources)


def test_cleaning_leaves_marks_and_emoji_and_nothing_else() -> None:
    """So that the dirty row has something to measure, beside what a prompt loses anyway."""
    differ = 0
    for row in ROWS:
        cleaned = clean_line(dirty(row, random.Random(1)))
        differ += cleaned != row
        plain = str.maketrans({"“": '"', "”": '"', "’": "'", "–": "—", "е": "ё", "Е": "Ё"})
        assert cleaned.translate(plain) == row.translate(plain)
    assert 0 < differ < len(ROWS)


@settings(max_examples=400)
@given(st.text("Ёёеая xo «»“”'’—–-.,1"), st.integers(0, 9))
def test_a_model_reads_dirt_in_one_of_the_two_forms_that_it_was_trained_on(text: str, seed: int) -> None:
    """A source as it is, or as most people type it: no mark of a dirty row is one that it does not know."""
    source = clean_source(text)
    assert clean_source(dirty(source, random.Random(seed))) in (source, as_typed(source))


def test_what_is_expected_of_dirty_rows_and_of_pairs() -> None:
    texts = [f"text {i}" for i in range(len(ROWS))]
    dirt, pairs = variations(ROWS)
    for source, expected, text in zip(dirt.sources, dirt.expected(texts), texts, strict=True):
        assert expected == text or (expected.startswith(text) and source.endswith(expected.removeprefix(text)))
    assert len(set(dirt.expected(texts)) - set(texts)) > 20
    assert pairs.expected(texts) == [f"text {i} text {i + 1}" for i in range(0, len(ROWS) - 1, 2)]
    assert pairs.sources[0] == f"{ROWS[0]}\n{ROWS[1]}" and pairs.sources[1] == f"{ROWS[2]} {ROWS[3]}"
    assert [each.name for each in variations(["one"])] == ["dirty"] and not list(variations([]))
