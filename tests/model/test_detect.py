"""The language of a text: by its letters, and by its looks where languages share a script."""

from __future__ import annotations

import subprocess
import sys

import pytest

from model.text.detect import CONFIDENT, Detection, detect, detected
from tests.helpers.cost import LINEAR, growth


def test_scripts_tell_languages_apart_and_the_share_of_letters_is_the_confidence() -> None:
    assert detect("Привет!", ["ru", "en"]) == [Detection("ru", 1.0), Detection("en", 0.0)]
    assert detect("дом house", ["ru", "en"]) == [Detection("en", 5 / 8), Detection("ru", 3 / 8)]
    assert detect("дом 家", ["ru", "en"]) == [Detection("ru", 3 / 4), Detection("en", 0.0)]


@pytest.mark.parametrize("text", ["", "42", "♪", "家", "a" + "\u0300" * 3000])
@pytest.mark.parametrize("languages", [["ru", "en"], ["en"], ["xx", "en"], ["zh", "ja"], ["en", "de", "ru"]])
def test_confidences_are_shares(text: str, languages: list[str]) -> None:
    found = detect(text, languages)
    assert sorted(one.language for one in found) == sorted(languages)
    confidences = [one.confidence for one in found]
    assert confidences == sorted(confidences, reverse=True)
    assert all(0 <= one <= 1 for one in confidences)
    assert sum(confidences) <= 1.000001


@pytest.mark.parametrize(
    ("text", "languages", "expected"),
    [
        ("42", ["ru", "en"], None),
        ("дом", ["xx", "en"], None),  # a script that is not known
        ("дом", ["rus", "ukr"], None),  # codes that the detector does not know
        ("Please enter a valid number.", ["en", "de", "fr", "es"], "en"),
        ("Bitte geben Sie eine gültige Zahl ein.", ["en", "de", "fr", "es"], "de"),
        ("Saisissez un nombre valide.", ["en", "de", "fr", "es"], "fr"),
        ("Introduzca un número válido.", ["en", "de", "fr", "es-MX"], "es-MX"),
        ("ВВЕДИТЕ ПРАВИЛЬНОЕ ЧИСЛО.", ["ru", "uk", "en"], "ru"),
        ("Введіть правильне число.", ["ru", "uk", "en"], "uk"),
        ("家で本を読みます", ["zh", "ja", "en"], "ja"),
        ("我在家看书", ["zh", "ja", "en"], "zh"),
    ],
)
def test_the_language_of_a_text(text: str, languages: list[str], expected: str | None) -> None:
    for order in (languages, languages[::-1]):
        found = detected(text, order)
        assert found == expected if found is None else found.language == expected
        assert found is None or found.confidence > 0.5


def test_names_in_other_letters_do_not_hide_a_language() -> None:
    found = detected("Алиса и Максим поехали вместе с Mr. Brown", ["ru", "en"])
    assert found is not None
    assert found.language == "ru"
    assert found.confidence >= CONFIDENT


def test_russian_and_english_need_no_detector() -> None:
    code = "import sys; from model.text.detect import detect, load; load(['ru', 'en']); detect('дом', ['ru', 'en']);"
    assert not subprocess.run(
        [sys.executable, "-c", code + "sys.exit('py3langid' in sys.modules)"], check=False
    ).returncode


@pytest.mark.parametrize("letter", ["a", "a\u0300", "ж", " ", "a "])
def test_a_longer_text_costs_no_more_than_its_length(letter: str) -> None:
    assert growth(lambda text: detect(text, ["en", "de"]), lambda size: letter * size, 1 << 10) < LINEAR
