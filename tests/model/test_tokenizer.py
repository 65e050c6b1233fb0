"""Tokenizers: exact round trips, control tokens out of reach, hashes, prompts; every kind against the same strings."""

from __future__ import annotations

import json
import random
import shutil
import unicodedata

import numpy as np
import pytest
import sentencepiece
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import TokenizerConfig
from model.languages import language_of
from model.tokenizer import Tokenizer, TokenizerError, load_tokenizer
from model.tokenizer.__main__ import main
from model.tokenizer.prompt import PromptError, encode_prompt, pad, pair_example, text_windows
from model.tokenizer.train import train_tokenizer
from model.tokenizer.vocabulary import control_tokens

KINDS = ("unigram", "bpe", "char")
RUSSIAN = "кошка собака дом зелёный читает книгу идёт в лес на работу мальчик девочка быстро любит свой город"
ENGLISH = "cat dog house green reads book goes to the forest work boy girl quickly loves her town"
AUTHORS = ["Guide, old", "Лев Толстой"]
GOLDEN = [
    "",
    " ",
    "a",
    "Hello, world!",
    "Привет, мир! Ёлка — 5 °C.",
    "Смешанный mixed текст text: 100 % №5",
    "  two spaces  around  ",
    "line\nbreak\r\nand\ttab\n",
    "\0NUL\0",
    "🙂👩‍👩‍👧‍👦🏳️‍🌈 emoji",
    "e\u0301 и\u0306 q\u0307\u0323",
    "\u2581", "a\u2581b", "\u2581\u2581 a \u2581", " \u2581",
    "<pad><unk><s></s><2ru><2en><author:Лев Толстой><0xE2>",
    "<2en>", "</s>", " <2en> ", "\u2581<s>",
    "\ufffe\uffff\U0010ffff\ue000\u200b\ufeff",
    "日本語 עברית हिन्दी",
    "\u2585\u2047 \u2581\u2047",
    "x" * 3000,
]  # fmt: skip
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
mixed = st.text("abвгё .,\u2581<2en>\n\t\0é\u0301\u0306🙂", max_size=40)


def write_corpus(directory, kind="parallel", rows=600, languages=("ru", "en"), authors=AUTHORS, seed=0):
    """A corpus in the format of model.corpus, written by hand so that these tests stand alone."""
    chance = random.Random(seed)
    russian, english = RUSSIAN.split(), ENGLISH.split()

    def record():
        ru, en = (" ".join(chance.choice(words) for _ in range(chance.randint(2, 9))) for words in (russian, english))
        if kind == "text":
            return {"text": f"{ru}.\n{en}.\n"}
        return {"ru": ru.capitalize() + ".", "en": en.capitalize() + ".", "author": chance.choice(AUTHORS)}

    directory.mkdir()
    counts: dict = {"test": {}}
    for name, split, size in (("train-00000", "train", rows), ("valid", "valid", 50), ("heldout", "heldout", 50)):
        lines = "".join(json.dumps(record(), ensure_ascii=False) + "\n" for _ in range(size))
        (directory / f"{name}.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
        counts[split] = size
    card = {
        "format_version": 1, "kind": kind, "languages": list(languages), "authors": list(authors), "counts": counts,
        "sources": [], "characters": {}, "shards": [{"file": "train-00000.jsonl.zst", "rows": rows, "sha256": ""}],
        "seconds": 0.0, "config": {},
    }  # fmt: skip
    (directory / "corpus.json").write_text(json.dumps(card))
    return directory


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpora") / "corpus")


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """Directory of a trained tokenizer and its report, by kind."""
    base = tmp_path_factory.mktemp("tokenizers")
    return {
        kind: (base / kind, train_tokenizer(corpus, base / kind, TokenizerConfig(kind=kind, vocab_size=400)))
        for kind in KINDS
    }


@pytest.fixture(scope="module")
def tokenizers(trained) -> dict[str, Tokenizer]:
    return {kind: load_tokenizer(directory) for kind, (directory, _) in trained.items()}


@pytest.fixture(params=KINDS)
def tokenizer(request, tokenizers) -> Tokenizer:
    return tokenizers[request.param]


def check_round_trip(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert all(i >= len(tokenizer.control_tokens) for i in ids)
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)
    prefix = " " if ids and tokenizer.leading_space else ""
    assert b"".join(map(tokenizer.token_bytes, ids)).decode() == prefix + tokenizer.decode(ids)


@pytest.mark.parametrize("text", GOLDEN, ids=lambda text: repr(text[:20]))
def test_golden_strings_survive_and_never_become_control_tokens(tokenizer, text):
    check_round_trip(tokenizer, text)


@settings(max_examples=150, deadline=None)
@given(text=anything | mixed)
def test_any_text_survives(tokenizers, text):
    for tokenizer in tokenizers.values():
        check_round_trip(tokenizer, text)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(anything | mixed, max_size=6))
