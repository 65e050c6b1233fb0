"""A text cut into pieces: nothing is lost, what is no language stays outside, and everything fits."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.text import pieces
from model.text.blocks import cut_blocks
from model.text.pieces import cut, join, space_between_sentences

nasty = st.text(
    st.sampled_from('aяБ1. !?\n\r\t\v\f\x1c\x85\u2028\xa0\u200b\xad\ufeff«»"()—-•,;:é\u0301🙂👍🏽\u200d\ufe0f你。')
)
texts = st.one_of(st.text(), nasty)


@given(st.lists(texts), st.integers(1, 40))
def test_blocks_are_the_text_again(parts: list[str], size: int) -> None:
    blocks = list(cut_blocks(parts, size))
    assert "".join(blocks) == "".join(parts)
    assert all(0 < len(block) <= size for block in blocks)


def test_a_quick_look_misses_no_emoji() -> None:
    found = [character for code in range(0x110000) if pieces._EMOJI.search(character := chr(code))]
    assert len(found) > 1000
    for emoji in [*found, "1\u20e3", "#\ufe0f\u20e3"]:
        assert pieces._EMOJI_SIGN.search(emoji)


def test_blocks_end_where_paragraphs_lines_sentences_clauses_or_words_end() -> None:
    assert list(cut_blocks(["one two\n\nthree\nfour five"], 15)) == ["one two\n\n", "three\nfour five"]
    assert list(cut_blocks(["one two\nthree four five six"], 14)) == ["one two\n", "three four ", "five six"]
    assert list(cut_blocks(["It rains. It snows today"], 16)) == ["It rains. ", "It snows today"]
    assert list(cut_blocks(["It rains, it snows today"], 16)) == ["It rains, ", "it snows today"]
    assert list(cut_blocks(["x" * 25], 10)) == ["x" * 10, "x" * 10, "x" * 5]


def pieces_of(text: str, most: int = 1000, language: str = "ru", space: str = "") -> tuple[list[str], list[str]]:
    """Gaps and sources; a character is a token."""
    sources: list[str] = []

    def encode(part: str) -> list[int]:
        sources.append(part)
        return [len(sources) - 1] * len(part)

    found = list(cut(text, language, encode, most, space))
    assert all(0 < len(piece.prompt) <= most for piece in found[:-1]) and not found[-1].prompt
    return [piece.gap for piece in found], [sources[piece.prompt[0]] for piece in found[:-1]]


@given(texts, st.integers(1, 12))
def test_no_character_is_lost_whatever_fits(text: str, most: int) -> None:
    gaps, sources = pieces_of(text, most)
    assert "".join(gap + source for gap, source in zip(gaps, [*sources, ""], strict=True)) == text
    assert all(any(map(str.isalpha, source)) and source == source.strip() for source in sources)


SENTENCES = {
    "Этот рис такой сладкий!": ("ru", ["Этот рис такой сладкий!"]),
    "Ты где?! Я тут. Иду…": ("ru", ["Ты где?!", "Я тут.", "Иду…"]),
    "Пришёл А. С. Пушкин. Он сел.": ("ru", ["Пришёл А. С. Пушкин.", "Он сел."]),
    "Он сказал: «Привет! Как дела?» И ушёл.": ("ru", ["Он сказал: «Привет! Как дела?»", "И ушёл."]),
    "We met on Jan. 5 at 10. Then we ate.": ("en", ["We met on Jan. 5 at 10.", "Then we ate."]),
    "Mr. Smith is here. See Fig. 3.": ("en_Latn", ["Mr. Smith is here.", "See Fig. 3."]),
    "Да.\u00a0Нет.\u2028Может": ("ru", ["Да.", "Нет.", "Может"]),
    "你好。再见。": ("zh", ["你好。", "再见。"]),
}


@pytest.mark.parametrize("text", SENTENCES)
def test_sentences(text: str) -> None:
    language, expected = SENTENCES[text]
    assert pieces_of(text, language=language)[1] == expected


GAPS = {
    "Раз.  Два.": ["", "  ", ""],
    "  Раз\n\n\tДва \n": ["  ", "\n\n\t", " \n"],
    "- Раз\n* Два\n• Три": ["- ", "\n* ", "\n• ", ""],
    "1. Раз\n  2) Два\n(3) Три\nб) Четыре": ["1. ", "\n  2) ", "\n(3) ", "\nб) ", ""],
    "> > Раз\n## Два\n— Три": ["> > ", "\n## ", "\n— ", ""],
    "Раз 🙂 Два 👍🏽👩\u200d💻\n✓ Три": ["", " 🙂 ", " 👍🏽👩\u200d💻\n✓ ", ""],
    "Раз\n2024 — 12:30\n***\nДва": ["", "\n2024 — 12:30\n***\n", ""],
    "a) 5": ["a) 5"],
    "-5 градусов": ["", ""],
    "2015 год. 3.5 метра": ["", " ", ""],
    "": [""],
}


@pytest.mark.parametrize("text", GAPS)
def test_what_is_no_language_stands_between_the_pieces(text: str) -> None:
    assert pieces_of(text)[0] == GAPS[text]


def test_what_does_not_fit_is_cut_at_clauses_else_at_words_else_anywhere() -> None:
    text = "Максим идёт в библиотеку, а Олег остаётся дома; потом они едут к морю."
    assert pieces_of(text, 50)[1] == ["Максим идёт в библиотеку, а Олег остаётся дома;", "потом они едут к морю."]
    assert pieces_of(text, 30)[1][0] == "Максим идёт в библиотеку,"
    words = pieces_of("слово " * 40, 30)[1]
    assert " ".join(words) == ("слово " * 40).strip() and max(map(len, words)) <= 30
    assert "".join(pieces_of("ж" * 100, 30)[1]) == "ж" * 100


def test_a_missing_space_between_sentences_is_put_in() -> None:
    text = "Кот спит.Он ест. " + "ж" * 20
    gaps, sources = pieces_of(text, 10, space=" ")
    assert sources[:2] == ["Кот спит.", "Он ест."] and "".join(sources[2:]) == "ж" * 20
    assert gaps[:3] == ["", " ", " "] and set(gaps[3:]) == {""}
    assert (space_between_sentences("en"), space_between_sentences("zh-Hant")) == (" ", "")


def test_pieces_are_put_together() -> None:
    found = list(cut("- Раз. Два!\n", "ru", lambda part: [1], 9))
    assert join(found, ["One.", "Two!"]) == "- One. Two!\n"


def test_pieces_are_made_as_they_are_asked_for() -> None:
    encoded: list[str] = []

    def encode(part: str) -> list[int]:
        encoded.append(part)
        return [1]

    pieces = cut("Кот спит. Он ест. " * 10_000, "ru", encode, 9)
    assert next(pieces).prompt == [1] and len(encoded) == 1


def test_real_text_in_random_pieces_is_whole() -> None:
    """What a seed draws from all of these: lines, lists, quotations, emoji."""
    dice, parts = random.Random(0), [*SENTENCES, *GAPS, " ", "\n", "\r\n\r\n", "«Да!» — сказала она. "]
    for _ in range(200):
        text = "".join(dice.choices(parts, k=12))
        gaps, sources = pieces_of(text, dice.choice([8, 40, 1000]))
        assert "".join(map("".join, zip(gaps, [*sources, ""], strict=True))) == text
