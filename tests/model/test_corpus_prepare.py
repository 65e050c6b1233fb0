"""The whole preparation on real files: splits that do not leak, the same corpus for a seed, and what it refuses."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model import corpus
from model.config import ConfigError, CorpusConfig, from_dict, to_dict
from model.corpus import CorpusError, prepare_corpus, read_card, read_split
from model.corpus.storage import Shuffle, buckets, distinct, key, read_bucket
from model.files import sha256_file

CONFIG = CorpusConfig(valid_rows=30, heldout_rows=40, shard_rows=500, leaks="exact", duplicates="exact")
ROWS = [(f"Это предложение номер {n}.", f"This is sentence number {n}.") for n in range(2000)]
SPLITS = ("train", "valid", "heldout")


def tsv(path: Path, rows: Any) -> str:
    path.write_text("".join(f"{ru}\t{en}\n" for ru, en in rows), "utf-8")
    return str(path)


def pairs(directory: Path, split: str) -> list[tuple[str, str]]:
    return [(row["ru"], row["en"]) for row in read_split(directory, split)]


def change(**settings: Any) -> CorpusConfig:
    return CONFIG.model_copy(update=settings)


def content(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): sha256_file(path) for path in directory.rglob("*.zst")}


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    extra = [
        ROWS[0],
        ROWS[1],
        ("", "Empty"),
        ("Да", "Of course I do, and I will do it again"),
        ("Вот и всё.", "И тут тоже."),
    ]
    (tmp_path / "more.tsv").write_bytes("".join(f"{ru}\t{en}\n" for ru, en in extra).encode() + b"no tab\n")
    out = tmp_path / "out"
    card = prepare_corpus([tsv(tmp_path / "a.tsv", ROWS), str(tmp_path / "more.tsv")], [], out, CONFIG)
    counts = card["counts"]
    assert counts["rejected"] == {"empty": 1, "length_ratio": 1, "malformed": 1, "script": 1}
    assert (counts["read"], counts["kept"], counts["duplicates"]) == (2006, 2000, 2)
    assert (counts["train"], counts["valid"], counts["heldout"], counts["test"]) == (1930, 30, 40, {})
    assert card["malformed"] == [f"{tmp_path}/more.tsv:6: no tab in the line; a .tsv holds source<TAB>target: 'no tab'"]
    rejected = {"empty": 1, "length_ratio": 1, "script": 1}
    more = {"file": f"{tmp_path}/more.tsv", "role": "train", "rows": 6, "malformed": 1, "rejected": rejected}
    assert card["files"][1] == more and card["left_out"] == []
    assert card["notes"][0] == (
        f"{tmp_path}/more.tsv: 4 of its 6 rows are left out: empty 1, length_ratio 1 (corpus.max_length_ratio), "
        "script 1 (corpus.min_script_ratio), malformed 1 (corpus.max_malformed)"
    )
    assert card["kind"] == "parallel" and card["languages"] == ["ru", "en"] and card["authors"] == []
    assert card["config"] == to_dict(CONFIG) | {"sources": card["sources"]}
    assert read_card(out) == card

    assert [shard["rows"] for shard in card["shards"]] == [500, 500, 500, 430]
    assert all(sha256_file(out / shard["file"]) == shard["sha256"] for shard in card["shards"])
    train = pairs(out, "train")
    assert card["characters"] == {"ru": sum(len(p[0]) for p in train), "en": sum(len(p[1]) for p in train)}
    assert sorted(train + pairs(out, "valid") + pairs(out, "heldout")) == sorted(ROWS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tsv", "more.tsv", "out"]


def test_a_seed_gives_one_corpus_whatever_the_order(tmp_path: Path) -> None:
    source = tsv(tmp_path / "a.tsv", ROWS)
    shuffled = tsv(tmp_path / "b.tsv", random.Random(1).sample(ROWS, len(ROWS)))
    for name, config in (("one", CONFIG), ("again", CONFIG), ("other", change(seed=1))):
        prepare_corpus([source], [], tmp_path / name, config)
    prepare_corpus([shuffled], [], tmp_path / "order", CONFIG)
    assert content(tmp_path / "one") == content(tmp_path / "again") == content(tmp_path / "order")
    assert set(pairs(tmp_path / "one", "heldout")) != set(pairs(tmp_path / "other", "heldout"))
    assert pairs(tmp_path / "one", "train")[:500] != sorted(pairs(tmp_path / "one", "train")[:500])


def test_no_side_of_a_held_out_or_test_row_is_trained_on(tmp_path: Path) -> None:
    # Every Russian sentence has two translations, so a split by pairs alone would leak half of each held-out row.
    rows = [(ru, en + end) for ru, en in ROWS for end in ("", " Yes.")]
    test = [
        ("Это предложение номер 7.", "Number seven."),
        ("Восьмое.", "This is sentence  number 8."),
        ("Новое.", "New one."),
    ]
    out = tmp_path / "out"
    card = prepare_corpus([tsv(tmp_path / "a.tsv", rows)], [tsv(tmp_path / "news.tsv", test)], out, CONFIG)
    train = pairs(out, "train")
    sides = {side for pair in train for side in pair}
    held = {side for split in ("valid", "heldout", "test/news") for pair in pairs(out, split) for side in pair}
    assert sides.isdisjoint(held)
    assert card["counts"]["rejected"]["test_set"] == 3
    assert card["counts"]["rejected"]["heldout_side"] >= 60
    counts = card["counts"]
    assert counts["read"] == counts["kept"] + sum(counts["rejected"].values()) + counts["duplicates"] == 4000
    assert corpus.test_sets(out) == ["news"] and counts["test"] == {"news": 3}
    assert pairs(out, "test/news") == test, "a test set is kept as it is"


def test_a_small_corpus_holds_out_less_and_says_so(tmp_path: Path) -> None:
    card = prepare_corpus([tsv(tmp_path / "a.tsv", ROWS[:100])], [], tmp_path / "out", CONFIG)
    assert [card["counts"][split] for split in SPLITS] == [90, 5, 5]
    assert card["notes"] == ["a small corpus: of 100 rows, heldout gets 5 and valid 5"]
    card = prepare_corpus([tsv(tmp_path / "a.tsv", ROWS[:3])], [], tmp_path / "out", CONFIG)
    assert [card["counts"][split] for split in SPLITS] == [1, 1, 1]
    card = prepare_corpus(
        [tsv(tmp_path / "a.tsv", ROWS[:50])], [], tmp_path / "out", change(valid_rows=0, heldout_rows=0)
    )
    assert [card["counts"][split] for split in SPLITS] == [50, 0, 0]
    assert list(read_split(tmp_path / "out", "valid")) == []


def test_max_rows_counts_distinct_rows(tmp_path: Path) -> None:
    source = tsv(tmp_path / "a.tsv", [row for row in ROWS for _ in range(2)])
    card = prepare_corpus([source], [], tmp_path / "out", change(max_rows=600))
    assert (card["counts"]["kept"], card["counts"]["duplicates"], card["counts"]["read"]) == (600, 599, 1199)
    assert "stopped after max_rows = 600 rows" in card["notes"]


def test_authors_reach_the_records_and_the_card(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    records = [{"ru": ru, "en": en, "author": "Лев Т." if n % 2 else None} for n, (ru, en) in enumerate(ROWS)]
    source.write_text(
        "".join(json.dumps(record) + "\n" for record in [*records, {"ru": ROWS[1][0], "en": ROWS[1][1]}]), "utf-8"
    )
    card = prepare_corpus([str(source)], [], tmp_path / "out", CONFIG)
    assert card["authors"] == ["Лев-Т."]
    assert card["counts"]["duplicates"] == 1
    kept = [row for split in SPLITS for row in read_split(tmp_path / "out", split)]
    assert sum(row.get("author") == "Лев-Т." for row in kept) == 1000, "of two equal rows the one with an author stays"
    assert all(row.keys() <= {"ru", "en", "author"} for row in kept)

    many = "".join(json.dumps({"ru": ru, "en": en, "author": f"a{n}"}) + "\n" for n, (ru, en) in enumerate(ROWS))
    source.write_text(many, "utf-8")
    with pytest.raises(CorpusError, match="more than 256 authors, 'a256' is one too many"):
        prepare_corpus([str(source)], [], tmp_path / "out", CONFIG)


def test_running_text_keeps_its_lines(tmp_path: Path) -> None:
    scenes = [
        f"ANNA:\n  Line {n} of the play.\n  Oh.\n\nIVAN:\nOh.\nTo be, or not to be, number {n}.\n\n" for n in range(300)
    ]
    source, test = tmp_path / "play.txt", tmp_path / "scene.txt"
    source.write_text("".join(scenes), "utf-8")
    test.write_text("ANNA:\nTo be, or not to be, number 7.\n", "utf-8")
    config = change(kind="text", languages=["en"], max_chars=120)
    card = prepare_corpus([str(source)], [str(test)], tmp_path / "out", config)
    pieces = {split: [row["text"] for row in read_split(tmp_path / "out", split)] for split in SPLITS}
    assert [len(pieces[split]) for split in ("valid", "heldout")] == [30, 40]
    everything = [piece for split in SPLITS for piece in pieces[split]]
    assert len(set(everything)) == len(everything) == card["counts"]["kept"]
    text = "".join(scenes)
    assert all(piece in text and len(piece) <= 120 for piece in everything)
    assert sum(map(len, everything)) > 0.95 * len(text)
    assert card["counts"]["rejected"] == {"test_set": 1}
    assert card["characters"] == {"text": sum(map(len, pieces["train"]))}
    assert list(read_split(tmp_path / "out", "test/scene")) == [{"text": test.read_text("utf-8")}]


def test_the_end_of_each_file_is_held_out(tmp_path: Path) -> None:
    """To the character, and across the documents of a file: what is trained on is the text's beginning, whole."""
    chance = random.Random(0)
    texts = [
        "".join(chance.choice("абвгдежзийклмн \n.") for _ in range(count)) for count in (36000, 80, 2800, 1, 20000)
    ]  # fmt: skip
    (tmp_path / "a.txt").write_text(texts[0], "utf-8")
    records = "".join(json.dumps({"text": text}) + "\n" for text in texts[1:])
    (tmp_path / "b.jsonl").write_text(records, "utf-8")
    config = change(kind="text", languages=["ru"], max_chars=100, held_out_end=0.2)
    sources = [str(tmp_path / name) for name in ("a.txt", "b.jsonl")]
    card = prepare_corpus(sources, [], tmp_path / "out", config)
    pieces = {split: [row["text"] for row in read_split(tmp_path / "out", split)] for split in SPLITS}
    counts = card["counts"]
    assert (counts["valid"], counts["heldout"]) == (30, 40) == (len(pieces["valid"]), len(pieces["heldout"]))
    left_out = counts["rejected"]
    assert left_out["held_out_rest"] > 0
    assert counts["read"] == counts["kept"] + sum(left_out.values()) + counts["duplicates"]
    whole = (texts[0], "".join(texts[1:]))
    begins = [(0.0, 0.8), (0.8, 0.9), (0.9, 1.0)]
    for split, (begin, end) in zip(SPLITS, begins, strict=True):
        parts = [text[int(begin * len(text)) : int(end * len(text))] for text in whole]
        assert all(any(piece in part for part in parts) for piece in pieces[split]), split
    all_of_it = change(**{**to_dict(config), "valid_rows": 1000, "heldout_rows": 1000})
    prepare_corpus(sources, [], tmp_path / "all", all_of_it)
    for split, (begin, end) in zip(SPLITS, begins, strict=True):
        kept = sum(len(row["text"]) for row in read_split(tmp_path / "all", split))
        wanted = sum(int(end * len(text)) - int(begin * len(text)) for text in whole)
        assert wanted - 110 <= kept <= wanted, split  # a piece of one line break is no row


