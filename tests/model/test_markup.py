"""HTML: which texts a page has, and that nothing but them changes."""

from __future__ import annotations

import html
from functools import partial
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.text.markup import Markup, MarkupError
from tests.helpers.cost import LINEAR, growth


@pytest.mark.parametrize(
    ("page", "texts"),
    [
        ("Привет", ["Привет"]),
        ("<p>Нажмите <b>Пуск</b> и&nbsp;ждите</p>", ["Нажмите <g1>Пуск<g2> и\xa0ждите"]),
        ("<p>раз\n  два<br>три<p>четыре", ["раз два", "три", "четыре"]),
        ("<table><tr><td>а</td><td> б </td></tr></table>", ["а", "б"]),
        ("<p>До <code>x = 1</code> после", ["До <g1> после"]),
        ("<pre>код</pre><script>a()</script><style>b</style><textarea>в</textarea>", []),
        ('<p>Наш <span translate="no">Имя</span> и <i class="x notranslate">ещё</i>', ["Наш <g1> и <g2>"]),
        ('<div class="notranslate"><p>нет</p></div><p>да</p>', ["да"]),
        ('<img alt="Кот" src="кот.png"><a title="Дом" href="дом">там</a>', ["Кот", "Дом", "<g1><g2><g3>там<g4>"]),
        ("<p>5 &lt; 6 &amp; <!-- нет --> да</p>", ["5 < 6 & <g1> да"]),
        ("<p>1 2</p><p></p> ", []),
        ("&lt;g1&gt; слово <b>и</b> &lt;gg1&gt;", ["<g1> слово <ggg1>и<ggg2> <gg1>"]),
        ("", []),
    ],
)
def test_texts_of_a_page(page: str, texts: list[str]) -> None:
    assert Markup(page).texts == texts


@pytest.mark.parametrize(
    ("page", "filled"),
    [
        ("раз <b>два</b>", "РАЗ <b>ДВА</b>"),
        ("  <p>\n раз &amp; &lt;два&gt;</p>\n", "  <p>\n РАЗ &amp; &lt;ДВА&gt;</p>\n"),
        ("<td>раз</td>", "<td>РАЗ</td>"),
        ("<div>раз</div>", "<div>РАЗ</div>"),
        ("раз</body></html >два", "РАЗДВА"),
        ("<body><p>раз</body>", "<body><p>РАЗ</p></body>"),
        (
            "<!DOCTYPE html>\n<html><head><title>раз</title></head><body>два</body></html>",
            "<!DOCTYPE html>\n<html><head><title>РАЗ</title></head><body>ДВА</body></html>",
        ),
        (
            "<p>раз<!-- два --></p><script>1 < 2 && 'три'</script>",
            "<p>РАЗ<!-- два --></p><script>1 < 2 && 'три'</script>",
        ),
        ('<img alt="&quot;раз&quot; &lt;" src="два">', '<img alt="&quot;РАЗ&quot; &lt;" src="два">'),
        ("<ul><li>раз<li>два</ul>три", "<ul><li>РАЗ</li><li>ДВА</li></ul>ТРИ"),
        ("x\x0by", "XY"),
        ('<a href="{{ раз }}?x=1&amp;y" hidden>два</a>', '<a href="{{ раз }}?x=1&amp;y" hidden="">ДВА</a>'),
    ],
)
def test_a_page_comes_out_as_it_was(page: str, filled: str) -> None:
    markup = Markup(page)
    assert markup.filled([text.upper().replace("<G", "<g") for text in markup.texts]) == filled


def test_a_translation_may_hold_what_looks_like_tags() -> None:
    markup = Markup("<p>раз <i>два</i></p>")
    assert markup.filled(["<b>&amp; <g1>x < y<g2>"]) == "<p>&lt;b&gt;&amp;amp; <i>x &lt; y</i></p>"
    assert markup.filled(["no mark"]) == "<p>no mark<i></i></p>"


def test_an_entity_that_a_page_declares_is_not_read() -> None:
    page = '<!DOCTYPE html [<!ENTITY x SYSTEM "file:///etc/hostname">]><html><body><p>раз &x;</p></body></html>'
    assert "раз &x;" in "".join(Markup(page).texts)


def test_nesting_is_bounded() -> None:
    assert Markup("<div>" * 200 + "раз").texts == ["раз"]
    with pytest.raises(MarkupError, match="more than 250 deep"):
        Markup("<div>" * 300 + "раз")


class Tags(HTMLParser):
    """A page's tags and comments, by another parser."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[object] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found.append((tag, attrs))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(tag)

    def handle_comment(self, data: str) -> None:
        self.found.append(["comment", data])


WORDS = st.text("абв <>&;\"'gx1\n\xa0", max_size=8)
NAMES = st.sampled_from(["b", "div", "span", "section", "code", "pre", "i", "em"])
PAGES = st.recursive(
    WORDS.map(partial(html.escape, quote=False)),
    lambda inner: st.builds(
        lambda name, parts: f"<{name}>{''.join(parts)}</{name}>",
        NAMES,
        st.lists(inner, max_size=4),
    ),
    max_leaves=12,
)


@given(PAGES)
def test_tags_of_any_page_stay(page: str) -> None:
    markup = Markup(page)
    once = markup.filled(markup.texts)
    assert once.split() == page.split()
    assert Tags(once).found == Tags(page).found
    assert Markup(once).filled(Markup(once).texts) == once


@pytest.mark.parametrize(
    "part", ["<p>а</p>", "<b>а</b>", "а ", "<", "<!--", "&", "<br>", "<g1>", "&lt;g1&gt;а", '<i title="а">']
)
def test_reading_is_linear(part: str) -> None:
    def run(page: str) -> None:
        try:
            markup = Markup(page)
        except MarkupError:
            return
        markup.filled(markup.texts)

    assert growth(run, lambda size: part * size, 1 << 8, most=1 << 15) < LINEAR
