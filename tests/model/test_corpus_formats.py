"""Sentence pairs from what people have: tables, catalogues, translation memories, subtitles, two files, archives."""

from __future__ import annotations

import io
import resource
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from model.config import CorpusConfig
from model.corpus import CorpusError, prepare_corpus, read_split
from model.corpus.files import SourceFile
from model.corpus.reading import read_pairs
from model.corpus.sides import aligned, side_of
from model.corpus.stamp import stamp
from model.corpus.tally import Tally
from model.documents.subtitles import Cue

CONFIG = CorpusConfig(valid_rows=2, heldout_rows=2, leaks="exact", duplicates="exact")
PAIRS = [(f"Предложение номер {n}.", f"Sentence number {n}.") for n in range(40)]
HEAD = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n'


def po(language: str = "ru", rest: str = "") -> str:
    head = HEAD + (f'"Language: {language}\\n"\n' if language else "")
    return head + "".join(f'\nmsgid "{en}"\nmsgstr "{ru}"\n' for ru, en in PAIRS) + rest


def mo(text: str) -> bytes:
    return subprocess.run(["msgfmt", "-o", "-", "-"], input=text.encode(), capture_output=True, check=True).stdout


def tmx(pairs: list[tuple[str, str]], one: str = "ru-RU", other: str = "EN") -> str:
    side = '<tuv xml:lang="{}"><seg>{}</seg></tuv>'
    units = "".join(f"<tu>{side.format(other, en)}{side.format(one, ru)}</tu>\n" for ru, en in pairs)
    return f'<tmx version="1.4"><header srclang="en"/><body>\n{units}</body></tmx>'


def xliff(pairs: list[tuple[str, str]]) -> str:
    units = "".join(f"<trans-unit><source>{en}</source><target>{ru}</target></trans-unit>\n" for ru, en in pairs)
    return f'<xliff version="1.2"><file source-language="en" target-language="ru"><body>{units}</body></file></xliff>'


def srt(side: int, late: int = 0) -> str:
    return "".join(
        f"{n}\n00:{n:02}:00,{late:03} --> 00:{n:02}:02,000\n<i>{pair[side]}</i>\n\n" for n, pair in enumerate(PAIRS)
    )


def lines(side: int) -> str:
    return "".join(pair[side] + "\n" for pair in PAIRS)


def archive(files: dict[str, str]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in files.items():
            file.writestr(name, text)
    return sink.getvalue()


OPUS = {"News.en-ru.ru": lines(0), "News.en-ru.en": lines(1), "News.en-ru.xml": "<x/>", "README": "x", "LICENSE": "x"}
CSV = {
    "named.csv": "id,en,ru\n" + "".join(f'{n},"{en}",{ru}\n' for n, (ru, en) in enumerate(PAIRS)),
    "semicolons.csv": "\ufeff" + "".join(f'"{ru}";"{en}"\r\n' for ru, en in PAIRS),
    "sides.csv": "target\tsource\n" + "".join(f"{en}\t{ru}\n" for ru, en in PAIRS),
    "header.csv": "русский,английский\n" + "".join(f'{ru},"{en}"\n' for ru, en in PAIRS),
}


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())


def prepare(folder: Path, *names: str, tests: tuple[str, ...] = (), config: CorpusConfig = CONFIG) -> dict[str, Any]:
    return prepare_corpus(
        [str(folder / name) for name in names], [str(folder / name) for name in tests], folder / ".out", config
    )


def kept(folder: Path) -> set[tuple[str, str]]:
    splits = ("train", "valid", "heldout")
    return {(row["ru"], row["en"]) for split in splits for row in read_split(folder / ".out", split)}


