"""What a training run reads: any batch alone, on any number of threads; rows tokenised once, weighted and joined."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import NetworkConfig, TokenizerConfig, TrainingConfig, from_dict, to_dict
from model.corpus.answers import answer
from model.tokenizer import Tokenizer, load_tokenizer
from model.tokenizer.prompt import PromptError, encode_prompt
from model.tokenizer.train import train_tokenizer
from model.training import pools
from model.training.batches import TOKENS, Batch, Examples
from model.training.draws import Draws
from model.training.loop import Trainer
from model.training.pools import ExamplesError, Pools, cut, fitted
from model.training.shapes import above, below
from model.training.shown import Drawn, Pairs, Windows
from model.training.tokens import CARD, stored, tokenised
from tests.helpers.training import CONFIG, NETWORK, shown, write_corpus

FIELDS = ["ru", "en"]


@pytest.fixture(scope="module")
def tokenizer(parallel: tuple[Path, Path]) -> Tokenizer:
    return load_tokenizer(parallel[1])


def records(count: int) -> list[dict[str, str]]:
    """Numbers of all lengths; every third row is of a domain of its own."""
    texts = [str(10 ** (number % 17) + number) for number in range(count)]
    return [
        {"ru": f"ещё {text}", "en": f"more {text}"} | ({"domain": "ui"} if number % 3 == 0 else {})
        for number, text in enumerate(texts)
    ]


def made(tokenizer: Tokenizer, rows: int = 300, **changes: object) -> Pools:
    config = from_dict(TrainingConfig, to_dict(CONFIG) | changes)
    tokens = tokenised(records(rows), tokenizer, FIELDS)
    return Pools(tokens, Pairs(tokens, tokenizer, NETWORK, config, Draws(config.seed)), config, NETWORK.max_positions)


def same(one: Batch, other: Batch) -> bool:
    assert one.source is not None and other.source is not None
    sides = ((one.source, other.source), (one.inputs, other.inputs), (one.labels, other.labels))
    return one.rows == other.rows and all(a.shape == b.shape and bool((a == b).all()) for a, b in sides)


@pytest.mark.parametrize("size", [1, 2, 3, 10, 1000, 1025])
def test_a_permutation_is_whole_and_known_place_by_place(size: int) -> None:
    draws = Draws(7)
    whole = draws.permuted("row", 0, np.arange(size), size)
    assert sorted(whole) == list(range(size))
    places = np.arange(size)[::-3]
    np.testing.assert_array_equal(draws.permuted("row", 0, places, size), whole[places])
    if size >= 10:
        assert list(whole) != list(range(size))
        for other in (
            draws.permuted("row", 1, np.arange(size), size),
            Draws(8).permuted("row", 0, np.arange(size), size),
        ):
            assert list(other) != list(whole)


def test_draws_are_fair_independent_and_the_same_for_ever() -> None:
    items = np.arange(100_000)
    columns = [Draws(seed).shares(what, turn, items) for seed, what, turn in itertools.product((0, 1), "ab", (0, 1))]
    for column in columns:
        counts = np.histogram(column, 10, (0.0, 1.0))[0]
        assert np.abs(counts - 10_000).max() < 500
    assert np.abs(np.corrcoef(columns) - np.eye(8)).max() < 0.02
    assert np.abs(np.corrcoef(columns[0][:-1], columns[0][1:])[0, 1]) < 0.02
    # A run that was begun with one version of the libraries goes on with another.
    assert Draws(2**70).bits("direction", 3, np.arange(3)).tolist() == [
        4270697883717716152,
        3737352578677777196,
        11912089929034385096,
    ]


def test_any_batch_is_made_alone_and_on_any_number_of_threads(
    parallel: tuple[Path, Path], tokenizer: Tokenizer
) -> None:
    def stream(start: int, threads: int = 1) -> Iterator[Batch]:
        return Examples(parallel[0], tokenizer, NETWORK, CONFIG).train_batches(start, threads)

    seen = list(itertools.islice(stream(0), 60))
    assert len({batch.rows for batch in seen}) == 60, "several passes, and none like the one before"
    for number in (0, 1, 31, 59):
        assert same(next(stream(number)), seen[number])
    assert all(map(same, itertools.islice(stream(0, threads=3), 60), seen))


def test_a_pass_shows_each_row_once_in_either_direction(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the borders of pools and passes, too."""
    monkeypatch.setattr(pools, "POOL_BATCHES", 4)
    run = made(tokenizer)
    assert 0 < run.rows < 150, "a pool is a part of a pass"
    number, counts, ways = -(-900 // run.rows), Counter[int](), Counter[bool]()
    for pool in map(run.pool, range(number)):
        counts.update(pool.shown.rows[:, 0].tolist())
        ways.update(pool.shown.choices["flip"].tolist())
    assert counts.keys() == set(range(300))
    assert set(counts.values()) <= {3, 4} and counts.total() == number * run.rows
    assert 0.4 < ways[True] / counts.total() < 0.6


def test_what_is_drawn_for_a_row_does_not_depend_on_the_batches(tokenizer: Tokenizer) -> None:
    def chosen(batch_tokens: int) -> dict[int, bool]:
        found = made(tokenizer, batch_tokens=batch_tokens).pool(0).shown
        return dict(zip(found.rows[:, 0].tolist(), found.choices["flip"].tolist(), strict=True))

    assert chosen(128) == chosen(4096)
    assert chosen(128) != dict.fromkeys(range(300), True)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(1, 30), st.integers(1, 400))
