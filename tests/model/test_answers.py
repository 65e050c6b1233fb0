"""What a row with answers teaches: to write the answer, from the source that people wrote; in both directions."""

import numpy as np
import pytest

from model.config import TrainingConfig
from model.corpus.answers import answer, is_answer
from model.tokenizer import load_tokenizer
from model.training.draws import Draws
from model.training.shown import Drawn, Pairs
from model.training.tokens import tokenised
from tests.helpers.training import NETWORK

FIELDS = ["ru", "en", answer("ru"), answer("en")]
ROW = {"ru": "один два", "en": "one two", answer("ru"): "один", answer("en"): "one two three"}


def examples(rows, tokenizer, fields=FIELDS, **training):
    """Every example of a pass, as (source, what is to be written) in words, and the widths told of them."""
    config = TrainingConfig(author_dropout=1.0, typed_share=0.0, **training)
    pairs = Pairs(tokenised(rows, tokenizer, fields), tokenizer, NETWORK, config, Draws(0))
    shown = pairs.show(Drawn(0, np.arange(len(rows)), np.arange(len(rows))))
    made = [pairs.example(shown, place) for place in range(len(shown.width))]
    assert [example.width for example in made] == shown.width.tolist()
    assert [len(example.inputs) for example in made] == shown.inputs.tolist()
    return [(tokenizer.decode(example.source[1:-1]), tokenizer.decode(example.answer[:-1])) for example in made]


@pytest.fixture(scope="module")
def tokenizer(parallel):
    return load_tokenizer(parallel[1])


def test_sources_are_the_rows_own_and_answers_are_written(tokenizer):
    found = set(examples([ROW] * 20, tokenizer))
    assert found == {("один два", "one two three"), ("one two", "один")}


def test_a_row_without_answers_teaches_its_own_text(tokenizer):
    own = {"ru": ROW["ru"], "en": ROW["en"]}
    assert set(examples([own] * 20, tokenizer, ["ru", "en"])) == {("один два", "one two"), ("one two", "один два")}


def test_answers_are_joined_as_rows_are(tokenizer):
    found = examples([ROW] * 30, tokenizer, join_share=1.0)
    joined = [(source, written) for source, written in found if source.count("один") > 1]
    assert joined and all(written.count("three") == source.count("два") for source, written in joined)


def test_no_language_is_taken_for_an_answer():
    assert is_answer(answer("ru")) and not is_answer("ru") and not is_answer("text") and not is_answer("sr-Latn")
