"""The one cleaning: what it takes away, what it leaves, and that a prompt has gone through it as a training row has."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import CorpusConfig
from model.corpus import prepare_corpus, read_split
from model.text import cleaning
from model.text.cleaning import as_typed, clean_line, clean_lines, clean_source, clean_text
from model.tokenizer import Tokenizer, load_tokenizer
from model.tokenizer.prompt import encode_prompt
from tests.helpers.bundles import tiny_tokenizer

# Text that is likely to go wrong: controls, all white space, marks that combine, invisible characters, emoji, letters
# of two alphabets that look alike.
nasty = st.text(
    st.sampled_from(
        "aя1 \t\n\r\v\f\x1c\x85\u2028\xa0\u200b\u200d\xad\u202e\ufeffé\u0301\u0306\u0308\u0316иеёйcсМ🙂👩<>\x00"
    )
)
texts = st.one_of(st.text(), nasty)
with_surrogates = st.one_of(texts, st.text(st.sampled_from("aи\ud800\udfff\u0306 ")))


@settings(max_examples=400)
@given(with_surrogates)
def test_a_clean_line_is_clean_already(text: str) -> None:
    line = clean_line(text)
    assert clean_line(line) == line
    assert unicodedata.is_normalized("NFC", line)
    assert line == " ".join(line.split())
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in line)
    line.encode()


@settings(max_examples=400)
@given(st.lists(with_surrogates, max_size=5), st.integers(0, 30))
def test_many_lines_are_cleaned_as_each_of_them_is(texts: list[str], before: int) -> None:
    """Whether there are enough to be looked at all at once, or one has a line break, or not."""
    many = [*["Всё чисто."] * before, *texts, "", " Лишнее\u00a0", "так и быть"]
    assert clean_lines(many) == list(map(clean_line, many))


@given(st.lists(st.sampled_from("aяЯеё x.’-\u2011\u0301е"), min_size=2, max_size=6).map("".join))
def test_no_soiled_line_is_taken_for_a_clean_one(text: str) -> None:
    many = [text] * 16
    assert clean_lines(many) == [clean_line(text)] * 16


def test_letters_that_need_no_closer_look_stay_what_they_are_side_by_side() -> None:
    """Every character of the blocks that clean_lines knows, beside some of each: NFC joins none."""
    known = [chr(code) for code in range(0x20, 0xA000) if cleaning._kind(chr(code)) != cleaning._UNSURE]
    assert len(known) > 20_000 and {"я", "ё", "é", "—", "中", "«"} <= set(known)
    for first in "aяé中あα«—1":
        for character in known:
            pair = first + character
            assert unicodedata.normalize("NFC", pair) == pair


@given(with_surrogates)
def test_clean_text_is_stable_and_keeps_its_lines(text: str) -> None:
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    assert cleaned.count("\n") == text.replace("\r\n", "\n").replace("\r", "\n").count("\n")
    assert not any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in cleaned)


TAKEN_AWAY = {
    "white space at the ends": ("  Кот спит. \n", "Кот спит."),
    "a no-break space": ("Кот\u00a0спит.", "Кот спит."),
    "a narrow and an ideographic space": ("Кот\u202fспит,\u3000да.", "Кот спит, да."),
    "a tab": ("Кот\tспит.", "Кот спит."),
    "line breaks": ("Кот\nспит\r\nи\u2028ест.", "Кот спит и ест."),
    "a double space": ("Кот  спит.", "Кот спит."),
    "soft hyphens": ("со\u00adеди\u00adнять", "соединять"),
    "a byte order mark": ("\ufeffКот спит.", "Кот спит."),
    "zero-width spaces and directions": ("Кот\u200b\u200e \u202aспит\u202c.", "Кот спит."),
    "controls": ("a\x00b\x85c\x1bd", "ab cd"),
    "a letter in two characters": ("и\u0306 е\u0308 e\u0301", "й ё é"),
    "stress marks": ("За́мок О\u0301льги, все\u0301, её́, і\u0301", "Замок Ольги, все, её, і"),
    "a stress mark before the letter's own": ("е\u0301\u0308 и\u0301\u0306", "ё й"),
    "a Latin letter in a Cyrillic word": ("Мaксим идёт в библиoтeку.", "Максим идёт в библиотеку."),
    "apostrophes in words": ("don’t, м’яч, мʼята", "don't, м'яч, м'ята"),
    "hyphens of other kinds": ("из\u2011за, кто\u2010то", "из-за, кто-то"),
    "Cyrillic letters in a Latin word": ("hеllо wоrld", "hello world"),
}
LEFT = {
    "typographic quotes and dashes": "«Да», — сказал он. “Yes”, ‘no’, „ja“, the cats’… № 5 – 7",
    "ё and е": "Ещё елка и ёлка",
    "emoji": "Кот спит 🙂 👩\u200d💻 ❤\ufe0f 👍🏽 🇷🇺",
    "words of both alphabets": "Файл config.yaml не найден, Wi-Fi и USB-порт, 3D-модель",
    "a word with letters that look like no other": "мАh и Windowsы",
    "accents of other letters": "café, naïve, ѝ, ќ, Wałęsa",
    "compatibility characters": "ﬁ ½ Ａ",
    "joiners that spell": "می\u200cخواهم",
    "nothing": "",
}


@pytest.mark.parametrize("kind", TAKEN_AWAY)
def test_what_is_taken_away(kind: str) -> None:
    text, expected = TAKEN_AWAY[kind]
    assert clean_line(text) == expected


@pytest.mark.parametrize("kind", LEFT)
def test_what_is_left(kind: str) -> None:
    assert clean_line(LEFT[kind]) == LEFT[kind]


@given(with_surrogates)
def test_a_source_has_one_form_of_each_mark(text: str) -> None:
    source = clean_source(text)
    assert clean_source(source) == clean_line(source) == source == clean_source(clean_line(text))
    assert as_typed(as_typed(source)) == as_typed(source) == clean_source(as_typed(source))


def test_the_marks_of_a_source() -> None:
    assert clean_source("«Да», — сказал “он”, „ja“, ‘no’, the cats’… 5 – 7") == (
        '«Да», — сказал "он", "ja", \'no\', the cats\'… 5 — 7'
    )
    assert as_typed("Ещё «ёлка» — ЁЖ") == 'Еще "елка" — ЕЖ'
    assert as_typed("Ё\u0308\u0316\u0308") == "Е\u0316"


# -- one cleaning for rows and prompts --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(tiny_tokenizer(tmp_path_factory.mktemp("tokenizer") / "char"))


@settings(max_examples=400, deadline=None)
@given(text=texts, family=st.sampled_from(["seq2seq", "decoder"]))
def test_a_prompt_of_dirty_text_is_that_of_clean_text(tokenizer: Tokenizer, text: str, family: str) -> None:
    def prompt(text: str) -> list[int]:
        return encode_prompt(tokenizer, family=family, task="translation", text=text, target="en")

    assert prompt(text) == prompt(clean_line(text)) == prompt(clean_source(text))


@settings(max_examples=200, deadline=None)
@given(text=texts)
def test_running_text_is_cleaned_as_its_rows_are(tokenizer: Tokenizer, text: str) -> None:
    def prompt(text: str) -> list[int]:
        return encode_prompt(tokenizer, family="decoder", task="text", text=text)

    assert prompt(text) == prompt(clean_text(text))


def test_rows_are_what_prompts_become(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Every kind of dirt, through the corpus and as a prompt: the same tokens."""
    dirty = [text for text, _ in TAKEN_AWAY.values() if not set(text) & set("\t\n\r\x85")]  # .tsv's own
    lines = [f"{text} строка номер {i}\tthis is line number {i}\n" for i, text in enumerate(dirty)]
    (tmp_path / "a.tsv").write_text("".join(lines), encoding="utf-8")
    config = CorpusConfig(valid_rows=1, heldout_rows=1, min_script_ratio=0, leaks="exact", duplicates="exact")
    prepare_corpus([str(tmp_path / "a.tsv")], [], tmp_path / "corpus", config)
    rows = [row["ru"] for split in ("train", "valid", "heldout") for row in read_split(tmp_path / "corpus", split)]
    assert len(rows) == len(lines) > 8
    prompts = [
        encode_prompt(tokenizer, family="seq2seq", task="translation", text=line.split("\t")[0], target="en")
        for line in lines
    ]
    assert sorted(prompt[1:-1] for prompt in prompts) == sorted(map(tokenizer.encode, rows))
