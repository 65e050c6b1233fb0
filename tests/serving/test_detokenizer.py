"""Incremental detokenisation: equal to the whole decode for any ids, never half a character, stop strings anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import TokenizerConfig
from model.tokenizer import load_tokenizer
from model.tokenizer.train import train_tokenizer
from model.tokenizer.vocabulary import normalize
from serving.engine.detokenizer import Detokenizer, whole_texts
from tests.helpers.bundles import tiny_tokenizer
from tests.helpers.engines import tiny_corpus


@pytest.fixture(scope="module", params=["unigram", "bpe", "char"])
def tokenizer(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    if request.param == "char":
        return load_tokenizer(tiny_tokenizer(folder / "char"))
    corpus = tiny_corpus(folder / "corpus")
    train_tokenizer(corpus, folder / request.param, TokenizerConfig(kind=request.param, vocab_size=360))
    return load_tokenizer(folder / request.param)


def stream(tokenizer, ids, stop=(), strip=None):
    """Pieces as they come; the last one is what ``finish`` gave."""
    table = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
    detokenizer = Detokenizer(table, whole_texts(table), tokenizer.leading_space if strip is None else strip, stop)
    pieces = []
    for token in ids:
        pieces.append(detokenizer.push(token))
        if detokenizer.stopped:
            break
    return [*pieces, detokenizer.finish()]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_pieces_join_to_the_whole_decode_for_any_ids(tokenizer, data):
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=40))
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids)


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_real_text_never_shows_half_a_character(tokenizer, text):
    pieces = stream(tokenizer, tokenizer.encode(text))
    assert "".join(pieces) == normalize(text)
    assert pieces[-1] == ""
    # U+FFFD may only come from the text itself
    assert sum(piece.count("\ufffd") for piece in pieces) == normalize(text).count("\ufffd")


def test_a_letter_in_bytes_comes_whole_and_in_time(tokenizer):
    ids = tokenizer.encode("日")
    assert len(ids) >= 3
    *early, last, rest = stream(tokenizer, ids)
    assert ("".join(early), last, rest) == ("", "日", "")


def test_a_letter_cut_short_becomes_one_replacement_at_the_end(tokenizer):
    ids = tokenizer.encode("日")[:-1]
    assert stream(tokenizer, ids)[-1] == "\ufffd"


def test_continued_text_keeps_its_leading_space(tokenizer):
    ids = tokenizer.encode(" the")
    assert "".join(stream(tokenizer, ids, strip=False)).lstrip() == "the"
    assert "".join(stream(tokenizer, ids, strip=False)).startswith(" ")


def reference(text: str, stops: list[str]) -> str:
    """The text up to the stop string that is completed first."""
    for end in range(1, len(text) + 1):
        found = [text[:end].find(stop) for stop in stops if stop in text[:end]]
        if found:
            return text[: min(found)]
    return text


@settings(max_examples=300, deadline=None)
@given(text=st.text("ab ", max_size=25), stops=st.lists(st.text("ab ", min_size=1, max_size=5), min_size=1, max_size=3))
def test_stop_strings_across_tokens(tmp_path_factory, text, stops):
    table = [b"a", b"b", b" "]
    detokenizer = Detokenizer(table, whole_texts(table), False, tuple(stops))
    shown, longest = "", max(map(len, stops))
    for i, character in enumerate(text):
        shown += detokenizer.push("ab ".index(character))
        if detokenizer.stopped:
            break
        assert text.startswith(shown)  # nothing shown is ever taken back
        assert i + 1 - len(shown) < longest  # and nothing is held back longer than needed
    shown += detokenizer.finish()
    assert shown == reference(text, stops)
    assert detokenizer.stopped == any(stop in text for stop in stops)


def test_a_stop_string_inside_one_token_and_held_text_at_the_end():
    table = [b"one two", b" thr", b"ee", "ё".encode()[:1], "ё".encode()[1:]]
    detokenizer = Detokenizer(table, whole_texts(table), False, ("e t",))
    assert (detokenizer.push(0), detokenizer.stopped) == ("on", True)
    assert detokenizer.finish() == ""
    detokenizer = Detokenizer(table, whole_texts(table), False, (" three!", "ё"))
    assert [detokenizer.push(0), detokenizer.push(1), detokenizer.push(2)] == ["one two", "", ""]
    assert detokenizer.finish() == " three"
    detokenizer = Detokenizer(table, whole_texts(table), False, ("ё",))
    assert [detokenizer.push(2), detokenizer.push(3), detokenizer.push(4)] == ["ee", "", ""]
    assert detokenizer.stopped