def refusal(folder: Path, files: dict[str, str | bytes], name: str = "") -> str:
    write(folder, files)
    with pytest.raises(CorpusError) as caught:
        prepare(folder, name or next(iter(files)))
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("files", "named"),
    [
        *(({name: text}, [name]) for name, text in CSV.items()),
        ({"a.po": po()}, ["a.po"]),
        ({"ru.po": po("")}, ["ru.po"]),
        ({"locale/ru/LC_MESSAGES/django.mo": mo(po(""))}, ["locale/ru/LC_MESSAGES/django.mo"]),
        ({"a.tmx": tmx(PAIRS)}, ["a.tmx"]),
        ({"a.xliff": xliff(PAIRS)}, ["a.xliff"]),
        ({"film.ru.srt": srt(0), "film.en.srt": srt(1, 300)}, ["film.en.srt"]),
        ({"train.ru": lines(0), "train.en": lines(1)}, ["train.ru"]),
        ({"train.ru": lines(0), "train.en": lines(1)}, ["train.en", "train.ru"]),
        ({"a.ru.txt": lines(0).replace("\n", "\r\n"), "a.en.txt": "\ufeff" + lines(1)}, ["a.ru.txt"]),
        ({"data/News.en-ru.ru": lines(0), "data/News.en-ru.en": lines(1), "data/README": "x"}, ["data"]),
        ({"en-ru.txt.zip": archive(OPUS)}, ["en-ru.txt.zip"]),
        ({"pairs.zip": archive({"deep/a.tsv": "".join(f"{ru}\t{en}\n" for ru, en in PAIRS)})}, ["pairs.zip"]),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_pairs_are_read_from_whatever_they_are_in(
    tmp_path: Path, files: dict[str, str | bytes], named: list[str]
) -> None:
    write(tmp_path, files)
    card = prepare(tmp_path, *named)
    assert kept(tmp_path) == set(PAIRS)
    assert card["counts"]["duplicates"] == 0 and set(card["counts"]["rejected"]) <= {"header"}
    before = stamp([str(tmp_path / name) for name in named], [], CONFIG)
    path = tmp_path / list(files)[-1]
    if path.suffix == ".zip":
        write(tmp_path, {path.name: archive({"News.en-ru.ru": lines(0), "News.en-ru.en": lines(1)[:-3] + "?\n"})})
    elif path.name != "README":
        path.write_bytes(path.read_bytes() + b"\n")
    assert (stamp([str(tmp_path / name) for name in named], [], CONFIG) != before) == (path.name != "README")


def test_one_line_says_what_was_read_kept_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rest = '\nmsgid "New"\nmsgstr ""\n\n#, fuzzy\nmsgid "Old"\nmsgstr "Старое"\n\n#~ msgid "Gone"\n#~ msgstr "Нет"\n'
    rest += '\nmsgid "one file"\nmsgid_plural "%d files"\nmsgstr[0] "один файл"\nmsgstr[1] ""\nmsgstr[2] "%d файлов"\n'
    write(tmp_path, {"ru.po": po(rest=rest), "same.tmx": tmx([*PAIRS, ("Hello", "Hallo")])})
    prepare(tmp_path, "ru.po", "same.tmx")
    said = capsys.readouterr().out
    assert (
        "corpus: 85 rows read, 42 kept; left out: duplicates 40, empty 2, script 1 (corpus.min_script_ratio)\n" in said
    )
    assert kept(tmp_path) == {*PAIRS, ("один файл", "one file"), ("%d файлов", "%d files")}


def test_two_files_are_a_test_set_of_their_common_name(tmp_path: Path) -> None:
    write(tmp_path, {"train.ru": lines(0), "train.en": lines(1), "my.ru": "Тест\n", "my.en": "A test\n"})
    card = prepare(tmp_path, "train.ru", tests=("my.ru", "my.en"))
    assert card["counts"]["test"] == {"my": 1}
    write(tmp_path / "data", {"train.ru": lines(0), "train.en": lines(1), "test.ru": "Тест\n", "test.en": "A test\n"})
    write(tmp_path / "data", {"alone.ru": lines(0)})
    card = prepare(tmp_path, "data")
    assert card["counts"]["test"] == {"test": 1}
    assert card["left_out"] == [{"file": f"{tmp_path}/data/alone.ru", "why": "the other language's file is not there"}]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.ru": "а\nб\n", "a.en": "a\n"}, "a.en: ends after line 1, and a.ru goes on: their lines are no pairs"),
        ({"a.ru": "а\n"}, "a.ru: the text of one language, and no file beside it has the other's"),
        ({"a.ru": lines(0), "a.en": lines(1).encode("utf-16")}, "a.en: the text is in UTF-16, not UTF-8"),
        ({"a.en": lines(1), "a.ru": lines(0).encode("cp1251")}, "`iconv -f CP1251 -t UTF-8 OLD > NEW`"),
        ({"a.ru": "а\n", "a.en": ""}, "a.en: the file is empty"),
        (
            {"a.csv": "id,de,en\n1,a,b\n"},
            "a.csv:1: no columns 'ru' and 'en' or 'source' and 'target'; found: id, de",
        ),
        ({"a.csv": "en,ru\na,б\n" * 20 + "x\n"}, "a.csv:41: 1 fields in the row, the first has 2: 'x'\n"),
        ({"a.csv": "английский,русский\na,б\n"}, "a.csv:1: the columns are 'английский\\tрусский'"),
        ({"a.csv": 'ru,en\n"а,b\n' + "x,y\n" * 99_999}, "a.csv:2: field larger than field limit (131072); is a quote"),
        ({"a.po": po("de")}, "a.po: translated into de, corpus.languages is [ru, en]"),
        ({"a.po": po("")}, "a.po: nothing says what it is translated into; name it as its language, such as en.po"),
        ({"ru.po": po() + "what is this\n"}, "ru.po:125: not a line of a .po file"),
        ({"ru.mo": b"\xde\x12\x04\x95" + b"\xff" * 24}, "ru.mo: ends in the middle of its messages; copy it again"),
        ({"ru.mo": b"plain"}, "ru.mo: not a compiled catalogue (.mo)"),
        ({"a.tmx": tmx(PAIRS, "de")}, "a.tmx: no unit is in both ru and en; found: EN, de; set corpus.languages"),
        ({"a.tmx": tmx(PAIRS)[:-20]}, "a.tmx:41: ends in the middle"),
        ({"a.xliff": "<xliff>\n<file></xliff>"}, "a.xliff:2: not well-formed XML (mismatched tag"),
        ({"a.ru.srt": srt(0), "a.en.srt": "text\n"}, "a.en.srt:1: no cue has times"),
        ({"a.zip": b"PK\x03\x04 and then nothing"}, "a.zip: cannot be read: BadZipFile"),
        ({"a.zip": archive({"a.docx": "x"})}, "a.zip: no file of a supported type for kind parallel"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_with_them_is_said(tmp_path: Path, files: dict[str, str | bytes], message: str) -> None:
    assert message in refusal(tmp_path, files)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train.ru", (0, "train")),
        ("a/news.v1.EN.gz", (1, "a/news.v1")),
        ("film.en.srt", (1, "film.srt")),
        ("film.ru.txt.zst", (0, "film.txt")),
        ("film.srt", None),
        ("ru", None),
        (".ru", None),
        ("a.de", None),
        ("ru.tsv", None),
    ],
)
def test_a_side_is_known_by_its_name(name: str, expected: tuple[int, str] | None) -> None:
    assert side_of(name, ["ru", "en"]) == expected


