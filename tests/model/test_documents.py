"""Documents: nothing but texts changes, byte for byte; what is a text in each format; and what is wrong, in words.

translate-toolkit, which other people's tools are made of, judges what is written into catalogues and the like.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from translate.storage import po, properties, tmx, xliff

from model.documents import FORMATS, DocumentError, Segment, format_of, read, write

IN_PLACE = (".txt", ".md", ".srt", ".tsv", ".jsonl", ".properties")


def parts(data: bytes | str, name: str, **options) -> list[bytes | Segment]:
    content = data if isinstance(data, bytes) else data.encode()
    return list(read(io.BytesIO(content), name, **{"target": "ru", **options}))


def texts(data: bytes | str, name: str, **options) -> list[str]:
    return [part.text for part in parts(data, name, **options) if isinstance(part, Segment)]


def shout(text: str) -> str:
    """A translation that keeps marks, as it has to."""
    return re.sub("(<g+[0-9]+>)|.", lambda found: found[1] or found[0].upper(), text)


def translated(data: bytes | str, name: str, translate=shout, **options) -> str:
    found = parts(data, name, **options)
    return b"".join(write(found, [translate(part.text) for part in found if isinstance(part, Segment)])).decode()


def refusal(data: bytes | str, name: str, **options) -> str:
    with pytest.raises(DocumentError) as caught:
        parts(data, name, **options)
    return str(caught.value)


# Nothing is lost

MARKS = {
    ".txt": ["\r", "\n", "\r\n", " ", "\t", "\ufeff", "\u00a0", "\u2028"],
    ".tsv": ["\t", "\n", "\r\n", " ", '"', "\ufeff"],
    ".md": [*"#>*_-+|`~[]()<>\\!:$&;=.0\t\n", "\r\n", "  \n", "    ", "```", "<!--", "-->", "[a]: b\n", "---\n"],
    ".properties": ["=", ":", "\\", "\\\n", "#", "!", "\n", "\r\n", " ", "\t", "\\u0041", "\\n", "\f"],
    ".srt": ["\n", "\r\n", "- ", "<i>", "</i>", "{\\an8}", "1\n00:00:01,000 --> 00:00:02,000\n", " ", "7"],
}


def made_of(kind: str) -> st.SearchStrategy[str]:
    words = st.one_of(st.sampled_from(["слово", "word", "é", "🙂", "I'm"]), st.text(max_size=4))
    return st.lists(st.one_of(st.sampled_from(MARKS[kind]), words), max_size=30).map("".join)


def same(data: str, name: str) -> None:
    content = data.encode("utf-8", "surrogatepass")
    try:
        found = parts(content, name)
    except DocumentError:
        return
    assert b"".join(write(found, [part.text for part in found if isinstance(part, Segment)])) == content


@pytest.mark.parametrize("kind", MARKS)
def test_what_is_not_translated_stays_byte_for_byte(kind: str) -> None:
    @settings(max_examples=300, deadline=None)
    @given(made_of(kind))
    def holds(data: str) -> None:
        same(data, f"a{kind}")
        if kind == ".srt":
            same(f"1\n00:00:01,000 --> 00:00:02,000\n{data}", "a.srt")

    holds()


json_texts = st.dictionaries(
    st.sampled_from(["text", "id", "n"]),
    st.one_of(st.text(), st.integers(), st.lists(st.text(), max_size=2)),
    max_size=3,
)


@settings(deadline=None)
@given(st.lists(json_texts, max_size=4), st.booleans(), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_json_lines_stay_byte_for_byte(records: list, escaped: bool, end: str, bom: bool) -> None:
    lines = [json.dumps({**record, "text": f"a {record.get('text')}"}, ensure_ascii=escaped) for record in records]
    same("\ufeff" * bom + end.join(lines), "a.jsonl")
    said = translated(end.join(lines), "a.jsonl", lambda text: f"<{text}>")
    for before, after in zip(map(json.loads, lines), map(json.loads, filter(None, said.split("\n"))), strict=True):
        assert after["text"].strip() == f"<{before['text'].strip()}>"
        assert {**after, "text": ""} == {**before, "text": ""}


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("**/*.md")), ids=lambda path: path.name)
def test_our_own_documents_stay_byte_for_byte(path: Path) -> None:
    if ".venv" not in str(path):
        same(path.read_bytes().decode(), "a.md")
        assert texts(path.read_bytes(), "a.md")


# What is a text


def test_a_line_of_plain_text_is_a_text() -> None:
    data = "\ufeff  Привет!\r\n\r\n12:30\n\tКак дела?\u00a0\nПока"
    assert texts(data, "a.txt") == ["Привет!", "Как дела?", "Пока"]
    assert translated(data, "a.txt", lambda _: "a\nb") == "\ufeff  a b\r\n\r\n12:30\n\ta b\u00a0\na b"


def test_the_cells_of_a_table_are_texts_or_those_of_its_named_columns() -> None:
    data = "id\tтекст\t42\nx1\tдва  слова\t\n"
    assert translated(data, "a.tsv") == "ID\tТЕКСТ\t42\nX1\tДВА  СЛОВА\t\n"
    assert translated(data, "a.tsv", fields=["2"]) == "id\tТЕКСТ\t42\nx1\tДВА  СЛОВА\t\n"
    assert translated("a\n", "a.tsv", lambda _: "b\tc\n") == "b c\n", "a cell stays one"
    assert "the column 'text' is no number" in refusal(data, "a.tsv", fields=["text"])


def test_fields_of_json_lines_are_texts() -> None:
    data = '{"id": "x", "text" : "\\u0430\\n", "n": [1, {"text": "no"}]}\n\n {"content":"б"}\n'
    assert texts(data, "a.jsonl") == ["а", "б"]
    said = translated(data, "a.jsonl", lambda text: f'"{text}"')
    assert said == '{"id": "x", "text" : "\\"\\u0430\\"\\n", "n": [1, {"text": "no"}]}\n\n {"content":"\\"б\\""}\n'
    assert texts(data.splitlines()[0], "a.jsonl", fields=["id", "text"]) == ["x", "а"]
    assert "a.jsonl:1: no text field; fields with text: id; name the ones" in refusal('{"id": "x"}', "a.jsonl")
    for wrong in ("[1]", '{"text": "a"', '{"text": "a"} x', "{'text': 1}", '{"text": "a", }', '{"text": tru}'):
        assert "a.jsonl:2: not a JSON object on one line" in refusal(f"\n{wrong}\n", "a.jsonl"), wrong


SRT = """1
00:00:01,000 --> 00:00:02,500
Это первая строка,
<i>а это</i> вторая.

