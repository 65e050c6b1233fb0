"""The service's refusals in Russian: its sentences are English on every door, and a person at a terminal chose Russian.

A sentence that is not known here is told as it is.

    in_russian("must be between 1 and 8, not 9") == "нужно от 1 до 8, а не 9"
"""

import re

_SENTENCES = (
    (r"must be between (\S+) and (\S+), not (.+)", "нужно от {} до {}, а не {}"),
    (r"must be at least (\S+) and at most (\S+), not (.+)", "нужно от {} до {}, а не {}"),
    (r"must be above (\S+) and at most (\S+), not (.+)", "нужно больше {} и не больше {}, а не {}"),
    (r"must be an integer, not (.+)", "нужно целое число, а не {}"),
    (r"must be a number, not (.+)", "нужно число, а не {}"),
    (r"must be true or false, not (.+)", "нужно true или false, а не {}"),
    (r"must be text or html, not (.+)", "нужно text или html, а не {}"),
    (r"must be a short string, not (.+)", "нужна короткая строка, а не {}"),
    (r"unknown parameter; known: (.+)", "такого параметра нет; есть: {}"),
    (r"unknown language (.+); known: (.+)", "языка {} модель не знает; есть: {}"),
    (r"unknown author (.+); known: none", "автора {} модель не знает: авторов у неё нет"),
    (r"unknown author (.+); known: (.+)", "автора {} модель не знает; есть: {}"),
    (r"each string must have 1 to (\d+) characters, one has (\d+)", "в строке от 1 до {} знаков, а в этой {}"),
    (r"a beam search draws nothing: .+", "лучевой поиск не выбирает случайно: задайте temperature 0 или beams 1"),
    (r"a beam search ends where its texts do: .+", "лучевой поиск кончается вместе с текстом: уберите или beams 1"),
    (r"beam search is not offered for this model; .+", "у этой модели нет лучевого поиска: оставьте beams 1"),
    (r"(\d+) beams do not fit, this server has (\d+) slots", "лучей {}, а мест для них {}"),
    (r"this model continues text and takes none; .+", "эта модель продолжает текст, ей это не нужно: уберите"),
    (r"is for texts that are cut into pieces; .+", "это для текстов, что делятся на части: уберите split и ignore_eos"),
    (r"has (\d+) characters, more than (\d+); split the text", "в тексте {} знаков, больше {}: разделите его"),
    (r"has (\d+) tokens, this model takes at most (\d+); .+", "в тексте токенов {}, а модель берёт {}: разделите его"),
    (
        r"(\d+) new tokens after a prompt of (\d+) exceed the context of (\d+); ask for at most (\d+)",
        "{} токенов после текста в {} не поместятся в {}: не больше {}",
    ),
    (r"must be an object of terms and their translations, .+", 'нужны термины и переводы: {{"рис": "rice"}}'),
)
_KNOWN = tuple((re.compile(english, re.S), russian) for english, russian in _SENTENCES)


def in_russian(sentence: str) -> str:
    """A refusal's sentence in Russian, or as it is."""
    for english, russian in _KNOWN:
        if found := english.fullmatch(sentence):
            return russian.format(*found.groups())
    return sentence