def test_subtitles_are_aligned_by_time() -> None:
    def film(*cues: tuple[int, int]) -> list[Cue]:
        return [Cue(begin, end, f"{begin}") for begin, end in cues]

    def together(one: list[Cue], other: list[Cue]) -> list[tuple[str, str]]:
        return [(" ".join(c.text for c in a), " ".join(c.text for c in b)) for a, b in aligned(one, other)]

    same = film((0, 10), (20, 30))
    assert together(same, film((1, 9), (22, 33))) == [("0", "1"), ("20", "22")]
    assert together(film((0, 10), (10, 20)), film((0, 20))) == [("0 10", "0")], "a sentence in two cues"
    assert together(same, film((0, 30))) == [("0 20", "0")]
    assert together(same, film((12, 18), (20, 30))) == [("0", ""), ("", "12"), ("20", "20")], "what is seen alone"
    assert together(same, film((6, 24))) == [("0", ""), ("", "6"), ("20", "")], "less than half of either"
    assert together(same, []) == [("0", ""), ("20", "")] and together([], []) == []
    chain = together(film(*((n, n + 10) for n in range(0, 90, 10))), film((0, 90)))
    assert chain == [(f"{n}", "") for n in range(0, 90, 10)], "what hangs together for too long is no sentence"


def test_memory_does_not_grow_with_a_translation_memory(tmp_path: Path) -> None:
    """A process of its own, for the peak of this one may have been anything."""
    units = tmx(PAIRS * 20).partition("<body>\n")[2].removesuffix("</body></tmx>").encode()
    with (tmp_path / "a.tmx").open("wb") as file:
        file.write(b'<tmx version="1.4"><header srclang="en"/><body>\n')
        for _ in range(400):
            file.write(units)
        file.write(b"</body></tmx>")
    assert (tmp_path / "a.tmx").stat().st_size > 40e6
    code = "import sys; from tests.model.test_corpus_formats import counted; print(*counted(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path / "a.tmx")]
    rows, grown = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert rows == 320_000 and grown < 8 << 10, "in KiB"


def counted(path: str) -> tuple[int, int]:
    """The rows of a file, and what reading them added to this process's peak of memory, in KiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = sum(1 for _ in read_pairs(SourceFile(path, path), ["ru", "en"], Tally(["ru", "en"])))
    return rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