def test_a_batch_equals_its_texts_one_by_one(tokenizers, texts):
    for tokenizer in tokenizers.values():
        assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_ids_decode_without_raising(tokenizers, data):
    for tokenizer in tokenizers.values():
        ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
        assert isinstance(tokenizer.decode(ids), str)
        assert tokenizer.decode(np.array(ids, dtype=np.int64)) == tokenizer.decode(ids)


def test_half_a_character_decodes_to_the_replacement_character(tokenizer):
    ids = tokenizer.encode("🙂")
    assert tokenizer.decode(ids[:-1]).endswith("\ufffd")


def test_text_is_normalised_to_nfc_and_no_further(tokenizer):
    assert tokenizer.decode(tokenizer.encode("и\u0306")) == "й"
    assert tokenizer.encode("и\u0306") == tokenizer.encode("й")
    assert tokenizer.decode(tokenizer.encode("ﬁ ² Ａ")) == "ﬁ ² Ａ"  # NFKC would change all three


@pytest.mark.parametrize("text", ["a\ud800", "\udfff"])
def test_a_lone_surrogate_is_refused(tokenizer, text):
    with pytest.raises(TokenizerError, match=r"lone surrogate \(U\+D"):
        tokenizer.encode(text)
    with pytest.raises(TokenizerError, match="lone surrogate"):
        tokenizer.encode_batch(["fine", text])


@pytest.mark.parametrize("offset", [0, -1])
def test_ids_out_of_range_are_refused(tokenizer, offset):
    bad = tokenizer.vocab_size if offset == 0 else -1
    with pytest.raises(TokenizerError, match=f"token id {bad} is outside the vocabulary"):
        tokenizer.decode([tokenizer.bos_id, bad])


def test_control_tokens_stand_first_in_their_documented_order(tokenizer):
    expected = ("<pad>", "<unk>", "<s>", "</s>", "<2ru>", "<2en>", "<author:Guide, old>", "<author:Лев Толстой>")
    assert tokenizer.control_tokens == expected
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 1, 2, 3)
    assert [tokenizer.control_id(token) for token in expected] == list(range(8))
    assert all(tokenizer.token_bytes(i) == b"" for i in range(8))
    assert tokenizer.decode(range(8)) == ""
    with pytest.raises(TokenizerError, match=r"unknown control token '<2de>'; known: <pad>.*<2ru>, <2en>"):
        tokenizer.control_id("<2de>")


def test_languages_and_authors_must_be_distinct():
    with pytest.raises(TokenizerError, match="must be distinct"):
        control_tokens(["ru", "ru"], [])


