"""Folders as people and the Hub lay them out: what is trained on, what is a test set, what is left out and told."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from model.config import CorpusConfig
from model.corpus import CorpusError, prepare_corpus, read_split
from model.corpus.sources import TEST, TRAIN, UNCLEAR, VALID, _path_role, expand, gather

CONFIG = CorpusConfig(valid_rows=5, heldout_rows=5, leaks="exact", duplicates="exact")


def rows(start: int, count: int) -> list[tuple[str, str]]:
    return [(f"Это предложение номер {n}.", f"This is sentence number {n}.") for n in range(start, start + count)]


def write(path: Path, pairs: list[tuple[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        columns = {"translation": [{"ru": ru, "en": en} for ru, en in pairs]}
        parquet.write_table(pyarrow.table(columns), path)
    else:
        path.write_text("".join(f"{ru}\t{en}\n" for ru, en in pairs), "utf-8")


def trained(out: Path) -> set[tuple[str, str]]:
    return {(row["ru"], row["en"]) for split in ("train", "valid", "heldout") for row in read_split(out, split)}


def roles(folder: Path, kind: str = "parallel") -> dict[str, str]:
    return {file.name.removeprefix(f"{folder}/"): file.role for file in expand(str(folder), kind, ["ru", "en"])}


@pytest.mark.parametrize(
    ("train", "valid", "test"),
    [
        ("train-00000-of-00001.parquet", "validation-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
        ("data/train-00000-of-00001.parquet", "data/dev-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("train/a.tsv", "valid/a.tsv", "test/a.tsv"),
        ("pairs.tsv", "dev.tsv", "test.tsv"),
        ("news.train.ru-en.tsv", "news.dev.ru-en.tsv", "news.test.ru-en.tsv"),
        ("Train.TSV", "VAL.tsv", "Test Set.tsv"),
        ("latest.tsv", "newsdev2016.tsv", "newstest2015.tsv"),
        ("contest.tsv", "validation_set.tsv", "held-out.tsv"),
    ],
)
def test_a_folder_is_read_by_its_splits(tmp_path: Path, train: str, valid: str, test: str) -> None:
    folder, out = tmp_path / "data", tmp_path / "out"
    for name, start, count in ((train, 0, 60), (valid, 100, 10), (test, 200, 20)):
        write(folder / name, rows(start, count))
    card = prepare_corpus([str(folder)], [], out, CONFIG)
    assert trained(out) == set(rows(0, 60))
    (name,) = card["counts"]["test"]
    assert [(row["ru"], row["en"]) for row in read_split(out, f"test/{name}")] == rows(200, 20)
    assert [(file["file"], file["role"], file["rows"]) for file in card["files"]] == [
        (f"{folder}/{train}", "train", 60),
        (f"{folder}/{test}", "test", 20),
    ]
    assert card["left_out"] == [{"file": f"{folder}/{valid}", "why": VALID}]


def test_what_is_in_the_test_set_is_kept_out_of_training(tmp_path: Path) -> None:
    write(tmp_path / "data/train.tsv", rows(0, 60))
    write(tmp_path / "data/test.tsv", rows(50, 20))
    card = prepare_corpus([str(tmp_path / "data")], [], tmp_path / "out", CONFIG)
    assert trained(tmp_path / "out") == set(rows(0, 50))
    assert card["counts"]["rejected"] == {"test_set": 10}


def test_parts_are_one_test_set_and_names_do_not_clash(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(tmp_path / folder / "train.tsv", rows(0, 30))
        for part in range(2):
            write(tmp_path / folder / f"test-{part:05}-of-00002.tsv", rows(100 + 10 * part, 10))
    write(tmp_path / "a/heldout.tsv", rows(200, 5))
    card = prepare_corpus([str(tmp_path / "a"), str(tmp_path / "b")], [], tmp_path / "out", CONFIG)
    assert card["counts"]["test"] == {"a-heldout": 5, "test": 20, "b-test": 20}


@pytest.mark.parametrize(
    ("names", "sets"),
    [
        (["test-00000-of-00002.tsv", "test-00001-of-00002.tsv"], ["test"]),
        (["default/test/0000.tsv", "default/test/0001.tsv"], ["test"]),
        (["test/part-0.tsv", "test/part-1.tsv"], ["test"]),
        (["test/news.tsv", "test/wiki.tsv"], ["news", "wiki"]),
        (["newstest2014.tsv", "newstest2015.tsv", "test-2015.tsv"], ["newstest2014", "newstest2015", "test-2015"]),
        (["wmt14.test.tsv", "heldout.tsv"], ["data-heldout", "wmt14.test"]),
    ],
)
def test_names_of_test_sets(tmp_path: Path, names: list[str], sets: list[str]) -> None:
    for name in ("train.tsv", *names):
        write(tmp_path / "data" / name, rows(0, 3))
    assert sorted(gather([str(tmp_path / "data")], [], CONFIG)[1]) == sets


def test_a_file_given_as_a_test_set_is_that_alone(tmp_path: Path) -> None:
    write(tmp_path / "data/train.tsv", rows(0, 30))
    write(tmp_path / "data/test.tsv", rows(100, 10))
    write(tmp_path / "data/mine.tsv", rows(200, 10))
    tests = [str(tmp_path / "data/mine.tsv"), str(tmp_path / "data/test.tsv")]
    card = prepare_corpus([str(tmp_path / "data")], tests, tmp_path / "out", CONFIG)
    assert card["counts"]["test"] == {"mine": 10, "test": 10} and "test_set" not in card["counts"]["rejected"]
    card = prepare_corpus([str(tmp_path / "data/train.tsv")], [str(tmp_path / "data")], tmp_path / "out", CONFIG)
    assert card["counts"]["test"] == {"data": 10}, "a folder given as a test set is its test files"


def test_what_systems_and_tools_leave_behind_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    write(folder / "pairs.tsv", rows(0, 30))
    junk = [
        "._pairs.tsv",
        ".cache/x.tsv",
        ".git/objects/a.tsv",
        "__MACOSX/pairs.tsv",
        ".ipynb_checkpoints/pairs-checkpoint.tsv",
        "lost+found/a.tsv",
        "deep/.hidden.tsv",
        "_temporary/part.tsv",
        "pairs.tsv~",
        "README.tsv",
    ]
    for name in junk:
        write(folder / name, rows(500, 3))
    for name in ("Thumbs.db", "LICENSE", "README.md", "notes.docx"):
        (folder / name).write_bytes(b"\0")
    (folder / "dead.tsv").symlink_to(folder / "gone.tsv")
    (folder / "linked.tsv").symlink_to(tmp_path / "elsewhere.tsv")
    (folder / "loop").symlink_to(folder)
    write(tmp_path / "elsewhere.tsv", rows(40, 10))
    os.mkfifo(folder / "pipe.tsv")
    found = roles(folder)
    assert {name for name, role in found.items() if role == TRAIN} == {"pairs.tsv", "linked.tsv"}
    assert (found["dead.tsv"], found["pipe.tsv"], found["loop/"]) == ("a dead link", "not a file", "a link to a folder")
    assert (found[".git/"], found["notes.docx"]) == ("hidden", "not a type that is read")
    card = prepare_corpus([str(folder)], [], tmp_path / "out", CONFIG)
    assert trained(tmp_path / "out") == set(rows(0, 30)) | set(rows(40, 10))
    assert {entry["file"].removeprefix(f"{folder}/") for entry in card["left_out"]} == set(found) - {
        "pairs.tsv",
        "linked.tsv",
    }
    said = capsys.readouterr().out
    assert f"corpus: left out: {folder}/.git/ (hidden)\n" in said and "more\n" in said
    assert f"corpus: train: {folder}/pairs.tsv, 30 rows\n" in said
    assert "corpus: 40 rows read, 40 kept; left out: none\n" in said


def test_a_pipe_is_no_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tsv")
    with pytest.raises(CorpusError, match="a pipe or a socket; save what comes"):
        expand(str(tmp_path / "a.tsv"), "parallel")


def test_readme_and_licence_are_not_running_text(tmp_path: Path) -> None:
    for name in ("novel.txt", "README.txt", "LICENSE.txt", "contest.txt", "test.txt"):
        (tmp_path / name).write_text("Some text.\n", "utf-8")
    assert {name for name, role in roles(tmp_path, "text").items() if role == TRAIN} == {"novel.txt", "contest.txt"}


def test_a_folder_without_text_to_train_on_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "data/test.tsv", rows(0, 3))
    write(tmp_path / "data/train-dev.tsv", rows(0, 3))
    with pytest.raises(
        CorpusError, match=r"no file to train on, by their names: \S*test.tsv \(test\), \S*train-dev.tsv"
    ):
        gather([str(tmp_path / "data")], [], CONFIG)
    write(tmp_path / "data/train.tsv", [])
    with pytest.raises(CorpusError, match=r"data/train.tsv: the file is empty"):
        gather([str(tmp_path / "data")], [], CONFIG)


@pytest.mark.parametrize(
    ("kind", "names", "wanted"),
    [
        (
            "parallel",
            ["de-en/train.tsv", "en-ru/train.tsv", "en-fr/train.tsv"],
            r"de-en, en-fr, en-ru; .*: give \S+/en-ru$",
        ),
        ("parallel", ["news.de-en.tsv", "news.ru_en.tsv"], r"give \S+/news.ru_en.tsv$"),
        ("parallel", ["de-en.tsv", "fr-en.tsv"], "give one, and set corpus.languages to what it is in"),
        ("text", ["20231101.ru/train.txt", "20231101.de/train.txt"], "several data sets in one"),
    ],
)
def test_several_data_sets_in_one_folder_are_told_apart(
    tmp_path: Path, kind: str, names: list[str], wanted: str
) -> None:
    for name in names:
        write(tmp_path / name, rows(0, 3))
    with pytest.raises(CorpusError, match=wanted):
        expand(str(tmp_path), kind, ["ru", "en"])


def test_one_data_set_of_the_same_languages_is_read(tmp_path: Path) -> None:
    for name in ("news.ru-en.tsv", "wiki.en-ru.tsv", "part-of-it.tsv", "to-be.tsv"):
        write(tmp_path / name, rows(0, 3))
    (tmp_path / "to-be.tsv").unlink()
    assert set(roles(tmp_path).values()) == {TRAIN}
    for name in ("ru/a.txt", "en/b.txt"):
        write(tmp_path / "text" / name, rows(0, 3))
    assert set(roles(tmp_path / "text", "text").values()) == {TRAIN}


def test_configurations_with_other_columns_are_named(tmp_path: Path) -> None:
    for name, columns in (("default", {"ru": ["а"], "en": ["a"]}), ("alignment", {"id": [1], "score": [0.5]})):
        (tmp_path / name).mkdir()
        parquet.write_table(pyarrow.table(columns), tmp_path / name / "train.parquet")
    with pytest.raises(CorpusError) as caught:
        prepare_corpus([str(tmp_path)], [], tmp_path.with_name("out"), CONFIG)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{tmp_path}/alignment/train.parquet: no columns 'ru' and 'en'")
    assert f"{tmp_path}/alignment, {tmp_path}/default; give the one" in second


@pytest.mark.parametrize(
    ("name", "kind", "cure"),
    [
        ("a.csv", "text", "save its text as plain text"),
        ("a.xlsx", "parallel", "save it as tab-separated text"),
        ("a.json", "parallel", r"`jq -c '\.\[\]' OLD\.json > NEW\.jsonl`"),
        ("a.json.gz", "text", "`jq -c"),
        ("a.po", "text", "this type is read with corpus.kind parallel"),
        ("a.pot", "parallel", "give the .po files"),
        ("a.srt", "parallel", "film.ru.srt and film.en.srt, are sentence pairs; name it by its language"),
        ("a.vtt", "parallel", "save it as .srt"),
        ("a.docx", "text", "save its text as plain text in UTF-8 and name it .txt"),
        ("a.tar.gz", "parallel", "unpack it"),
        ("a.tsv.bz2", "parallel", "decompress it with `bzip2 -d`"),
        ("a.tsv.xz", "parallel", "decompress it with `xz -d`"),
        ("train.de", "parallel", r"it ends with a language's code, and corpus.languages is \[ru, en\]"),
        ("a.txt", "parallel", "read with corpus.kind text; if its lines are source<TAB>target, name it .tsv"),
        ("a.ndjson", "parallel", "name it .jsonl"),
    ],
)
def test_every_other_type_is_refused_with_its_cure(tmp_path: Path, name: str, kind: str, cure: str) -> None:
    (tmp_path / name).write_bytes(b"a\n")
    for source in (tmp_path / name, tmp_path):
        with pytest.raises(CorpusError, match=cure):
            expand(str(source), kind, ["ru", "en"])


def test_names_with_marks_of_addresses_are_local_files(tmp_path: Path) -> None:
    for name in ("a::b.tsv", "что?.tsv", "{a,b}*[1].tsv", "my file's $1%20.tsv", "http.tsv"):
        write(tmp_path / name, rows(0, 30))
        card = prepare_corpus([str(tmp_path / name)], [], tmp_path / "out", CONFIG)
        assert card["counts"]["read"] == 30, name


words = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12).filter(
    lambda word: _path_role(f"{word}.tsv") == TRAIN
)


@given(words, words, st.sampled_from(["-", "_", ".", " ", "2015-", "("]))
def test_only_whole_words_name_a_split(before: str, after: str, mark: str) -> None:
    for name, role in (("test", TEST), ("validation", VALID), ("dev", VALID), ("train", TRAIN)):
        assert _path_role(f"{before}{mark}{name}{mark}{after}.tsv") == role
        assert _path_role(f"{name}/{before}{after}x.tsv") in (role, TRAIN)
        assert _path_role(f"{before}x{name}.tsv") == TRAIN
        assert _path_role(f"{name}y{after}.tsv") == TRAIN
    assert _path_role(f"train{mark}{before}{mark}test.tsv") == UNCLEAR
    assert _path_role(f"test/{before}/train.tsv") == TRAIN, "the nearest name tells"
