"""Several things in one value are taken apart; a name with blanks in it is not."""

import os

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from model.options import run
from pipelines.given import not_text, settings, sources
from pipelines.run import main

FILES = ["my file.tsv", "other.tsv", "two  blanks.tsv", "a b c.tsv", "a b", "c.tsv", "python3 (v2).tsv"]


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    before, folder = os.getcwd(), tmp_path_factory.mktemp("files")
    for name in FILES:
        (folder / name).touch()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("other.tsv", ["other.tsv"]),
        ("my file.tsv", ["my file.tsv"]),
        ("my file.tsv other.tsv", ["my file.tsv", "other.tsv"]),
        ("other.tsv  my file.tsv\tc.tsv", ["other.tsv", "my file.tsv", "c.tsv"]),
        ("a b c.tsv", ["a b c.tsv"]),  # not "a b" and "c.tsv", which exist as well
        ("s3://bucket/a.parquet hf://owner/name", ["s3://bucket/a.parquet", "hf://owner/name"]),
        ("s3://bucket/a.parquet my file.tsv", ["s3://bucket/a.parquet", "my file.tsv"]),
        ("s3://bucket/a key.parquet hf://owner/name", ["s3://bucket/a key.parquet", "hf://owner/name"]),
        ("other.tsv absent.tsv", ["other.tsv", "absent.tsv"]),
        ("my fyle.tsv", ["my fyle.tsv"]),  # told to be missing as it is
        ("", [""]),
    ],
)
def test_what_a_value_holds(value, expected):
    assert sources([value]) == expected


@bounds(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*FILES, "s3://bucket/a.parquet", "https://host/a%20b.tsv"]), min_size=1))
def test_files_and_addresses_are_found_again(given_sources):
    """Whatever stands apart by blanks comes back; where two readings are possible, the longer name is taken."""
    clear = [name for name in given_sources if name not in ("a b", "c.tsv")]
    assert sources([" ".join(clear)] if clear else []) == clear
    assert sources(given_sources) == given_sources


def test_thousands_of_words_take_no_time():
    assert len(sources(["other.tsv " + "absent.tsv " * 3000])) == 3001


def test_settings_stand_apart_where_the_next_begins():
    assert settings(["training.steps=5 corpus.languages=[de, en]"]) == ["training.steps=5", "corpus.languages=[de, en]"]
    assert settings(["gate.min_chrf={heldout/de-en: 5, x: 6}"]) == ["gate.min_chrf={heldout/de-en: 5, x: 6}"]
    assert settings(["training.steps=5", "nonsense"]) == ["training.steps=5", "nonsense"]


def test_a_name_that_is_no_text_is_refused_by_name(folder, capsys):
    name = os.fsdecode(b"\xef\xf0.tsv")
    (folder / name).write_bytes(b"a\tb\n")
    assert run(lambda: main(["--corpus", name])) == 2
    assert r"b'\xef\xf0.tsv': the name is not UTF-8; rename it" in capsys.readouterr().err
    assert not_text(["данные.tsv"]) == []


def test_a_name_that_is_too_long_is_no_file(capsys):
    assert run(lambda: main(["--corpus", "x" * 5000])) == 2
    assert f"CORPUS: {'x' * 5000}: cannot be read: OSError: [Errno 36] File name too long" in capsys.readouterr().err