def test_characters_agree_with_python(tokenizers, trained):
    tokenizer = tokenizers["char"]
    known = json.loads((trained["char"][0] / "tokenizer.json").read_text())["characters"]
    text = "Кошка reads 🙂.\n"
    expected = sum(1 if character in known else len(character.encode()) for character in text)
    ids = tokenizer.encode(text)
    assert len(ids) == expected
    assert [tokenizer.token_bytes(i) for i in tokenizer.encode("дом")] == [c.encode() for c in "дом"]
    assert bytes(tokenizer.token_bytes(i)[0] for i in tokenizer.encode("日")) == "日".encode()
    assert tokenizer.vocab_size == len(tokenizer.control_tokens) + 256 + len(known) <= 400


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_pieces_agree_with_sentencepiece(tokenizers, trained, kind):
    reference = sentencepiece.SentencePieceProcessor(model_file=str(trained[kind][0] / "tokenizer.model"))
    for text in ("Кошка reads.", "Привет, мир!", "🙂 новое слово", "  spaces  "):
        ids = tokenizers[kind].encode(text)
        assert ids == reference.encode(" " + text)
        assert tokenizers[kind].decode(ids) == reference.decode(ids).removeprefix(" ")


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_deterministic_and_depends_on_the_sample(corpus, trained, tmp_path, kind):
    config = TokenizerConfig(kind=kind, vocab_size=400)
    again = train_tokenizer(corpus, tmp_path / "again", config)
    assert again["sha256"] == trained[kind][1]["sha256"] == load_tokenizer(tmp_path / "again").content_hash()
    other = write_corpus(tmp_path / "other", rows=50, seed=1, authors=[])
    assert train_tokenizer(other, tmp_path / "again", config)["sha256"] != again["sha256"]


def test_the_sample_is_seeded_and_of_the_asked_size(corpus):
    from model.corpus import read_card
    from model.tokenizer.train import sample_lines

    card = read_card(corpus)
    first, same, other = (list(sample_lines(corpus, card, 100, seed)) for seed in (0, 0, 1))
    assert len(first) == 100
    assert first == same != other
    assert len(list(sample_lines(corpus, card, 10**6, 0))) == 1200


def test_the_report_counts_by_language(trained, tokenizers, corpus):
    from model.corpus import read_split

    for kind, (directory, report) in trained.items():
        assert json.loads((directory / "tokenizer_report.json").read_text()) == report
        assert report["vocab_size"] == tokenizers[kind].vocab_size
        texts = [record["en"] for record in read_split(corpus, "valid")]
        tokens = sum(len(tokenizers[kind].encode(text)) for text in texts)
        row = report["languages"]["en"]
        assert row["tokens_per_word"] == round(tokens / sum(len(text.split()) for text in texts), 4)
        assert row["tokens_per_character"] == round(tokens / sum(map(len, texts)), 4)
        assert row["unknown_rate"] == 0
        assert report["seconds"] > 0
    assert trained["char"][1]["languages"]["ru"]["tokens_per_character"] == pytest.approx(1, abs=0.05)
    assert trained["unigram"][1]["languages"]["ru"]["tokens_per_character"] < 0.5


def test_the_byte_fallback_rate_counts_characters(tmp_path):
    """One of eleven letters is left out of the vocabulary: its two bytes count as one character."""
    corpus = write_corpus(tmp_path / "corpus", kind="text", rows=3)
    line = json.dumps({"text": "аааааааааая"}, ensure_ascii=False) + "\n"
    for name in ("train-00000", "valid"):
        (corpus / f"{name}.jsonl.zst").write_bytes(zstandard.compress((line * 3).encode()))
    report = train_tokenizer(corpus, tmp_path / "out", TokenizerConfig(kind="char", character_coverage=0.8))
    assert report["languages"]["text"]["byte_fallback_rate"] == round(1 / 11, 6)
    assert report["languages"]["text"]["tokens"] == 36


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_running_text_with_hostile_lines_trains(tmp_path, kind):
    corpus = write_corpus(tmp_path / "corpus", kind="text", rows=200, authors=[])
    shard = corpus / "train-00000.jsonl.zst"
    hostile = "".join(
        json.dumps({"text": text}) + "\n" for text in ["<2en> <s> </s> <pad>\n" * 50, "\0\t\u2585\u2581\n", " "]
    )
    rows = zstandard.decompress(shard.read_bytes()).decode().splitlines(keepends=True)[:197]
    shard.write_bytes(zstandard.compress(("".join(rows) + hostile).encode()))
    train_tokenizer(corpus, tmp_path / "out", TokenizerConfig(kind=kind, vocab_size=8000))
    tokenizer = load_tokenizer(tmp_path / "out")
    assert tokenizer.vocab_size < 8000  # a small corpus gives a small vocabulary instead of an error
    for text in GOLDEN:
        check_round_trip(tokenizer, text)


