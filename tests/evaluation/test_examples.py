"""What a bundle says of itself: examples chosen by their text alone, the same each time, and its text's figures."""

import json

import pytest
import zstandard

from evaluation.examples import introduce, sources
from evaluation.making import make_bundle
from model.bundle import Bundle
from model.config import ConfigError, EvaluationConfig, NetworkConfig, QuantizationConfig, from_dict
from tests.helpers.bundles import TINY, tiny_checkpoint, tiny_corpus, tiny_tokenizer

ODD = [
    ("Ошибка 404 на http://example.com/ снова тут.", "Error 404 at http://example.com/ again."),
    ("Нажмите <b>Пуск</b> прямо сейчас.", "Press <b>Start</b> right now, please."),
    ("да", "yes"),
    ("---", "***"),
    ("слово " * 60, "word " * 60),
]
PLAIN = [(f"Это простая фраза номер {'и' * n}.", f"This is plain sentence {'i' * n}.") for n in range(1, 9)]


def rows(pairs):
    return [{"ru": ru, "en": en} for ru, en in pairs]


def test_plain_sources_come_first_in_both_directions_and_no_row_gives_both():
    found = sources(rows(ODD + PLAIN), ["ru", "en"], 8)
    assert [example["language"] for example in found] == ["ru", "en"] * 4
    sides = {ru: i for i, (ru, _) in enumerate(PLAIN)} | {en: i for i, (_, en) in enumerate(PLAIN)}
    assert len({sides[example["text"]] for example in found}) == 8
    assert found == sources(rows(ODD + PLAIN), ["ru", "en"], 8)


def test_what_is_no_sentence_is_taken_last_and_what_is_no_language_never():
    texts = [example["text"] for example in sources(rows(ODD), ["ru", "en"], 8)]
    assert texts == [ODD[0][0], ODD[1][1], ODD[2][0]]
    assert sources([], ["ru", "en"], 8) == [] and sources(rows(PLAIN), ["ru", "en"], 0) == []
    assert len(sources(rows(PLAIN), ["ru", "en"], 3)) == 3


@pytest.fixture
def corpus(tmp_path):
    out = tiny_corpus(tmp_path / "corpus", rows=12)
    lines = "".join(json.dumps({"ru": ru, "en": en}) + "\n" for ru, en in ODD + PLAIN)
    (out / "heldout.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
    card = json.loads((out / "corpus.json").read_text())
    card |= {"characters": {"ru": 500, "en": 400}, "sources": ["s3://private/place/pairs.tsv.zst", "hf://owner/name"]}
    (out / "corpus.json").write_text(json.dumps(card))
    return out


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_variant_carries_them(corpus, tmp_path, precision, capsys):
    tokenizer = tiny_tokenizer(tmp_path / "tokenizer")
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint", tokenizer, NetworkConfig(**TINY))
    parts = [str(part) for part in (checkpoint, tokenizer, corpus, tmp_path / "bundle")]
    make_bundle(*parts, precision, QuantizationConfig(), EvaluationConfig())
    introduction = Bundle.load(tmp_path / "bundle").introduction
    assert introduction == introduce(corpus, EvaluationConfig())
    assert {name: introduction[name] for name in ("about", "rows", "characters", "sources")} == {
        "about": "", "rows": 12, "characters": 900, "sources": ["pairs.tsv.zst", "name"],
    }  # fmt: skip
    assert len(introduction["examples"]) == 8
    told = "8 held-out texts go with the bundle (evaluation.examples)" in capsys.readouterr().out
    assert told == (precision == "fp32"), "once a run, not once a variant"
    make_bundle(*parts, precision, QuantizationConfig(), EvaluationConfig(examples=0, about="Mine."))
    introduction = Bundle.load(tmp_path / "bundle").introduction
    assert (introduction["examples"], introduction["about"]) == ([], "Mine.")
    assert "held-out texts" not in capsys.readouterr().out


def test_running_text_gives_its_beginnings(tmp_path):
    corpus = tiny_corpus(tmp_path / "corpus", rows=40, kind="text")
    found = introduce(corpus, EvaluationConfig(examples=4))["examples"]
    assert [example["language"] for example in found] == [""] * 4
    assert all(example["text"] for example in found)


def test_a_sentence_of_the_owner_has_one_line_of_bounded_length():
    for about in ("x" * 301, "two\nlines"):
        with pytest.raises(ConfigError, match=r"about: .* is not of the form"):
            from_dict(EvaluationConfig, {"about": about})