def test_the_end_of_pairs_is_not_held_out() -> None:
    with pytest.raises(ConfigError, match=r"corpus\.held_out_end: must be 0 for sentence pairs"):
        from_dict(CorpusConfig, {"held_out_end": 0.1}, "corpus")


def test_text_that_is_not_given_is_the_settings_own(tmp_path: Path) -> None:
    own, given = tsv(tmp_path / "own.tsv", ROWS[:300]), tsv(tmp_path / "given.tsv", ROWS[300:600])
    config = change(sources=[own])
    assert prepare_corpus([], [], tmp_path / "out", config)["sources"] == [own]
    assert prepare_corpus([given], [], tmp_path / "out", config)["sources"] == [given], "replaced, not added to"


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (
            b"no tab\n" + b"\xd0\xb0\tb\n" * 50,
            {},
            r"a.tsv:1: no tab.*\n1 of 51 rows are malformed, more than the 1.00%",
        ),
        (
            b"Hello\tHello\n" * 3,
            {},
            r"a.tsv: nothing is left after cleaning 3 rows; rejected: identical 3\nthe first by identical: 'Hello'",
        ),
        (b"\n\n", {}, "nothing is left after cleaning 2 rows; rejected: empty 2"),
        ("Да\tYes\n".encode(), {}, "only 1 of 1 rows are left, too few to hold some out"),
    ],
)
def test_a_failure_leaves_the_earlier_corpus_as_it_was(
    tmp_path: Path, rows: bytes, settings: dict, message: str
) -> None:
    out = tmp_path / "out"
    prepare_corpus([tsv(tmp_path / "good.tsv", ROWS[:100])], [], out, CONFIG)
    before = content(out)
    (tmp_path / "a.tsv").write_bytes(rows)
    with pytest.raises(CorpusError, match=message):
        prepare_corpus([str(tmp_path / "a.tsv")], [], out, change(**settings))
    assert content(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tsv", "good.tsv", "out"]


def test_what_is_refused(tmp_path: Path) -> None:
    good, out = tsv(tmp_path / "good.tsv", ROWS[:100]), tmp_path / "out"
    with pytest.raises(
        CorpusError, match=r"b.tsv:2: no tab.*\ntest sets are taken as they are, so every row of b must be whole"
    ):
        (tmp_path / "b.tsv").write_text("а\ta\nno tab\n" + "а\ta\n" * 1000, "utf-8")
        prepare_corpus([good], [str(tmp_path / "b.tsv")], out, CONFIG)
    with pytest.raises(CorpusError, match="two test sets have the name good"):
        prepare_corpus([good], [good, good], out, CONFIG)
    with pytest.raises(CorpusError, match=r"the name heldout is taken"):
        prepare_corpus([good], [tsv(tmp_path / "heldout.tsv", ROWS[:1])], out, CONFIG)
    with pytest.raises(CorpusError, match=r"none\.tsv: no such file"):
        prepare_corpus([good], [str(tmp_path / "none.tsv")], out, CONFIG)
    with pytest.raises(CorpusError, match=r"no text is given, and corpus.sources names none; give a file"):
        prepare_corpus([], [], out, CONFIG)
    out.mkdir()
    (out / "thesis.txt").write_text("mine", "utf-8")
    with pytest.raises(CorpusError, match="is there and is not a corpus"):
        prepare_corpus([good], [], out, CONFIG)
    assert (out / "thesis.txt").read_text("utf-8") == "mine"


def test_readers_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"not a corpus, it has no corpus.json"):
        read_card(tmp_path)
    out = tmp_path / "out"
    prepare_corpus([tsv(tmp_path / "a.tsv", ROWS[:100])], [tsv(tmp_path / "t.tsv", ROWS[200:210])], out, CONFIG)
    with pytest.raises(CorpusError, match="no split 'dev'; known: train, valid, heldout, test/t"):
        read_split(out, "dev")
    data = (out / "train-00000.jsonl.zst").read_bytes()
    (out / "train-00000.jsonl.zst").write_bytes(data[:-5])
    with pytest.raises(CorpusError, match=r"train-00000.jsonl.zst: (damaged|ends in the middle)"):
        list(read_split(out, "train"))
    (out / "train-00000.jsonl.zst").unlink()
    with pytest.raises(CorpusError, match=r"train-00000.jsonl.zst: no such file, though the card names it"):
        list(read_split(out, "train"))
    (out / "corpus.json").write_text('{"format_version": 99}', "utf-8")
    with pytest.raises(CorpusError, match="not a corpus of format version 1"):
        read_card(out)


