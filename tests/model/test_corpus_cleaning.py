"""What makes a row fit for training: the reasons, and what they are judged on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import CorpusConfig
from model.corpus.cleaning import (
    PairCleaner,
    PieceFilter,
    Script,
    TestText,
    clean_author,
)
from model.text.cleaning import clean_line

# Text that is likely to go wrong: controls, all white space, marks that combine, invisible characters, emoji.
nasty = st.text(
    st.sampled_from("aя1 \t\n\r\v\f\x1c\x85\u2028\xa0\u200b\u200d\xad\u202e\ufeff\ud800é\u0301\u0306и🙂👩<>\x00")
)
texts = st.one_of(st.text(), nasty)


@given(texts, texts)
def test_a_pair_that_passes_has_two_plain_sides(first: str, second: str) -> None:
    clean = PairCleaner(CorpusConfig(max_chars=20), TestText())
    ((one, two, reason),) = clean([(first, second)])
    assert (one, two) == (clean_line(first), clean_line(second))
    if not reason:
        assert one and two and one != two and max(len(one), len(two)) <= 20
        assert "\t" not in one + two and "\n" not in one + two
    assert clean([(one, two)]) == [(one, two, reason)]


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("Привет, мир!", "Hello, world!", ""),
        ("", "Hello", "empty"),
        ("Привет", " \t\u200b", "empty"),
        ("ы" * 1001, "y" * 900, "too_long"),
        ("Да", "Yes, of course", ""),
        ("Хорошо", "OK", ""),
        ("Да", "Yes, of course I will come", ""),
        ("Да", "Yes, of course I will come to see you", "length_ratio"),
        ("Да, я приду", "Yes, of course I will come to see you", "length_ratio"),
        ("Hello, world!", "Привет, мир!", "swapped"),
        ("OpenOffice", "OpenOffice ", "identical"),
        ("Hello there", "Hello, world!", "script"),
        ("Привет там", "Тоже русский", "script"),
        ("Нажмите Ctrl", "Press Ctrl", ""),
        ("1 234,5", "1,234.5", ""),
        ("Я знаю это.", "I know this.", "test_set"),
        ("Я знаю.", "I know  this.", "test_set"),
    ],
)
def test_reasons(first: str, second: str, reason: str) -> None:
    tests = TestText()
    tests.add(["Я знаю это.", "I know this."])
    assert PairCleaner(CorpusConfig(), tests)([(first, second)])[0][2] == reason


@pytest.mark.parametrize(
    ("language", "own", "other"),
    [
        ("uk", "Їжак", "Hedgehog"),
        ("sr", "Ђорђе Đorđe", "Γιώργος"),
        ("sr-Latn", "Đorđe", "Ђорђе"),
        ("rus_Cyrl", "Привет", "Hi"),
        ("kk", "Қазақ Qazaq", "你好"),
        ("ja", "東京は良い所ですー〆", "도쿄"),
        ("ko", "서울(首爾)", "Seoul is"),
        ("en", "naïve café", "наивный"),
        ("el", "καλημέρα", "good"),
        ("zh", "你好", "ni hao"),
        ("ru-RU", "Привет", "Hi"),
    ],
)
def test_scripts_follow_the_language(language: str, own: str, other: str) -> None:
    script = Script([language], 0.5)
    assert script.accepts(own)
    assert not script.accepts(other)


@given(st.lists(st.text("яЖaZ1 ._\n"), max_size=20), st.sampled_from([0.3, 0.5, 1.0]))
def test_the_script_of_many_texts_is_judged_by_the_letters_of_each(texts: list[str], least: float) -> None:
    counts = [(sum(map(text.count, "яЖ")), sum(map(text.count, "aZ"))) for text in texts]
    assert Script(["ru"], least).accept(texts) == [not en or ru >= least * (ru + en) for ru, en in counts]
    assert Script(["en"], least).accept(texts) == [not ru or en >= least * (ru + en) for ru, en in counts]


@pytest.mark.parametrize("text", ["Latin it is", "да", "你好", "ⵣ", "1"])
def test_a_language_that_is_not_known_is_not_judged_by_its_script(text: str) -> None:
    assert Script(["xx"], 1.0).accepts(text)
    assert Script(["en", "xx"], 1.0).accepts(text)


GERMAN = "Klicken Sie auf die Schaltfläche, um mit der Einrichtung fortzufahren."
ENGLISH = "Click on the button to continue with the installation."
FRENCH = "Cliquez sur le bouton pour continuer avec l'installation du programme."


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (GERMAN, ENGLISH, ""),
        (GERMAN, GERMAN.replace("Klicken", "Drücken"), "language"),
        (ENGLISH, ENGLISH.replace("Click", "Press"), "language"),
        (ENGLISH, GERMAN, "language"),
        (FRENCH, ENGLISH, "language"),
        (GERMAN, FRENCH, "language"),
        ("Bonjour", "Good day", ""),
        ("Mozilla Firefox", "Mozilla Firefox browser", ""),
    ],
)
def test_languages_of_one_script_are_told_apart(first: str, second: str, reason: str) -> None:
    config = CorpusConfig(languages=["de", "en"])
    assert PairCleaner(config, TestText())([(first, second)])[0][2] == reason
    assert PairCleaner(config.model_copy(update={"max_foreign": 1.0}), TestText())([(first, second)])[0][2] == ""
    unknown = CorpusConfig(languages=["xx", "yy"])
    assert PairCleaner(unknown, TestText())([(first, second)])[0][2] == ""


def test_the_detector_is_not_loaded_where_letters_tell() -> None:
    code = """
import sys
from model.config import CorpusConfig
from model.corpus.cleaning import PairCleaner, TestText
clean = PairCleaner(CorpusConfig(), TestText())
assert clean([("Нажмите на кнопку, чтобы продолжить установку.", "Cliquez sur le bouton pour continuer.")])[0][2] == ""
assert "py3langid" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)


def test_running_text_may_be_in_any_of_its_languages() -> None:
    tests = TestText()
    tests.add(["short\nThe quality of mercy is not strained at all."])
    check = PieceFilter(CorpusConfig(kind="text"), tests)
    texts = ("Привет", "Hello\n", "你好", "\n \n", "")
    assert check([(text,) for text in texts]) == list(zip(texts, ["", "", "script", "empty", "empty"], strict=True))
    assert check([("So:\n  The quality of mercy is not strained at all.\nYes",)])[0][1] == "test_set"
    assert check([("short",)])[0][1] == "", "a short line may occur twice by chance"


def test_an_author_fits_a_control_token() -> None:
    assert clean_author(" Anna  <K>\u200b ") == "Anna-K-"