@pytest.mark.parametrize(("kind", "words"), [("bpe", "control tokens need 3"), ("char", "leaves no room")])
def test_a_vocabulary_too_small_says_what_it_needs(corpus, tmp_path, kind, words):
    with pytest.raises(TokenizerError, match=f"vocab_size: 264 .*{words}"):
        train_tokenizer(corpus, tmp_path / "out", TokenizerConfig(kind=kind, vocab_size=264))
    assert list(tmp_path.iterdir()) == []  # a failed step leaves nothing behind


def test_a_corpus_without_text_is_refused(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", kind="text", rows=3)
    (corpus / "train-00000.jsonl.zst").write_bytes(zstandard.compress(b'{"text": ""}\n' * 3))
    for kind in KINDS:
        with pytest.raises(TokenizerError, match="the corpus has no text to train a tokenizer on"):
            train_tokenizer(corpus, tmp_path / "out", TokenizerConfig(kind=kind))


def test_a_foreign_directory_is_not_overwritten(corpus, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(TokenizerError, match="holds something other than a tokenizer"):
        train_tokenizer(corpus, tmp_path, TokenizerConfig(kind="char"))
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_a_changed_model_file_is_refused(trained, tmp_path):
    shutil.copytree(trained["bpe"][0], tmp_path / "copy")
    model = tmp_path / "copy" / "tokenizer.model"
    shutil.copy(trained["unigram"][0] / "tokenizer.model", model)
    with pytest.raises(TokenizerError, match=r"tokenizer\.model: sha256 is .* but tokenizer\.json records"):
        load_tokenizer(tmp_path / "copy")
    model.unlink()
    with pytest.raises(TokenizerError, match=r"tokenizer\.model: no such file, though .*tokenizer\.json needs it"):
        load_tokenizer(tmp_path / "copy")


def test_the_hash_covers_the_manifest(trained, tmp_path):
    shutil.copytree(trained["char"][0], tmp_path / "copy")
    before = load_tokenizer(tmp_path / "copy").content_hash()
    assert before == trained["char"][1]["sha256"]
    manifest = json.loads((tmp_path / "copy" / "tokenizer.json").read_text())
    manifest["characters"] = manifest["characters"][::-1]
    (tmp_path / "copy" / "tokenizer.json").write_text(json.dumps(manifest))
    assert load_tokenizer(tmp_path / "copy").content_hash() != before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file; train a tokenizer"),
        ("{", "not readable as JSON"),
        ('{"format_version": 2}', "not a tokenizer of format version 1"),
        ('{"format_version": 1, "kind": "magic", "normalization": "NFC"}', "kind 'magic'"),
        ('{"format_version": 1, "kind": "char", "normalization": "NFC"}', "has no 'control_tokens'"),
    ],
)
def test_an_unusable_directory_is_explained(tmp_path, content, words):
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=words):
        load_tokenizer(tmp_path)


def test_prompts_follow_the_table(tokenizer):
    text = tokenizer.encode("дом")
    common = {"task": "translation", "text": "дом", "target": "en"}
    assert encode_prompt(tokenizer, family="seq2seq", **common) == [5, *text, 3]
    assert encode_prompt(tokenizer, family="seq2seq", **common, author="Лев Толстой") == [5, 7, *text, 3]
    assert encode_prompt(tokenizer, family="decoder", **common) == [2, 5, *text, 2]
    assert encode_prompt(tokenizer, family="decoder", task="text", text="дом") == [2, *text]
    assert encode_prompt(tokenizer, family="decoder", task="text", text="") == [2]


