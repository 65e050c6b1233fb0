"""Beam search: against a plain one that shares no code with it, against all possible texts, among other requests."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.bundle import Bundle
from serving.engine import Engine, GenerationRequest
from serving.engine.beam import BeamSearch, continuations
from serving.errors import InvalidRequest
from tests.helpers.engines import CONFIG, Call, family_bundle, long_prompt, prompt, talkative_bundle
from tests.helpers.runner import Runner

WIDE = CONFIG.model_copy(update={"slots": 9})
TEXTS = ["кот cat", "абв", "hello", "", "мир и мир", "a b c d e f g", "собака спит дома"]


@pytest.fixture(scope="module", params=["seq2seq", "ssru"])
def bundle(request, tmp_path_factory):
    return family_bundle(tmp_path_factory.mktemp("bundles"), request.param)


@pytest.fixture(scope="module")
def engine(bundle):
    with Engine(bundle, WIDE) as engine:
        yield engine


# -- the search alone -------------------------------------------------------------------------------------------------


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())


def plain_beam_search(next_logits, beams, power, max_tokens, eos, forbidden=()):
    """``next_logits(tokens)`` -> logits [V]. The best (score, tokens, ended)."""
    live, pool = [(0.0, ())], []
    for length in range(1, max_tokens + 1):
        candidates = []
        for beam, (total, tokens) in enumerate(live):
            for token, value in enumerate(log_softmax(next_logits(tokens))):
                if token not in forbidden:
                    candidates.append((-(total + value), beam, token))
        candidates.sort()
        following = []
        for rank, (cost, beam, token) in enumerate(candidates[: 2 * beams]):
            if token != eos:
                following.append((-cost, (*live[beam][1], token)))
            elif rank < beams:
                pool.append((-cost / length**power, live[beam][1], True))
        live = following[:beams]
        if length == max_tokens:
            pool += [(total / length**power, tokens, False) for total, tokens in live]
        pool = sorted(pool, key=lambda hypothesis: -hypothesis[0])[:beams]
        if len(pool) == beams and pool[-1][0] >= live[0][0] / length**power:
            break
    return pool[0]


def searched(table, beams, power, max_tokens, eos):
    """Our search over a model whose logits depend on the last token alone, and on its place where ``table`` has one.

    ``table`` [V, V] or [T, V, V]. The best, and the number of steps.
    """
    request = GenerationRequest([1], beams=beams, length_penalty=power)
    search, last, steps = BeamSearch(request, max_tokens, eos, []), [0] * beams, 0
    while not search.done:
        now = table[steps] if table.ndim == 3 else table
        _, last = search.step(np.array([now[token] for token in last], np.float32))
        steps += 1
    return search.best, steps


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(2, 8), st.sampled_from([-1.0, 0.0, 0.6, 1.0, 2.0]), st.integers(1, 12),
    st.sampled_from([4, 5, 10, 30, 100]), st.sampled_from([0.5, 2.0]), st.sampled_from([0.0, 2.0]),
)  # fmt: skip
def test_it_is_the_plain_search(seed, beams, power, max_tokens, size, spread, ending):
    # Another table for each place: texts of the same steps in another order would be equally likely otherwise.
    table = np.random.default_rng(seed).normal(0, spread, (max_tokens, size, size)).astype(np.float32)
    table[:, :, 3] += ending
    best, _ = searched(table, beams, power, max_tokens, eos=3)
    score, tokens, ended = plain_beam_search(
        lambda t: table[len(t)][t[-1] if t else 0], beams, power, max_tokens, eos=3
    )
    assert (best.token_ids, best.ended) == (list(tokens), ended)
    assert best.score == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_wide_enough_it_finds_the_best_of_all_texts(seed):
    table = np.random.default_rng(seed).normal(0, 2, (3, 3)).astype(np.float32)
    texts = [t for n in range(4) for t in itertools.product([0, 1], repeat=n)]

    def total(tokens):
        path = [0, *tokens]
        return sum(log_softmax(table[a])[b] for a, b in itertools.pairwise(path))

    scores = {t: total([*t, 2] if len(t) < 3 else t) for t in texts}
    best, _ = searched(table, 8, 0.0, 3, eos=2)
    winner = max(scores, key=scores.__getitem__)
    assert tuple(best.token_ids) == winner
    assert best.score == pytest.approx(scores[winner], abs=1e-5)


def test_it_stops_when_no_beam_can_win():
    """After its first token this model is sure to end: nothing that goes on instead can come near."""
    table = np.full((6, 6), -30.0, np.float32)
    table[:, 3] = 0.0
    table[0] = [0, 0, 0, -30, 0, 0]
    best, steps = searched(table, 4, 0.0, 100, eos=3)
    assert best.ended and len(best.token_ids) == 1
    assert steps == 2


def test_one_finished_text_is_not_enough_while_a_longer_one_may_win():
    """The empty text is the likeliest at first, but 4 then 5 is sure once begun, and its length speaks for it."""
    table = np.full((6, 6), -12.0, np.float32)
    table[0, [3, 4, 5]] = np.log([0.4, 0.35, 0.25])
    table[4, 5] = table[5, 3] = 0.0
    best, _ = searched(table, 2, 1.0, 12, eos=3)
    assert best.token_ids == [4, 5]
    assert searched(table, 2, 0.0, 12, eos=3)[0].token_ids == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(2, 700), st.integers(0, 3))
def test_the_best_continuations_are_those_of_a_full_sort(seed, beams, size, decimals):
    random = np.random.default_rng(seed)
    logits = np.round(random.normal(0, 3, (beams, size)), decimals).astype(np.float32)  # rounded: many are equal
    logits[:, random.random(size) < 0.3] = -np.inf
    offsets = np.round(random.normal(-20, 5, beams), decimals)
    offsets[random.random(beams) < 0.2] = -np.inf
    count = min(2 * beams, beams * size)
    origins, tokens, values = continuations(logits, offsets, count)
    everything = (logits.astype(np.float64) + offsets[:, None]).ravel()
    order = np.argsort(-everything, kind="stable")[:count]
    np.testing.assert_array_equal(origins * size + tokens, order)
    np.testing.assert_array_equal(values, everything[order])


# -- through the engine -----------------------------------------------------------------------------------------------


def plain_model(bundle, ids, bos):
    """Logits after a beginning, each by a fresh run without cache or batch."""
    runner = Runner({name: bundle.graph(name) for name in ("encoder", "decoder")}, bundle.config)

    def next_logits(tokens):
        runner.start([ids], capacity=32)
        return runner.step(np.array([[bos, *tokens]], np.int64))[0]

    return next_logits


@pytest.mark.parametrize(("beams", "power"), [(2, 1.0), (3, 0.0), (5, 1.0), (8, 0.6), (4, -1.0), (4, 3.0)])
def test_the_engine_finds_what_a_plain_search_finds(engine, beams, power):
    tokenizer = engine.tokenizer
    forbidden = {i for i in range(len(tokenizer.control_tokens)) if i != tokenizer.eos_id}
    forbidden |= set(range(tokenizer.vocab_size, engine.bundle.vocab_size))
    found = set()
    for text in TEXTS:
        request = GenerationRequest(prompt(engine, text), 10, beams=beams, length_penalty=power)
        result = engine.generate([request])[0]
        model = plain_model(engine.bundle, request.prompt_ids, tokenizer.bos_id)
        score, tokens, ended = plain_beam_search(model, beams, power, 10, tokenizer.eos_id, forbidden)
        assert result.token_ids == list(tokens)
        assert result.finish_reason == ("eos_token" if ended else "length")
        assert result.score == pytest.approx(score, abs=1e-4)
        assert result.text == tokenizer.decode(result.token_ids)
        # and the score is the model's own opinion of the whole text
        target = [*result.token_ids, tokenizer.eos_id] if ended else result.token_ids
        nats = engine.score([request.prompt_ids], [target])[0]
        assert result.score == pytest.approx(-nats / len(target) ** power, abs=1e-4)
        found.add((ended, tokens))
    assert len(found) > 1  # the texts are not all alike


def test_more_beams_never_lose_to_greedy_in_the_engines_own_score(engine):
    better = 0
    for text in TEXTS:
        greedy, wide = (
            engine.generate([GenerationRequest(prompt(engine, text), 10, beams=beams, length_penalty=0.0)])[0]
            for beams in (1, 8)
        )
        ended = greedy.finish_reason == "eos_token"
        target = [*greedy.token_ids, engine.tokenizer.eos_id] if ended else greedy.token_ids
        nats = engine.score([prompt(engine, text)], [target])[0]
        assert wide.score >= -nats - 1e-4
        better += wide.score > -nats + 1e-4
    assert better


def test_one_beam_is_greedy_whatever_the_length_penalty(engine):
    request = GenerationRequest(prompt(engine, "кот"), 20)
    one, greedy = engine.generate([replace(request, beams=1, length_penalty=3.0), request])
    assert one.token_ids == greedy.token_ids
    assert one.score is None


def test_a_higher_length_penalty_asks_for_longer_texts(engine):
    def length(power):
        requests = [GenerationRequest(prompt(engine, text), 30, beams=6, length_penalty=power) for text in TEXTS]
        return sum(result.generated_tokens for result in engine.generate(requests))

    assert length(-3.0) < length(1.0) < length(4.0)


def test_penalties_reach_every_beam(engine):
    requests = [
        GenerationRequest(prompt(engine, text), 20, beams=3, frequency_penalty=penalty, repetition_penalty=1 + penalty)
        for penalty in (0.0, 1.5)
        for text in TEXTS
    ]
    results = engine.generate(requests)
    repeats = [sum(len(r.token_ids) - len(set(r.token_ids)) for r in half) for half in (results[:7], results[7:])]
    assert repeats[1] < repeats[0] / 2


def test_a_stop_string_cuts_the_best_text_at_its_end(engine):
    request = GenerationRequest(prompt(engine, "кот cat"), 30, beams=4, length_penalty=3.0)
    whole = engine.generate([request])[0]
    stop = next(whole.text[i : i + 2] for i in range(1, 20) if "\ufffd" not in whole.text[i : i + 2])
    call = Call(engine, replace(request, stop=("never", stop)))
    assert call.result.finish_reason == "stop_sequence"
    assert call.result.text == whole.text[: whole.text.find(stop)]
    assert call.result.token_ids == whole.token_ids[: len(call.result.token_ids)]
    assert engine.tokenizer.decode(call.result.token_ids).startswith(call.result.text + stop)


def test_a_stream_tells_a_beam_searchs_text_once(engine):
    before = engine.stats()["generated_tokens"]
    call = Call(engine, GenerationRequest(prompt(engine, "кот cat"), 12, beams=3))
    assert call.result.text
    (event,) = call.events
    assert (event.text, event.token_id) == (call.result.text, None)
    assert event.generated_tokens == call.result.generated_tokens == len(call.result.token_ids)
    assert engine.stats()["generated_tokens"] - before == call.result.generated_tokens


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("beams", {"temperature": 0.5}, "draws nothing: set temperature to 0"),
        ("logprobs", {"logprobs": 0}, "not told by a beam search"),
    ],
)
def test_what_does_not_go_with_beams_is_refused(engine, field, change, message):
    with pytest.raises(InvalidRequest, match=f"^{field}: .*{message}"):
        engine.submit(replace(GenerationRequest(prompt(engine), beams=2), **change), print)


def test_more_beams_than_slots_and_beams_without_an_encoder_are_refused(bundle, tmp_path):
    engine = Engine(bundle, CONFIG.model_copy(update={"slots": 3}))
    assert engine.limits.beams == 3
    with pytest.raises(InvalidRequest, match=r"^beams: 4 beams do not fit, this server has 3 slots"):
        engine.submit(GenerationRequest(prompt(engine), beams=4), print)
    decoder = Engine(Bundle.load(talkative_bundle(tmp_path / "decoder", "decoder", 2)), CONFIG)
    with pytest.raises(InvalidRequest, match=r"^beams: beam search is not offered for this model"):
        decoder.submit(GenerationRequest(prompt(decoder), beams=2), print)


def test_a_wide_search_waits_for_its_slots_and_is_not_overtaken(bundle):
    with Engine(bundle, CONFIG.model_copy(update={"slots": 4})) as engine:
        request = long_prompt(engine)
        calls = []

        def submit_rest(call):
            if len(call.events) == 1 and not calls:
                calls.append(Call(engine, GenerationRequest(prompt(engine, "абв"), 8, beams=4)))
                calls.extend(Call(engine, replace(request, max_tokens=2, seed=i)) for i in range(6))

        first = Call(engine, replace(request, max_tokens=15), submit_rest)
        assert first.result.generated_tokens == 15
        wide, *later = calls
        assert (
            wide.result.token_ids
            == engine.generate([GenerationRequest(prompt(engine, "абв"), 8, beams=4)])[0].token_ids
        )
        assert first.events[-1].time <= wide.admitted <= min(call.admitted for call in later)
        assert engine.stats()["slots_used"] == 0


def test_cancelling_a_search_frees_all_its_slots(engine):
    expected = engine.generate([long_prompt(engine)])[0].token_ids
    searches = []

    def on_token(call):
        if len(call.events) == 2:
            searches.append(Call(engine, GenerationRequest(prompt(engine, "мир"), 60, beams=5, length_penalty=5.0)))
        if len(call.events) == 6:
            assert engine.stats()["slots_used"] == 6 and engine.stats()["running"] == 2
            searches[0].cancel()
        if len(call.events) == 8:
            assert engine.stats()["slots_used"] == engine.stats()["running"] == 1

    call = Call(engine, long_prompt(engine), on_token)
    assert call.result.token_ids == expected
    assert call.result.finish_reason == "length"
    assert searches[0].result.finish_reason == "cancelled"
    assert searches[0].result.text == ""
