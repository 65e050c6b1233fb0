"""What is no language stays as it is, whatever the model makes of it, and finding it is quick."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.text import spans
from model.text.pieces import cut, join
from model.text.spans import Span, attempts, find, kept, trying, words_of
from tests.helpers.cost import LINEAR, growth


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("Откройте https://example.com/a?b=1#c, затем www.x.org.", ["https://example.com/a?b=1#c", "www.x.org"]),
        ("Пишите на first.last+tag@mail.example.com.", ["first.last+tag@mail.example.com"]),
        ("%s: строка %d из %1$d, %(name)s, %-5.2f%%, %lu", ["%s", "%d", "%1$d", "%(name)s", "%-5.2f", "%%", "%lu"]),
        ("%1 и %L2, ${x}, {name}, {0}, {{ x }}, %{y}", ["%1", "%L2", "${x}", "{name}", "{0}", "{{ x }}", "%{y}"]),
        ('<b>да</b> и <a href="x">нет</a><br/>', ["<b>", "</b>", '<a href="x">', "</a>", "<br/>"]),
        ("&amp; &#39; &#x27; AT&T", ["&amp;", "&#39;", "&#x27;"]),
        ("Наберите `git commit -m` в $HOME или %PATH%", ["`git commit -m`", "$HOME", "%PATH%"]),
        ("@user, --verbose, /usr/share/x и C:\\Temp", ["@user", "--verbose", "/usr/share/x", "C:\\Temp"]),
        ("Скидка 50% сегодня, и/или завтра: 100% success, 1 < 2 > 0, R&D; 5 - 3", []),
    ],
)
def test_what_is_no_language(text: str, spans: list[str]) -> None:
    assert [span.kept for span in find(text)] == spans
    assert all(text[span.start : span.end] == span.kept for span in find(text))


@given(st.one_of(st.text(), st.text("`@<&{%$/\\-w.:=#;>}'\" a1я\n")))
def test_a_quick_look_misses_no_span(text: str) -> None:
    assert find(text) == [Span(*match.span(), match[0]) for match in spans._SPAN.finditer(text)]
    assert words_of(text) == spans._SPAN.sub(" ", text)


def test_attempts_are_told_one_after_the_other() -> None:
    turns = trying(attempts("Нет %s в %d"))
    assert next(turns) == ("Нет %s в %d",)
    assert turns.send(["In %d"]) == ("Нет %1 в",)
    with pytest.raises(StopIteration) as end:
        turns.send(["No %1 in"])
    assert end.value.value == "No %s in %d"


def result(text: str, translate, terms=()) -> str:
    """The first good translation, and the last attempt is good whatever comes."""
    for attempt in attempts(text, terms):
        if (found := attempt.join([translate(source) for source in attempt.sources])) is not None:
            return found
    raise AssertionError("the last attempt is always good")


def test_a_text_without_spans_is_one_attempt_that_is_always_good() -> None:
    (only,) = attempts("Привет!")
    assert only.sources == ("Привет!",)
    assert only.join(["%s made up"]) == "%s made up"


def test_a_good_translation_is_taken_as_it_is() -> None:
    assert result("Нет %s в %d", {"Нет %s в %d": "In %d is no %s"}.__getitem__) == "In %d is no %s"


@pytest.mark.parametrize(
    "translation", ["In %d is nothing", "%s %s in %d", "%s in %d %d", "% s in %d", "no %s in %d {x}"]
)
def test_a_span_that_is_lost_doubled_broken_or_made_up_is_not_taken(translation: str) -> None:
    first = attempts("Нет %s в %d")[0]
    assert first.join([translation]) is None


def test_tags_stay_in_order_and_other_spans_may_change_places() -> None:
    first = attempts("<b>Нет</b> %s в %d")[0]
    assert first.join(["<b>No</b> %d of %s"]) is not None
    assert first.join(["</b>No<b> %s in %d"]) is None


def test_nothing_is_asked_where_nothing_is_language() -> None:
    (only,) = attempts("%s: https://example.com 12 😊")
    assert only.sources == ()
    assert only.join([]) == "%s: https://example.com 12 😊"


def test_stand_ins_are_put_back_wherever_they_come_and_the_ends_wait_outside() -> None:
    answers = {"Смотрите %1 и %2 здесь": "Here %2 and %1 see"}
    text = "`x`: Смотрите http://a.org и {b} здесь (см. `y`)!"
    assert result(text, lambda source: answers.get(source, "lost")) == "`x`: lost http://a.org lost {b} lost `y`)!"
    answers = {"Смотрите %1 и %2 здесь (см.": "Here %2 and %1 see (cf."}
    assert result(text, lambda source: answers.get(source, "lost")) == "`x`: Here {b} and http://a.org see (cf. `y`)!"


def test_the_last_attempt_translates_between_spans_and_drops_what_is_made_up() -> None:
    *_, last = attempts("Открыть  %s\tдля записи: {x}.")
    assert last.sources == ("Открыть", "для записи")
    assert (
        last.join(["Open %d", " for %s writing "]) == "Open  %s\tfor  writing: {x}."
    )  # the source's two spaces, and two of the model


@pytest.mark.parametrize("text", ["Ключ -c/--all есть", "%H: вызов %pT' указывает", "%1TOPIC без параметров"])
@pytest.mark.parametrize("translation", ["слово", "word"])
def test_no_word_grows_together_with_a_span(text: str, translation: str) -> None:
    last = attempts(text)[-1]
    found = last.join([translation] * len(last.sources))
    assert kept(text, found or "") == (kept(text, "")[1],) * 2


def test_terms_take_their_translations_place() -> None:
    text = "Новый сервер %s"
    term = Span(6, 12, "host")
    assert result(text, lambda source: {"Новый": "New"}.get(source, "lost"), [term]) == "New host %s"
    assert [attempt.sources for attempt in attempts("сервер", [Span(0, 6, "host")])][-1] == ()


SPANS = ("%s", "{0}", "https://a.org/b", "<b>", "&amp;", "`x y`", "a@b.org", "--all", "%1")


@given(st.lists(st.sampled_from([*SPANS, "слово", "и", ".", ", "]), max_size=14), st.integers())
def test_any_model_keeps_every_span(parts: list[str], seed: int) -> None:
    """A model that repeats, drops and makes up at random."""
    text = " ".join(parts)
    draw = random.Random(seed)

    def model(source: str) -> str:
        words = [draw.choice([word, word, word, "", "%s", "слово", "%1 %1"]) for word in source.split()]
        draw.shuffle(words)
        return " ".join(words)

    found = result(text, model)
    assert kept(text, found) == (sum(part in SPANS for part in parts),) * 2
    assert len(find(found)) == len(find(text)) or not find(text)


WORDS = ("Слово", "и", "т. е.", "конец.", "Да!", "\n", "\n- ", "🙂", "«", "»", ", ")


@given(st.lists(st.sampled_from([*SPANS, *WORDS]), max_size=30), st.integers(), st.integers(4, 40))
def test_a_text_that_is_cut_keeps_every_span(parts: list[str], seed: int, most: int) -> None:
    text, draw = " ".join(parts), random.Random(seed)

    def model(source: str) -> str:
        words = [draw.choice([word, word + " " + word, ""]) for word in source.split()]
        draw.shuffle(words)
        return " ".join(words)

    pieces = list(cut(text, "ru", lambda part: [1] * len(part), most))
    assert join(pieces, [piece.text for piece in pieces[:-1]]).split() == text.split()
    translations = [result(piece.text, model) for piece in pieces[:-1]]
    wanted = kept(text, "")[1]
    assert kept(text, join(pieces, translations)) == (wanted, wanted)


@pytest.mark.parametrize(
    "letter",
    [
        "a",
        *string.punctuation,
        "a.",
        "@a",
        "a@",
        "://",
        "http://",
        "<a ",
        "<a =",
        "%s",
        "{",
        "{a}",
        "&a",
        "/a",
        "`a",
        "😊",
        "\ufe0f",
        " ",
        "<!--",
    ],
)
def test_finding_is_linear(letter: str) -> None:
    assert growth(find, lambda size: letter * size, 1 << 10, most=1 << 17) < LINEAR


@pytest.mark.parametrize("letter", ["%s", "%s a", "`a` b ", "a"])
def test_attempts_are_linear(letter: str) -> None:
    def run(text: str) -> None:
        for attempt in attempts(text):
            attempt.join(attempt.sources)

    assert growth(run, lambda size: letter * size, 1 << 10, most=1 << 17) < LINEAR