@given(length=st.integers(0, 40), size=st.integers(1, 9), first=st.integers(0, 9))
def test_windows_predict_every_token_once(tokenizers, length, size, first):
    tokenizer, text = tokenizers["char"], list(range(100, 100 + length))
    windows = list(text_windows(tokenizer, text, size, min(first, size)))
    assert [token for window in windows for token in window.answer] == [*text, tokenizer.eos_id]
    assert [token for window in windows for token in window.inputs] == [tokenizer.bos_id, *text]
    assert all(window.labels == window.answer and window.width <= size for window in windows)


def test_examples_of_both_families(tokenizers):
    """The encoder reads the prompt, or the decoder does, which is asked for nothing but the answer."""
    tokenizer, text, translation = tokenizers["char"], [100, 101], [102, 103]
    pair = pair_example(tokenizer, "seq2seq", text, translation, "en", "Лев Толстой")
    assert (pair.source, pair.inputs, pair.labels) == ([5, 7, 100, 101, 3], [2, 102, 103], [102, 103, 3])
    single = pair_example(tokenizer, "decoder", text, translation, "en")
    assert (single.source, single.inputs) == ([], [2, 5, 100, 101, 2, 102, 103])
    assert single.labels == [0, 0, 0, 0, 102, 103, 3] and single.width == 7
    ids, lengths = pad([pair.source, single.inputs, [9]], multiple=4)
    assert ids.shape == (3, 8) and lengths.tolist() == [5, 7, 1] and ids[2].tolist() == [9] + 7 * [tokenizer.pad_id]


@pytest.mark.parametrize(
    ("changed", "field", "words"),
    [
        ({"target": "de"}, "target", "target: unknown language 'de'; known: ru, en"),
        ({"target": None, "text": "42!"}, "target", "target: the text does not tell its language; .*one of ru, en"),
        ({"author": "Пушкин"}, "author", "author: unknown author 'Пушкин'; known: Guide, old, Лев Толстой"),
        ({"text": "\ud83d"}, "text", "text: the text holds a lone surrogate"),
        ({"text": 5}, "text", "text: expected a string, found int"),
        ({"task": "text"}, "target", "target: this model continues text"),
        ({"task": "text", "family": "seq2seq"}, "task", "task: a seq2seq model cannot do 'text'"),
    ],
)
def test_prompt_errors_name_the_field(tokenizers, changed, field, words):
    request = {"family": "decoder", "task": "translation", "text": "дом", "target": "en", **changed}
    with pytest.raises(PromptError, match=words) as caught:
        encode_prompt(tokenizers["bpe"], **request)
    assert caught.value.field == field


def test_the_command_line_trains_and_shows(corpus, tmp_path, capfd):
    out = str(tmp_path / "out")
    assert main([str(corpus), "--out", out, "--kind", "bpe", "--vocab_size", "400"]) == 0
    printed = capfd.readouterr()
    assert "bpe, 400 pieces, 1200 lines" in printed.out
    assert printed.err == ""  # SentencePiece's own log stays quiet
    assert main(["--show", out, "дом 🙂"]) == 0
    assert "byte f0" in (shown := capfd.readouterr().out)
    assert "decoded: 'дом 🙂'" in shown
    with pytest.raises(TokenizerError, match="none"):
        main(["--show", str(tmp_path / "none"), "x"])


@pytest.mark.parametrize(("text", "target"), [("дом", "en"), ("a house", "ru"), ("файл config.yaml не найден", "en")])
def test_the_target_may_be_left_out(tokenizers, text, target):
    """Of two languages with different scripts, the letters tell which one the text is not in."""
    request = {"family": "seq2seq", "task": "translation", "text": text}
    assert encode_prompt(tokenizers["bpe"], **request) == encode_prompt(tokenizers["bpe"], **request, target=target)


def test_languages_that_share_a_script_cannot_be_told_apart():
    assert language_of("ein Haus", ["de", "en"]) is None
    assert language_of("42", ["ru", "en"]) is None
    assert language_of("дом house", ["ru", "en"]) == "en"