def test_widths_are_cut_into_so_many_batches(widths: list[int], batches: int, budget: int) -> None:
    widths.sort()
    for cuts in (cut(widths, budget), fitted(widths, batches, budget)):
        assert cuts[0] == 0 and cuts[-1] == len(widths) and cuts == sorted(set(cuts))
    for begin, end in itertools.pairwise(cut(widths, budget)):
        rows = end - begin
        assert rows == 1 or widths[end - 1] * rows <= budget
        if end < len(widths):
            assert below(rows) == rows, "a rung's number of rows"
            more = int(above(rows + 1))
            assert begin + more > len(widths) or widths[begin + more - 1] * more > budget, "room for the next rung"
    assert len(fitted(widths, batches, budget)) - 1 == min(batches, len(widths))


def test_pools_have_so_many_batches_of_the_budget(tokenizer: Tokenizer) -> None:
    run = made(tokenizer, 3000, batch_tokens=512)
    assert run.rows < 3000
    taken = []
    for pool in map(run.pool, range(10)):
        ends = [pool.places(number) for number in range(run.batches)]
        assert sorted(place for places in ends for place in places) == list(range(len(pool.shown.width)))
        taken += [int(pool.shown.width[places.stop - 1]) * len(places) for places in ends]
    assert max(taken) <= 1.02 * 512 and np.mean(taken) > 0.85 * 512


@given(st.integers(1, 2**31))
def test_rungs_are_eight_between_powers_of_two_and_a_ninth_apart_at_most(size: int) -> None:
    up, down = int(above(size)), below(size)
    assert down <= size <= up and up * 8 <= size * 9 and above(up) == up == below(up) and below(down) == down
    assert above(np.array([size, 1, 17])).tolist() == [up, 1, 18]


def test_a_run_sees_few_shapes_of_batches(tokenizer: Tokenizer, parallel: tuple[Path, Path]) -> None:
    """Every side stands on a rung, so that there are few numbers of tokens, and costs little padding."""
    sides, padded, real = set[tuple[int, int]](), 0, 0
    for batch in itertools.islice(Examples(parallel[0], tokenizer, NETWORK, CONFIG).train_batches(), 200):
        assert batch.source is not None
        for rows, width in (batch.source.shape, batch.inputs.shape):
            assert above(rows) == rows and width in (above(width), NETWORK.max_positions)
            sides.add((rows, width))
            padded += rows * width
        real += batch.tokens
    assert len({rows * width for rows, width in sides}) <= 24
    assert real > 0.8 * padded