def test_the_shuffle_spills_and_sorts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one file of buckets or from two, of which one has not all of them."""
    monkeypatch.setattr("model.corpus.storage.BUFFER_BYTES", 1000)
    numbers = [*range(500), *range(0, 500, 5)]
    for parts in ([numbers], [numbers[:590], numbers[590:]]):
        packs = []
        for at, part in enumerate(parts):
            shuffle = Shuffle(tmp_path / "s")
            for number in part:
                shuffle.add((key(3, str(number)) + str(number)).encode())
            packs.append((tmp_path / str(at), shuffle.pack(tmp_path / str(at))))
            assert not (tmp_path / "s").exists()
        assert len(packs[-1][1]) < len(packs[0][1]) or len(packs) == 1
        found = [distinct(read_bucket(bucket)) for bucket in buckets(packs)]
        records = [int(record) for bucket, _ in found for record in bucket]
        assert sorted(records) == list(range(500)) and records != sorted(records)
        repeats = [pair for _, pairs in found for pair in pairs]
        assert len(repeats) == 100 and all(kept == other for kept, other in repeats)
        assert [key(3, str(n)) for n in records] == sorted(key(3, str(n)) for n in range(500))


def test_the_command(tmp_path: Path) -> None:
    source, test = tsv(tmp_path / "a.tsv", ROWS), tsv(tmp_path / "news.tsv", ROWS[:5])
    command = [
        sys.executable,
        "-m",
        "model.corpus",
        "--out",
        str(tmp_path / "out"),
        "--test",
        test,
        "--seed",
        "5",
        "--leaks",
        "exact",
        "--duplicates",
        "exact",
        source,
    ]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "2,000 rows read and cleaned" in result.stderr
    assert [line.split() for line in result.stdout.splitlines()[:2]] == [["read", "2,000"], ["kept", "1,995"]]
    assert read_card(tmp_path / "out")["config"]["seed"] == 5
    wrong = [*command, "--valid_rows", "many"]
    result = subprocess.run(wrong, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert result.returncode == 2 and "--valid_rows: invalid int value: 'many'" in result.stderr


def test_what_is_held_out_may_lie_apart(tmp_path: Path) -> None:
    """Two directories hold exactly what one would; each says what it has and refuses the rest."""
    source, test = tsv(tmp_path / "a.tsv", ROWS), tsv(tmp_path / "docs.tsv", [("Это проверка.", "This is a test.")])
    whole, corpus, holdout = (tmp_path / name for name in ("whole", "corpus", "holdout"))
    prepare_corpus([source], [test], whole, CONFIG)
    for _ in range(2):  # a second time both are replaced
        prepare_corpus([source], [test], corpus, CONFIG, holdout)
    assert content(corpus) | content(holdout) == content(whole)
    assert all(name.startswith("train-") for name in content(corpus)) and content(corpus)
    assert set(content(holdout)) == {"valid.jsonl.zst", "heldout.jsonl.zst", "test/docs.jsonl.zst"}
    for split, place in (("train", corpus), ("valid", holdout), ("heldout", holdout), ("test/docs", holdout)):
        assert list(read_split(place, split)) == list(read_split(whole, split)), split
    cards = [
        {k: v for k, v in read_card(place).items() if k not in ("holds", "seconds")} for place in (corpus, holdout)
    ]
    assert cards[0] == cards[1] and cards[0]["counts"]["test"] == {"docs": 1}
    with pytest.raises(CorpusError, match="corpus: holds train of its corpus, not valid; give the other part"):
        read_split(corpus, "valid")
    with pytest.raises(CorpusError, match="holdout: holds valid and heldout and test of its corpus, not train"):
        read_split(holdout, "train")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious").touch()
    with pytest.raises(CorpusError, match="other: is there and is not a corpus"):
        prepare_corpus([source], [], tmp_path / "new", CONFIG, tmp_path / "other")
    assert not (tmp_path / "new").exists()
