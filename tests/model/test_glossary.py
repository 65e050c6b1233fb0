"""Terms are found in their forms, and their translations put where they stood, whatever the model makes of the text."""

from __future__ import annotations

import pytest

from model.text.glossary import Glossary, GlossaryError
from model.text.spans import attempts, translated
from tests.helpers.cost import LINEAR, growth

TERMS = [("сервер", "host"), ("база данных", "data store"), ("Excel", "Excel"), ("e-mail", "mail"), ("данные", "facts")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("На серверах пусто", [("серверах", "host")]),
        ("Сервера нет", [("Сервера", "Host")]),
        ("СЕРВЕР!", [("СЕРВЕР", "HOST")]),
        ("в базе  данных и данные", [("базе  данных", "data store"), ("данные", "facts")]),
        ("база-данных", [("данных", "facts")]),
        ("Excel EXCEL excel", [("Excel", "Excel"), ("EXCEL", "Excel")]),
        ("E-mail, e mail", [("E-mail", "Mail")]),
        ("серверный подсервер", []),
        ("", []),
    ],
)
def test_terms_of_a_text(text: str, found: list[tuple[str, str]]) -> None:
    spans = Glossary(TERMS, "ru", "en").find(text)
    assert [(text[span.start : span.end], span.kept) for span in spans] == found


def test_a_language_without_a_stemmer_has_the_terms_own_form_alone() -> None:
    glossary = Glossary([("Haus", "kuća")], "xx", "hr")
    assert [span.kept for span in glossary.find("Haus, Hauses")] == ["kuća"]
    assert glossary.count_used(glossary.find("Haus"), "nova kuća") == 1


def test_what_a_translation_uses() -> None:
    glossary = Glossary(TERMS, "ru", "en")
    terms = glossary.find("Сервер, сервер и база данных")
    assert glossary.count_used(terms, "Hosts and a data store") == 2
    assert glossary.count_used(terms, "The host's hosts store data") == 3
    assert glossary.count_used(terms, "") == 0


def test_a_translation_without_the_term_is_not_taken() -> None:
    glossary = Glossary(TERMS, "ru", "en")
    text = "Новый сервер %s готов"

    def translate(texts: list[str]) -> list[str]:
        asked.extend(texts)
        return [{"Новый %1 готов": "The new %1 is ready"}.get(source, "New server %s ready") for source in texts]

    asked: list[str] = []
    terms = glossary.find(text)
    way = attempts(text, terms, lambda found: glossary.count_used(terms, found) == len(terms))
    assert translated([way], translate) == ["The new host %s is ready"]
    assert asked == [text, "Новый %1 готов"]


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("", "x"), "must have a word"),
        (("x", "!"), "must have a word"),
        (("a\nb", "x"), "on one line"),
        (("x", "a " * 9), "longer than 8 words"),
        (("x" * 129, "x"), "or 128 characters"),
    ],
)
def test_terms_that_cannot_be_taken(pair: tuple[str, str], message: str) -> None:
    with pytest.raises(GlossaryError, match=message):
        Glossary([pair], "ru", "en")


@pytest.mark.parametrize("word", ["a ", "a", "b ", "a-", "сервер "])
def test_finding_terms_is_linear(word: str) -> None:
    pairs = [("a " * count + end, "x") for count in range(8) for end in ("b", "c")]
    glossary = Glossary(pairs, "ru", "en")
    assert growth(glossary.find, lambda size: word * size, 1 << 10, most=1 << 16) < LINEAR