def test_what_fills_a_shape_changes_nothing(tokenizer: Tokenizer, parallel: tuple[Path, Path], tmp_path: Path) -> None:
    """Neither empty rows nor wider ones: the same loss and the same gradients, in both families."""
    rng = np.random.default_rng(0)
    source, inputs, labels = (rng.integers(4, 40, (5, 9)) for _ in range(3))
    source[2, 6:] = labels[1, 4:] = tokenizer.pad_id
    wider = [np.pad(side, ((0, 3), (0, 7)), constant_values=tokenizer.pad_id) for side in (source, inputs, labels)]
    for family in ("seq2seq", "decoder"):
        network = NETWORK.model_copy(update={"family": family})
        examples = Examples(parallel[0], tokenizer, network, CONFIG.model_copy(update={"precision": "fp32"}))
        found = []
        for sides in ((source, inputs, labels), wider):
            torch.manual_seed(0)
            trainer = Trainer(examples, tmp_path)
            for parameter in trainer.network.parameters():
                torch.nn.init.normal_(parameter, std=0.1)
            batch = Batch.of(sides[0] if family == "seq2seq" else None, sides[1], sides[2])
            assert batch.target_tokens == 45 - 5 and batch.tokens == 40 + (45 - 3) * (family == "seq2seq")
            loss = trainer.loss(batch)
            loss.backward()
            found.append([loss, *(parameter.grad for parameter in trainer.network.parameters())])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_rows_are_tokenised_once(parallel: tuple[Path, Path], tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows, folder, source = records(300), tmp_path / "tokens", {"corpus": ["a"]}

    def never() -> Iterator[dict[str, str]]:
        raise AssertionError("they are read again")
        yield {}

    first = stored(folder, source, 300, iter(rows), tokenizer, FIELDS)
    assert [first.own["en"].of(row) for row in range(300)] == [tokenizer.encode(row["en"]) for row in rows]
    assert first.typed["ru"].of(7) == tokenizer.encode(rows[7]["ru"].replace("ё", "е")) and not first.typed["en"].of(7)
    assert first.own["en"].ids.dtype == np.uint16
    assert [first.name("domain", number) for number in first.labels["domain"][:4]] == ["ui", None, None, "ui"]
    again = stored(folder, source, 300, never(), tokenizer, FIELDS)
    np.testing.assert_array_equal(again.own["ru"].ids, first.own["ru"].ids)
    data = bytearray((folder / "ru.ids").read_bytes())
    data[100] ^= 1
    (folder / "ru.ids").write_bytes(data)
    for other in (source, {"corpus": ["b"]}):  # damaged; of another text
        with pytest.raises(AssertionError, match="read again"):
            stored(folder, other, 300, never(), tokenizer, FIELDS)
    mended = stored(folder, source, 300, iter(rows), tokenizer, FIELDS)
    assert mended.own["ru"].of(50) == tokenizer.encode(rows[50]["ru"])
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]


def test_a_large_vocabulary_takes_wide_ids(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "encode_batch", lambda texts: [[70_000] * len(text) for text in texts])
    monkeypatch.setattr(tokenizer, "_bytes", [b""] * 70_001)
    assert tokenised(records(5), tokenizer, FIELDS).own["en"].of(0) == [70_000] * len(records(1)[0]["en"])