2
00:00:03,000 --> 00:00:04,000 X1:10
- Кто там?
- {\\an8}Никто,
совсем никто.

3
00:00:05,000 --> 00:00:06,000
♪
"""


def test_what_one_says_in_a_subtitle_is_a_text() -> None:
    assert texts(SRT, "a.srt") == ["Это первая строка, <g1>а это<g2> вторая.", "Кто там?", "Никто, совсем никто."]
    said = translated(SRT, "a.srt").splitlines()
    assert said[2:4] == ["ЭТО ПЕРВАЯ СТРОКА,", "<i>А ЭТО</i> ВТОРАЯ."]
    assert said[6:10] == ["00:00:03,000 --> 00:00:04,000 X1:10", "- КТО ТАМ?", "- {\\an8}НИКТО, СОВСЕМ", "НИКТО."]
    assert said[-2:] == SRT.splitlines()[-2:]
    assert refusal("Just text.\n", "a.srt") == "a.srt:1: no cue has times (00:00:01,000 --> 00:00:02,000); is it .srt?"
    assert "a.srt:1001: 1,000 lines without times" in refusal("text\n" * 3000, "a.srt")


MARKDOWN = """---
title: Stays
---
# Head `code`

Two lines that
are **one** text, see [the page](http://x.y/a_b "T") and [id].
- item
  more of it
  ```sh
  make it
  ```

| A | `b|c` |
|---|---|
| x\\|y | <b>z</b> |

[id]: http://x.y
"""


def test_what_markdown_says_is_a_text_and_its_marks_are_not() -> None:
    assert texts(MARKDOWN, "a.md") == [
        *("Head", "Two lines that are <g1>one<g2> text, see <g3>the page<g4> and"),
        *("item more of it", "A", "x<g1>y", "z"),
    ]
    said = translated(MARKDOWN, "a.md")
    assert said.splitlines()[5:7] == [
        'TWO LINES THAT ARE **ONE** TEXT, SEE [THE PAGE](http://x.y/a_b "T") AND [id].',
        "- ITEM MORE OF IT",
    ]
    assert (
        "  make it\n" in said
        and "| X\\|Y | <b>Z</b> |" in said
        and said.startswith("---\ntitle: Stays\n---\n# HEAD `code`")
    )
    assert translated("a\n", "a.md", lambda _: "*b* | [c]") == "\\*b\\* \\| \\[c\\]\n", "a translation makes no marks"


def test_words_are_kept_where_a_translation_loses_a_mark() -> None:
    data = "Two **big** words\n"
    assert texts(data, "a.md") == ["Two <g1>big<g2> words"]
    assert translated(data, "a.md", lambda _: "Два <g1>больших слова") == "Два больших слова ****\n"
    data = "See `x`, then **y** z\n"
    assert translated(data, "a.md", lambda _: "Затем<g1> <g2>да<g3>, см.") == "Затем`x` **да**, см.\n"


HTML = """<!DOCTYPE html>
<html><head><title>Title</title><script>var a = "b<c";</script></head>
<body><p CLASS=x>See <b>this</b> &amp; that.<br>Next</p><p translate="no">Not this</p><img alt="A cat"></body></html>
"""


def test_what_a_reader_of_html_sees_is_a_text() -> None:
    assert texts(HTML, "a.htm") == ["Title", "See <g1>this<g2> & that.", "Next", "A cat"]
    said = translated(HTML, "a.html")
    assert '<p class="x">SEE <b>THIS</b> &amp; THAT.<br>NEXT</p><p translate="no">Not this</p><img alt="A CAT">' in said
    assert "<title>TITLE</title>" in said and 'var a = "b<c";' in said
    for same_page in (HTML, "", "<p>12</p>", "plain"):
        same(same_page, "a.html")
    assert "nested more than 250 deep" in refusal("<div>" * 3000 + "text", "a.html")
    assert "a.html: larger than 8 MiB" in refusal("x" * (9 << 20), "a.html")


def test_markdown_that_never_ends_what_it_begins_is_read_in_time() -> None:
    for piece in ("`", "` ", "](", "<!--", "[", "*_", "|", "> ", "- ", "&a", "\\\n"):
        same(piece * (60_000 // len(piece)), "a.md")


def test_values_of_properties_are_texts() -> None:
    data = "# remark\nkey.one = Hello, \\\n   big world\nother:\\u00e9t\\u00e9\\n\nempty=\nnumber=5\n! end\nlast Value"
    assert texts(data, "a.properties") == ["Hello, big world", "été", "Value"]
    store = properties.javafile(io.BytesIO(translated(data, "a.properties", lambda text: f"я\\ {text}").encode()))
    assert [(unit.name, unit.source) for unit in store.units if unit.name] == [
        ("key.one", "я\\ Hello, big world"),
        ("other", "я\\ été\n"),
        ("empty", ""),
        ("number", "5"),
        ("last", "я\\ Value"),
    ]
    assert translated("key=a\n", "a.properties", lambda _: "я 🙂") == "key=\\u044f \\ud83d\\ude42\n", (
        "ASCII stays ASCII"
    )
    assert translated("key=a\n# é", "a.properties", lambda _: "я") == "key=я\n# é"


# Catalogues and what translators exchange, judged by translate-toolkit

PO = """# Translators
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Plural-Forms: nplurals=3; plural=0;\\n"

#: a.c:1
msgid "Open \\"it\\"\\n"
msgstr ""

msgctxt "menu"
msgid ""
"Two "
"lines\\n"
"of text"
msgstr ""

msgid "Done"
msgstr "Готово"

#, fuzzy, c-format
msgid "Perhaps"
msgstr "Может"

msgid "one file"
msgid_plural "%d files"
msgstr[0] ""
msgstr[1] ""
msgstr[2] ""

#~ msgid "old"
#~ msgstr ""
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_entries_of_a_catalogue_without_a_translation_are_texts(tmp_path: Path, end: str) -> None:
    data = PO.replace("\n", end)
    assert texts(data, "ru.po") == ['Open "it"', "Two lines\nof text", "one file", "%d files", "%d files"]
    said = translated(data, "ru.po", lambda text: f"<{text}>")
    assert all(line in said.split(end) for line in data.split(end) if line and not line.startswith("msgstr"))
    store = po.pofile(io.BytesIO(said.replace("\r\n", "\n").encode()))
    assert [
        unit.target.strings if unit.hasplural() else str(unit.target) for unit in store.units if not unit.isheader()
    ] == [
        '<Open "it">\n',
        "<Two lines\nof text>",
        "Готово",
        "Может",
        ["<one file>", "<%d files>", "<%d files>"],
        "",
    ]
    (tmp_path / "ru.po").write_text(said, "utf-8", newline="")
    done = subprocess.run(["msgfmt", "--check", "-o", "-", "ru.po"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert translated(said, "ru.po", lambda _: "again") == said, "nothing is left to do"


def test_a_catalogue_that_cannot_be_read_is_told_where() -> None:
    assert refusal('msgid "a"\nmsgstr "b\n', "a.po").startswith("a.po:2: not a line of a .po file")
    assert refusal('msgid "a"\n', "a.po").startswith("a.po:1: an entry without msgstr")
    assert refusal('msgid "a"\nmsgid "b"\nmsgstr ""\n', "a.po").startswith("a.po:2: a second msgid in one entry")
    head = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=KOI8-R\\n"\n\nmsgid "a"\nmsgstr ""\n'
    assert (
        refusal(head, "a.po") == "a.po:1: the header says charset koi8-r; `msgconv -t UTF-8 OLD > NEW` makes it UTF-8"
    )


XLIFF = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE xliff PUBLIC "-//XLIFF//DTD XLIFF//EN" "http://www.oasis-open.org/xliff.dtd">
<xliff version="1.2" xmlns='urn:oasis:names:tc:xliff:document:1.2'>
<file original="x" source-language="en" target-language="ru-RU" datatype="plaintext"><body>
<trans-unit id="1"   approved='no'>
  <source>Hello <g id="1">world</g> &amp; <ph id="2">%s</ph> <![CDATA[a<b]]></source>
</trans-unit>
<trans-unit id="2"><source>Done</source><target>Готово</target></trans-unit>
<trans-unit id="3"><source>Empty</source><target state="new"/><alt-trans><source>No</source><target/></alt-trans>
</trans-unit>
<trans-unit id="4"><source>42</source></trans-unit>
</body></file></xliff>"""


def test_units_of_xliff_without_a_target_get_one() -> None:
    assert texts(XLIFF, "a.xlf") == ["Hello <g1>world<g2> a<b", "Empty"]
    said = translated(XLIFF, "a.xlf")
    assert '</source>\n  <target>HELLO <g id="1">WORLD</g> &amp; <ph id="2">%s</ph> A&lt;B</target>\n' in said
    assert '<source>Empty</source><target state="new">EMPTY</target><alt-trans><source>No</source><target/>' in said
    store = xliff.xlifffile(io.BytesIO(said.encode()))
    assert [str(unit.target or "") for unit in store.units][1:] == ["Готово", "EMPTY", ""]
    kept = [line for line in XLIFF.splitlines() if "trans-unit" not in line]
    assert [line for line in said.splitlines() if line in kept] == kept
    assert translated(said, "a.xliff", lambda _: "again") == said
    assert refusal(XLIFF, "a.xliff", target="de") == "a.xliff:5: the file's targets are in ru-RU, not in de"


def test_units_of_xliff_2_and_its_prefixes() -> None:
    data = (
        '<x:xliff xmlns:x="urn:oasis:names:tc:xliff:document:2.0" version="2.0" srcLang="en" trgLang="ru">'
        '<x:file id="f"><x:unit id="u"><x:segment>\n<x:source>A <x:pc id="1">b</x:pc></x:source>\n'
        "</x:segment></x:unit></x:file></x:xliff>"
    )
    assert '</x:source>\n<x:target>A <x:pc id="1">B</x:pc></x:target>\n</x:segment>' in translated(data, "a.xliff")


TMX = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en-US" creationtool="x" segtype="sentence"/><body>
  <tu>
    <tuv xml:lang="en-GB"><seg>Hello <bpt i="1">&lt;b&gt;</bpt>world<ept i="1">&lt;/b&gt;</ept></seg></tuv>
    <tuv xml:lang="de"><seg>Hallo</seg></tuv>
  </tu>
  <tu><tuv xml:lang="ru"><seg>Да</seg></tuv><tuv xml:lang="en"><seg>Yes</seg></tuv></tu>
</body></tmx>
"""


def test_units_of_tmx_without_the_target_get_it() -> None:
    assert texts(TMX, "a.tmx") == ["Hello <g1>world"] and texts(TMX, "a.tmx", source="de") == ["Hallo"]
    said = translated(TMX, "a.tmx")
    seg = 'HELLO <bpt i="1">&lt;b&gt;</bpt>WORLD<ept i="1">&lt;/b&gt;</ept>'
    assert f'    <tuv xml:lang="ru"><seg>{seg}</seg></tuv>\n  </tu>' in said
    assert (
        said.replace('    <tuv xml:lang="ru">' + said.split('<tuv xml:lang="ru">')[1].split("\n")[0] + "\n", "", 1)
        == TMX
    )
    assert len(tmx.tmxfile(io.BytesIO(said.encode())).units) == 2
    assert translated(said, "a.tmx", lambda _: "again") == said


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><tmx><body><tu>&b;</tu></body></tmx>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><tmx><body><tu>&a;</tu></body></tmx>'


@pytest.mark.parametrize("name", ["a.tmx", "a.xliff"])
@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (LAUGHS, "1: declares the entity a, which is not read"),
        (OUTSIDE, "1: declares the entity a, which is not read"),
        ("<tmx>\n<body></tmx>", "2: not well-formed XML (mismatched tag, character 9 of the line)"),
        ("<tmx>\n<body>", "2: ends in the middle"),
        ("", "1: ends in the middle (no element found); copy or download it again"),
        ("plain text", "1: not well-formed XML"),
        (
            '<?xml version="1.0" encoding="windows-1251"?>\n<tmx/>',
            "1: the file is in windows-1251; `iconv -f windows-1251",
        ),
        ("<tmx>".encode("utf-16"), " the text is in UTF-16, not UTF-8; convert it with `iconv -f UTF-16 -t UTF-8"),
        ("<tmx>" + "x" * (1 << 25), "1: "),
    ],
)
def test_xml_that_is_not_read_is_told_where(name: str, data: str | bytes, problem: str) -> None:
    assert f"{name}:{problem}" in refusal(data, name)


# Names and encodings


def test_every_format_is_found_by_its_name() -> None:
    assert [format_of(f"dir/A{kind.upper()}") for kind in FORMATS] == list(FORMATS)
    assert (format_of("a.xlf"), format_of("a.markdown")) == (".xliff", ".md")
    with pytest.raises(DocumentError, match=r"a.docx: not a type that is translated; those are .txt, .md, "):
        format_of("a.docx")
    assert "has no fields to choose from" in refusal("a", "a.txt", fields=["2"])


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind not in (".xliff", ".tmx")])
def test_other_encodings_are_named_with_their_cure(kind: str) -> None:
    said = refusal("\nПривет, мир!\n".encode("cp1251"), f"a{kind}")
    assert f"a{kind}:2: bytes that are not UTF-8" in said and "`iconv -f CP1251 -t UTF-8 OLD > NEW`" in said
    assert "the text is in UTF-16" in refusal("Привет, мир!\n".encode("utf-16"), f"a{kind}")
