"""Time grows with the text and no faster: every function of the model's side, on texts made to be hard; and the NFC."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.quality import corpus_scores
from evaluation.report.page import marked
from model.config import CorpusConfig, TokenizerConfig
from model.corpus.cleaning import PairCleaner, PieceFilter, TestText, clean_author
from model.corpus.files import line_blocks
from model.languages import language_of
from model.text.blocks import cut_blocks
from model.text.cleaning import clean_line, clean_lines, clean_text
from model.text.pieces import cut
from model.tokenizer import Tokenizer, load_tokenizer
from model.tokenizer.train import train_tokenizer
from model.tokenizer.vocabulary import normalize
from model.unicode import nfc
from tests.helpers.bundles import tiny_corpus, tiny_tokenizer
from tests.helpers.cost import LINEAR, growth

# -- NFC ------------------------------------------------------------------------------------------------------------

MARKS = "\u0300\u0301\u0316\u0323\u0327\u0345\u0334\u0338\u3099\u302a\u05b0\u0e38\u1dce\u0f71"
# Characters that decompose into marks alone, of one class and of two; that begin or end a decomposition; Hangul.
ODD = "\u0344\u0340\u0f73\u0f75\u0f81\U0001d160\U0001d15e\u0958ệǖ\u212b각각≠—🙂\u200d"
texts = st.lists(
    st.one_of(
        st.text(MARKS, max_size=60), st.text(ODD, max_size=40), st.text("ae o\n", max_size=5), st.text(max_size=9)
    ),
    max_size=12,
).map("".join)


@settings(max_examples=400, deadline=None)
@given(texts.map(lambda text: text * (1 + 300 // (len(text) + 1))))
def test_nfc_is_unicodedatas_to_the_last_character(text: str) -> None:
    assert nfc(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("length", [29, 30, 31, 32, 62, 500])
def test_runs_of_any_length(length: int) -> None:
    for base in ("", "a", "ệ", "≠", "—", "日"):
        for marks in ("\u0316\u0300", "\u0344\u0316", "\u0f73\u0f71\u0f72", "\u0300", "\u0338\u0300\u0316"):
            text = "x" * 300 + base + (marks * length)[:length] + "é"
            assert nfc(text) == unicodedata.normalize("NFC", text)


def test_no_mark_is_overlooked() -> None:
    """What can be part of a run is, by itself, what the pattern finds: looked up for every character there is."""
    padding = "x" * 300
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        parts = unicodedata.normalize("NFD", character)
        if unicodedata.combining(parts[0]):
            assert all(map(unicodedata.combining, parts))
            assert not (character.isalnum() or character.isascii() or character == "_"), hex(code)
            run = padding + character * 40 + "\u0300\u0316" * 40
            assert nfc(run) == unicodedata.normalize("NFC", run)


# -- growth ---------------------------------------------------------------------------------------------------------


def repeated(unit: str) -> Callable[[int], str]:
    return lambda size: (unit * (size // len(unit) + 1))[:size]


TEXTS: dict[str, Callable[[int], str]] = {
    "marks of two classes": lambda size: "a" + "\u0300" * (size // 2) + "\u0316" * (size // 2),
    "marks that decompose": lambda size: "\u0344" * (size // 2) + "\u0f73" * (size // 2),
    "almost long runs": repeated("a" + "\u0316" * 30),
    "notes": lambda size: "\U0001d160" * size + "\u0300\u0316",
    "hangul": lambda size: "각" * size + "\u0316\u0300",
    "one letter": repeated("a"),
    "one cyrillic letter": repeated("ж"),
    "words without spaces": repeated("кошкаcatсобакаdog"),
    "one word": repeated("a "),
    "words": repeated("Кошка спит. The cat, "),
    "spaces": repeated(" "),
    "lines": repeated("\r\n"),
    "invisible": repeated("\u200b\xad"),
    "the tokenizer's space": repeated("a\u2581"),
    "unknown": repeated("🙂\U0010ffff"),
    "control tokens": repeated("<2en></s>"),
    "punctuation": repeated(".,!?'\"-&lt;"),
    "numbers": repeated("1.2,3-4"),
    "open quotations": repeated("«a"),
    "initials": repeated("А. "),
    "sentences without spaces": repeated("你好。"),
    "a word a line": repeated("a\n"),
    "emoji": repeated("a🙂\ufe0f"),
}
PAIRS = PairCleaner(CorpusConfig(), TestText())
PIECES = PieceFilter(CorpusConfig(), TestText())
FUNCTIONS: dict[str, Callable[[str], object]] = {
    "nfc": nfc,
    "normalize": normalize,
    "clean_line": clean_line,
    "clean_text": clean_text,
    "clean_author": clean_author.__wrapped__,
    "clean_lines": lambda text: clean_lines([text] + [""] * 15),
    "a pair": lambda text: PAIRS([(text, text[::-1])]),
    "a piece": lambda text: PIECES([(text,)]),
    "a test set": lambda text: TestText().add([text]),
    "cut_blocks": lambda text: list(cut_blocks([text], 1000)),
    "cut": lambda text: list(cut(text, "ru", lambda part: [0] * len(part), 256)),
    "marked samples": lambda text: marked(text, text[::-1]),
    "language_of": lambda text: language_of(text, ["ru", "en"]),
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_on_a_text_is_linear(function: str, text: str) -> None:
    assert growth(FUNCTIONS[function], TEXTS[text], 1 << 12, most=1 << 16) < LINEAR


def test_an_endless_line_in_small_blocks_is_linear() -> None:
    """As a compressed file of many small members gives it."""
    assert growth(lambda blocks: list(line_blocks(iter(blocks))), lambda size: [b"a" * 50] * size, 1 << 12) < LINEAR


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    folder = tmp_path_factory.mktemp("tokenizers")
    tiny_corpus(folder / "corpus", rows=300)
    for kind in ("unigram", "bpe"):
        train_tokenizer(folder / "corpus", folder / kind, TokenizerConfig(kind=kind, vocab_size=330))
    return {"char": load_tokenizer(tiny_tokenizer(folder / "char"))} | {
        kind: load_tokenizer(folder / kind) for kind in ("unigram", "bpe")
    }


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_a_tokenizer_is_linear(tokenizers: dict[str, Tokenizer], kind: str, text: str) -> None:
    tokenizer = tokenizers[kind]
    assert growth(tokenizer.encode, TEXTS[text], 1 << 12, most=1 << 16) < LINEAR
    assert growth(tokenizer.decode, lambda size: tokenizer.encode(TEXTS[text](size)), 1 << 12, most=1 << 14) < LINEAR


@pytest.mark.parametrize("text", ["one letter", "words", "spaces", "punctuation", "numbers", "marks of two classes"])
def test_the_metrics_are_linear(text: str) -> None:
    def score(line: str) -> Any:
        return corpus_scores([line], [line])

    assert growth(score, TEXTS[text], 1 << 9) < LINEAR
