"""The page of a corpus: every rule with its rows and examples, nothing else needed, and hostile text stays text."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.report.corpus import main, render_corpus
from evaluation.report.page import render_report
from model.config import CorpusConfig
from model.corpus import prepare_corpus, read_card
from tests.evaluation.test_report import Page

RUSSIAN = ["ноль", "один", "два", "три", "четыре", "пять", "шесть", "семь", "восемь", "девять"]
ENGLISH = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    numbers = [f"{n:04d}" for n in range(0, 10000, 37)]
    rows = [" ".join(words[int(d)] for d in n) for n in numbers for words in (RUSSIAN, ENGLISH)]
    lines = [f"{ru}\t{en}\n" for ru, en in zip(rows[::2], rows[1::2], strict=True)]

    lines += ["<script>alert(1)</script>\tlatin\n", *lines[:2]]
    (folder / "a.tsv").write_text("".join(lines), "utf-8")
    config = CorpusConfig(valid_rows=2, heldout_rows=2, leaks="exact")
    prepare_corpus([str(folder / "a.tsv")], [], folder / "out", config)
    return folder / "out"


def test_the_page_tells_each_rule(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(corpus)]) == 0
    html = capsys.readouterr().out
    page = Page(html)
    card = read_card(corpus)
    assert card["counts"]["rejected"] == {"script": 1} and card["counts"]["duplicates"] == 2
    assert "script 1 Too few letters are in the scripts of the language. corpus.min_script_ratio" in page.text
    assert "duplicates 2 The row is there already." in page.text
    assert "<script>alert(1)</script>" in page.text and "<script" not in html
    assert not [tag for tag, values in page.tags if {"src", "href"} & values.keys()]


def test_an_example_stands_beside_what_it_is_like() -> None:
    example = {"row": ["НОЛЬ!", "zero"], "like": ["ноль", "Zero"]}
    card = {
        "counts": {"read": 9, "kept": 8, "train": 8, "rejected": {"same_form": 1, "from_the_future": 2}},
        "examples": {"same_form": [example]},
    }
    for html in (render_corpus(card), render_report({"corpus": card})):
        text = Page(html).text
        at = [text.index(word) for word in ("same form 1", "corpus.duplicates", "НОЛЬ!", "like", "ноль", "Zero")]
        assert at == sorted(at)
    assert "from the future 2" in Page(render_corpus(card)).text, "a rule that nobody has heard of yet is counted, too"