def test_a_run_keeps_its_tokens_until_it_ends(
    parallel: tuple[Path, Path], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    def begin() -> tuple[Examples, Batch]:
        examples = Examples(parallel[0], tokenizer, NETWORK, CONFIG, work=tmp_path)
        return examples, next(examples.train_batches())

    examples, first = begin()
    written = (tmp_path / TOKENS / CARD).stat().st_ino
    assert same(begin()[1], first) and (tmp_path / TOKENS / CARD).stat().st_ino == written
    (tmp_path / f".{TOKENS}.partial-1").mkdir()
    examples.forget()
    assert not list(tmp_path.iterdir())


def test_only_what_is_translated_has_the_forms_of_a_source(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Running text has lines and indents, which a source would not: nothing of it is kept a second time."""
    rows = [{"text": "Ещё\n  один", "ru": "«ё»", "en": "one", answer("en"): "“one”"}]
    fields = ["text", "ru", "en", answer("en")]
    made = stored(tmp_path / "tokens", {}, 1, iter(rows), tokenizer, fields)
    assert list(made.own) == fields and list(made.source) == list(made.typed) == ["ru", "en"]
    assert made.own["text"].of(0) == tokenizer.encode(rows[0]["text"])
    assert made.typed["ru"].of(0) == tokenizer.encode('"е"') and not made.source["ru"].of(0)
    assert not [path for path in (tmp_path / "tokens").iterdir() if path.name.startswith("text.source")]


@pytest.mark.parametrize("kind", ["char", "unigram"])
def test_joined_rows_are_what_their_joined_texts_are(parallel: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    """Ids of two or three texts, one after another, are those of the one text with spaces between them."""
    train_tokenizer(parallel[0], tmp_path / "t", from_dict(TokenizerConfig, {"kind": kind, "vocab_size": 340}))
    tokenizer, rows = load_tokenizer(tmp_path / "t"), records(300)
    tokens, config = tokenised(rows, tokenizer, FIELDS), TrainingConfig(join_share=1.0, typed_share=0.0)
    pairs = Pairs(tokens, tokenizer, NETWORK, config, Draws(0))
    found = pairs.show(Drawn(0, np.arange(300), np.arange(300)))
    sizes = Counter((found.rows >= 0).sum(1).tolist())
    assert sizes[2] > 20 and sizes[3] > 20
    assert sorted(row for row in found.rows.ravel().tolist() if row >= 0) == list(range(300))
    for place, parts in enumerate(found.rows.tolist()):
        example, flip = pairs.example(found, place), found.choices["flip"][place]
        source, target = FIELDS[::-1] if flip else FIELDS
        texts = [rows[row] for row in parts if row >= 0]
        assert example.source[1:-1] == tokenizer.encode(" ".join(text[source] for text in texts))
        assert example.answer[:-1] == tokenizer.encode(" ".join(text[target] for text in texts))
        assert (example.width, len(example.inputs)) == (found.width[place], found.inputs[place])
    assert found.width.max() <= NETWORK.max_positions


def test_a_share_of_the_examples_is_joined(tokenizer: Tokenizer) -> None:
    found = made(tokenizer, 3000, join_share=0.25, batch_tokens=10**6).pool(0).shown
    assert 0.2 < ((found.rows >= 0).sum(1) > 1).mean() < 0.3
    none = made(tokenizer, 300).pool(0).shown
    assert none.rows.shape == (300, 1)


def test_authors_of_joined_rows_are_named_where_they_are_one(tokenizer: Tokenizer) -> None:
    config = TrainingConfig(join_share=1.0, author_dropout=0.0)
    rows = [{"ru": "один", "en": "one"} | ({"author": "clerk"} if number < 150 else {}) for number in range(300)]
    own = tokenizer.control_id("<author:clerk>")
    named = [own in example.source for example in shown(rows, tokenizer, NETWORK, config, 0)]
    border = named.index(False)
    assert border > 40 and not any(named[border:])


def test_domains_are_told_in_training_alone(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """By their own token after the author's, in as many rows as the dropout leaves."""
    corpus = write_corpus(tmp_path / "corpus")
    card = json.loads((corpus / "corpus.json").read_text())
    (corpus / "corpus.json").write_text(json.dumps(card | {"domains": {"ui": 600}}))
    train_tokenizer(corpus, tmp_path / "t", TokenizerConfig(kind="char", vocab_size=400))
    own, rows = load_tokenizer(tmp_path / "t"), [{"ru": "один", "en": "one", "author": "clerk", "domain": "ui"}] * 400
    assert own.control_tokens == (*tokenizer.control_tokens, "<domain:ui>")
    served = {"task": "translation", "text": "один", "target": "en", "author": "clerk"}
    for family in ("seq2seq", "decoder"):
        network = NETWORK.model_copy(update={"family": family})
        config = TrainingConfig(author_dropout=0.0, domain_dropout=0.25)
        prompts = [example.prompt for example in shown(rows, own, network, config, 0)]
        told, bare = (encode_prompt(own, family=family, **served, domain=domain) for domain in ("ui", None))
        assert 0.65 < sum(own.control_id("<domain:ui>") in prompt for prompt in prompts) / 400 < 0.85
        assert told in prompts and bare in prompts
        for other, seed in ((TrainingConfig(author_dropout=0.0), 0), (config, None)):  # by default; in validation
            assert all(
                own.control_id("<domain:ui>") not in one.prompt for one in shown(rows, own, network, other, seed)
            )
    with pytest.raises(PromptError, match=r"domain: unknown domain 'docs'; known: ui"):
        encode_prompt(own, family="seq2seq", **served, domain="docs")


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0, 2.5])
def test_domains_are_shown_by_weight(tokenizer: Tokenizer, weight: float) -> None:
    run = made(tokenizer, 3000, domain_weights={"ui": weight}, batch_tokens=10**6)
    counts = Counter(row for pool in map(run.pool, range(4)) for row in pool.shown.rows[:, 0].tolist())
    domain = [counts[row] for row in range(0, 3000, 3)]
    assert np.mean(domain) / 4 == pytest.approx(weight, abs=0.05)
    assert {counts[row] for row in range(3000) if row % 3} == {4}
    assert (run.fate(-(-run.batches * 3000 // run.rows)) == pools.NOT_DRAWN).sum() == pytest.approx(
        1000 * max(0.0, 1 - weight), abs=80
    )


def test_weights_of_one_change_nothing(tokenizer: Tokenizer) -> None:
    one, other = (made(tokenizer, 300, domain_weights=weights).pool(1) for weights in ({}, {"ui": 1.0}))
    np.testing.assert_array_equal(one.shown.rows, other.shown.rows)
    np.testing.assert_array_equal(one.shown.choices["flip"], other.shown.choices["flip"])
    assert one.cuts == other.cuts


def test_a_domain_that_is_not_there_is_refused(parallel: tuple[Path, Path], tokenizer: Tokenizer) -> None:
    config = CONFIG.model_copy(update={"domain_weights": {"docs": 0.5}})
    with pytest.raises(ExamplesError, match=r"training.domain_weights: no row is of docs; known: none"):
        next(Examples(parallel[0], tokenizer, NETWORK, config).train_batches())


def test_rows_that_no_draw_lets_fit_are_counted(tokenizer: Tokenizer) -> None:
    rows = [{"ru": "о" * length, "en": "o" * length} for length in range(1, 101)]
    tokens = tokenised(rows, tokenizer, FIELDS)
    run = Pools(tokens, Pairs(tokens, tokenizer, NETWORK, CONFIG, Draws(0)), CONFIG, NETWORK.max_positions)
    fate = run.fate(50 * run.batches)
    # Of 64 positions, the prompt takes two for <2xx> and </s>, and the answer one for its own end.
    assert (fate >= pools.TRAINED).tolist() == [length <= 62 for length in range(1, 101)]
    with pytest.raises(ExamplesError, match=r"no training row fits in max_positions=2 .*raise"):
        Pools(tokens, Pairs(tokens, tokenizer, NETWORK, CONFIG, Draws(0)), CONFIG, 2)


def test_windows_move_from_pass_to_pass_and_miss_nothing(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", "text")
    train_tokenizer(corpus, tmp_path / "t", TokenizerConfig(kind="char", vocab_size=400))
    tokenizer = load_tokenizer(tmp_path / "t")
    network = NetworkConfig(family="decoder", max_positions=16)
    rows = [{"text": "one two three four five six seven " * count} for count in range(5)]
    tokens, firsts = tokenised(rows, tokenizer, ["text"]), set()
    for draws in (None, Draws(0)):
        windows = Windows(tokens, tokenizer, network, draws)
        for turn in range(10):
            found = windows.show(Drawn(turn, np.arange(5), np.arange(5)))
            examples = [windows.example(found, place) for place in range(len(found.width))]
            assert [example.width for example in examples] == found.width.tolist()
            for row, record in enumerate(rows):
                own = [example for example, part in zip(examples, found.rows[:, 0], strict=True) if part == row]
                said = [token for example in own for token in example.answer]
                assert said == [*tokenizer.encode(record["text"]), tokenizer.eos_id]
                firsts.add((draws is None, own[0].width)) if row == 4 else None
    assert firsts >= {(True, 16)} and len(firsts) > 4


def test_validation_takes_no_chance(parallel: tuple[Path, Path], tokenizer: Tokenizer, tmp_path: Path) -> None:
    """The rows in turn in both directions, as they are: what evaluation measures, too."""
    corpus = write_corpus(tmp_path / "corpus")
    rows = [{"ru": "ещё", "en": "more", "author": "clerk", "domain": "ui"}] * 4
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (corpus / "valid.jsonl.zst").write_bytes(zstandard.compress(data))
    config = CONFIG.model_copy(update={"join_share": 1.0, "author_dropout": 1.0, "typed_share": 1.0})
    (batch,) = Examples(corpus, tokenizer, NETWORK, config).valid_batches()
    assert sorted(batch.rows) == [0, 1, 2, 3] and batch.source is not None
    for row, source in zip(batch.rows, batch.source.tolist(), strict=True):
        target, text = ("ru", "more") if row % 2 else ("en", "ещё")
        control = [tokenizer.control_id(f"<2{target}>"), tokenizer.control_id("<author:clerk>")]
        assert [token for token in source if token != tokenizer.pad_id] == [*control, *tokenizer.encode(text), 3]
