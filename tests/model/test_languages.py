"""Scripts against Unicode's own table, languages against what they are written in, and lengths against real pairs."""

from __future__ import annotations

import re
import sys
import unicodedata

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from model.languages import SCRIPTS, language_of, length, lengths, script_of, scripts

UNICODE = {"Japanese": r"[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_scripts_letters_are_unicodes(name: str) -> None:
    own = re.compile(f"[{SCRIPTS[name]}]")
    its = regex.compile(UNICODE.get(name, rf"\p{{Script={name}}}"))
    others = regex.compile("[" + "".join(rf"\p{{Script={other}}}" for other in SCRIPTS if other not in UNICODE) + "]")
    letters = [chr(c) for c in range(0x10000) if unicodedata.category(chr(c))[0] == "L"]
    assert [c for c in letters if its.fullmatch(c) and not own.fullmatch(c)] == []
    assert [c for c in letters if own.fullmatch(c) and others.fullmatch(c) and not its.fullmatch(c)] == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ru", ("Cyrillic",)),
        ("RU-ru", ("Cyrillic",)),
        ("pt_BR", ("Latin",)),
        ("sr", ("Latin", "Cyrillic")),
        ("sr-Latn-RS", ("Latin",)),
        ("uz", ("Latin", "Cyrillic", "Arabic")),
        ("pa", ("Arabic", "Gurmukhi")),
        ("ur", ("Arabic",)),
        ("zh-Hant-TW", ("Han",)),
        ("ja", ("Japanese",)),
        ("eng_Latn", ("Latin",)),
        ("xx", ()),
        ("", ()),
    ],
)
def test_scripts_of_codes(code: str, expected: tuple[str, ...]) -> None:
    assert scripts(code) == expected


# Sentences of those whose languages were all rejected while an unlisted language counted as Latin, and some more.
@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("ba", "Мин өйҙә китап уҡыйым."),
        ("cv", "Эпӗ килте кӗнеке вулатӑп."),
        ("os", "Æз хæдзары чиныг кæсын."),
        ("bn", "আমি বাড়িতে বই পড়ি।"),
        ("ta", "நான் வீட்டில் புத்தகம் படிக்கிறேன்."),
        ("te", "నేను ఇంట్లో పుస్తకం చదువుతాను."),
        ("am", "እኔ ቤት ውስጥ መጽሐፍ አነባለሁ።"),
        ("my", "ကျွန်တော် အိမ်မှာ စာအုပ်ဖတ်တယ်။"),
        ("km", "ខ្ញុំអានសៀវភៅនៅផ្ទះ។"),
        ("lo", "ຂ້ອຍອ່ານປຶ້ມຢູ່ເຮືອນ."),
        ("bo", "ང་ནང་ལ་དེབ་ཀློག་གི་ཡོད།"),
        ("si", "මම ගෙදර පොතක් කියවනවා."),
        ("ckb", "من لە ماڵەوە کتێب دەخوێنمەوە."),
        ("ug", "مەن ئۆيدە كىتاب ئوقۇيمەن."),
        ("yi", "איך לייען אַ בוך אין דער היים."),
        ("dv", "އަހަރެން ގޭގައި ފޮތް ކިޔަން."),
        ("chr", "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ"),
        ("zgh", "ⵜⴰⵎⴰⵣⵉⵖⵜ"),
        ("ff", "𞤆𞤵𞤤𞤢𞤪"),
        ("haw", "ʻŌlelo Hawaiʻi"),
    ],
)
def test_sentences_are_in_a_script_of_their_language(code: str, text: str) -> None:
    assert script_of(text) in scripts(code)


@pytest.mark.parametrize(
    ("text", "languages", "expected"),
    [
        ("Этот рис такой сладкий!", ["ru", "en"], "ru"),
        ("My iPhone", ["ru", "en"], "en"),
        ("12:30", ["ru", "en"], None),
        ("да yes", ["ru", "en"], "en"),
        ("Guten Tag", ["de", "en"], None),
        ("Добар дан", ["sr", "en"], "sr"),
        ("Dobar dan", ["sr", "en"], None),
        ('The word "здраво" means hello', ["sr", "en"], None),
        ("Dobar dan", ["sr", "ru"], "sr"),
        ("Добар дан", ["sr", "ru"], None),
        ("Dobar dan", ["sr-Cyrl", "en"], "en"),
        ("今日は良い天気です", ["zh", "ja"], "ja"),
        ("今天天气很好", ["zh", "ja"], None),
        ("今天天气很好", ["zh", "ko"], "zh"),
        ("오늘 날씨가 좋다", ["zh", "ko"], "ko"),
        ("what it is in", ["xx", "en"], None),
        ("дом", ["xx", "en"], None),
        ("", ["ru", "en"], None),
    ],
)
def test_the_language_of_a_text(text: str, languages: list[str], expected: str | None) -> None:
    assert language_of(text, languages) == expected
    assert language_of(text, languages[::-1]) == expected


# Article 1 of the Universal Declaration of Human Rights, first sentence: all say the same as the English.
@pytest.mark.parametrize(
    "text",
    [
        "Все люди рождаются свободными и равными в своем достоинстве и правах.",
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
        "人人生而自由,在尊严和权利上一律平等。",
        "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
        "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
        "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።",
        "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
        "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق.",
        "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
        "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
        "Mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền.",
    ],
)
def test_one_sentence_has_about_one_length_in_every_script(text: str) -> None:
    english = "All human beings are born free and equal in dignity and rights."
    assert 0.6 < length(text) / length(english) < 1.7


@given(st.lists(st.text(st.sampled_from("aя— 人す모ኣ\u2d80Ꭰᐁꀀ🙂"))))
def test_the_lengths_of_many_texts_are_those_of_each(texts: list[str]) -> None:
    assert lengths(texts) == [*map(length, texts)]


def test_every_sign_that_says_more_counts_for_more() -> None:
    for weight, names in ((3, ["Han"]), (2, ["Hangul", "Ethiopic", "Yi", "Cherokee", "Canadian_Aboriginal"])):
        letters = re.compile("[" + "".join(SCRIPTS[name] for name in names) + "]")
        found = [character for code in range(sys.maxunicode + 1) if letters.match(character := chr(code))]
        assert found and {length(character) for character in found} == {weight}


def test_letters_of_alphabets_are_one_each() -> None:
    for text in ("", "Hello", "Привет ½ — é", "γειά", "नमस्ते", "שלום"):
        assert length(text) == len(text)
