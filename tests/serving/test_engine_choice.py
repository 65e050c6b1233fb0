"""Log-probabilities, penalties, samples of one request, and prompts that are run once for several."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.agreement import agreement
from serving.engine import Engine, GenerationRequest
from tests.helpers.engines import CONFIG, Call, prompt


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 1.5, "seed": 3, "top_k": 40}, {"repetition_penalty": 1.2, "frequency_penalty": -1.5}],
)
def test_logprobs_are_the_models_own_whatever_chose_the_token(engine, settings):
    ids = prompt(engine, "кот cat")
    request = GenerationRequest(ids, 12, **settings)
    call = Call(engine, replace(request, logprobs=4))
    result = call.result
    assert result.token_ids == engine.generate([request])[0].token_ids
    assert [entry.token_id for entry in result.logprobs] == result.token_ids
    # a target's cost is the sum over its tokens, so the costs of growing targets tell each token's
    targets = [result.token_ids[:n] for n in range(len(result.token_ids) + 1)]
    costs = np.diff(engine.score([ids] * len(targets), targets))
    np.testing.assert_allclose([entry.logprob for entry in result.logprobs], -costs, atol=1e-6)
    for entry in result.logprobs:
        values = [value for _, value in entry.top]
        assert len(values) == 4 and values == sorted(values, reverse=True)
        assert entry.logprob <= values[0] + 1e-12
        assert dict(entry.top).get(entry.token_id, entry.logprob) == entry.logprob
        assert not {i for i, _ in entry.top} & (set(range(8)) - {engine.tokenizer.eos_id})
    if not settings:
        assert all(entry.top[0] == (entry.token_id, entry.logprob) for entry in result.logprobs)
    told = [event.logprobs for event in call.events if event.token_id is not None]
    assert told == result.logprobs


def test_the_last_event_tells_the_end_of_sequence_tokens_logprob(engine):
    ended = 0
    for seed in range(30):
        call = Call(engine, GenerationRequest(prompt(engine), 30, temperature=2.0, seed=seed, logprobs=2))
        result, last = call.result, call.events[-1]
        assert len(result.logprobs) == len(result.token_ids)
        if result.finish_reason == "eos_token":
            eos = engine.tokenizer.eos_id
            assert last.token_id is None and last.logprobs.token_id == eos and len(last.logprobs.top) == 2
            whole = engine.score([prompt(engine)], [[*result.token_ids, eos]])[0]
            told = sum(entry.logprob for entry in result.logprobs) + last.logprobs.logprob
            assert told == pytest.approx(-whole, abs=1e-5)
            ended += 1
    assert ended


def test_the_alternatives_are_the_highest_of_all(engine):
    ids = prompt(engine, "абв")
    (entry,) = engine.generate([GenerationRequest(ids, 1, logprobs=5, temperature=1.0, seed=1, top_p=0.5)])[0].logprobs
    allowed = [engine.tokenizer.eos_id, *range(8, engine.tokenizer.vocab_size)]
    costs = engine.score([ids] * len(allowed), [[i] for i in allowed])
    order = np.argsort(costs)[:5]
    assert [i for i, _ in entry.top] == [allowed[i] for i in order]
    np.testing.assert_allclose([value for _, value in entry.top], [-costs[i] for i in order], atol=1e-9)


def test_no_logprobs_unless_asked_and_none_but_the_tokens_own_for_zero(engine):
    request = GenerationRequest(prompt(engine), 3, temperature=2.0, seed=1)
    call = Call(engine, request)
    assert call.result.logprobs is None and {event.logprobs for event in call.events} == {None}
    result = engine.generate([replace(request, logprobs=0)])[0]
    assert result.token_ids == call.result.token_ids
    assert [(entry.token_id, entry.top) for entry in result.logprobs] == [(i, ()) for i in result.token_ids]


def test_a_frequency_penalty_wears_words_out_and_a_negative_one_wears_them_in(engine):
    def distinct(penalty):
        requests = [
            GenerationRequest(prompt(engine, text), 20, frequency_penalty=penalty) for text in ("кот", "abc", "а б в")
        ]
        results = engine.generate(requests)
        return sum(len(set(r.token_ids)) for r in results) / sum(len(r.token_ids) for r in results)

    assert distinct(-2.0) < distinct(0.0) < distinct(2.0)


def test_token_bytes_join_to_the_text(engine):
    result = engine.generate([GenerationRequest(prompt(engine), 30, temperature=3.0, seed=4)])[0]
    text = b"".join(map(engine.token_bytes, result.token_ids)).decode("utf-8", "replace")
    assert text.removeprefix(" ") == result.text.removeprefix(" ")


# -- samples and shared prompts ---------------------------------------------------------------------------------------


def test_seeds_of_samples_are_fixed_for_ever():
    """A stored seed has to give the same samples after an update."""

    def seeds(seed: int, count: int) -> list[int]:
        return [sample.seed for sample in GenerationRequest([1], seed=seed).samples(count)]

    assert seeds(7, 3) == [7, 3317731564112288844, 9139555415570476218]
    found = {sample for seed in range(40) for sample in seeds(seed, 8)}
    assert len(found) == 320 and all(0 <= seed < 2**63 for seed in found)
    assert all(seed < 2**63 for seed in seeds(2**63 - 1, 6))
    assert GenerationRequest([1]).samples(3) == [GenerationRequest([1])] * 3


def test_a_sample_is_what_a_request_of_its_seed_gives_and_the_prompt_runs_once(bundle):
    engine = Engine(bundle, CONFIG)
    request = GenerationRequest(prompt(engine, "кот cat"), 15, temperature=1.5, seed=11)
    calls = [Call(engine, sample) for sample in request.samples(4)]
    engine.start()
    together = [call.result.token_ids for call in calls]
    stats = engine.stats()
    assert (stats["prefills"], stats["prompt_copies"]) == (1, 3)
    assert stats["prompt_tokens"] == 4 * len(request.prompt_ids)
    alone = [engine.generate([sample])[0].token_ids for sample in request.samples(4)]
    assert together == alone
    assert len(set(map(tuple, alone))) == 4
    assert [r.token_ids for r in engine.generate(request.samples(9))][:4] == alone  # more of them, in fewer slots
    engine.close()


def test_a_prompt_is_copied_from_a_request_that_has_gone_on_long_since(engine):
    """The copy must not see what its donor has said; and when the donor has left, the prompt is run again."""
    request = GenerationRequest(prompt(engine, "абв cab"), 25, temperature=2.0, seed=1)
    expected = [engine.generate([replace(request, seed=seed)])[0].token_ids for seed in range(40)]
    seeds = [seed for seed in range(40) if len(expected[seed]) > 12]
    assert len(seeds) > 3, "too few seeds give a text of 12 tokens"
    before, late = engine.stats(), []

    def on_token(call):
        if len(call.events) == 10:
            late.append(Call(engine, replace(request, seed=seeds[1])))

    first = Call(engine, replace(request, seed=seeds[0]), on_token)
    assert first.result.token_ids == expected[seeds[0]]
    assert late[0].result.token_ids == expected[seeds[1]]
    after = engine.stats()
    assert after["prompt_copies"] - before["prompt_copies"] == after["prefills"] - before["prefills"] == 1
    assert engine.generate([replace(request, seed=seeds[2])])[0].token_ids == expected[seeds[2]]
    assert engine.stats()["prefills"] == after["prefills"] + 1


def test_agreement_is_whole_in_fp32(engine):
    prompts = [prompt(engine, text) for text in ("кот", "cat", "абв abc", "мир", "дом и лес")]
    found = agreement(engine, prompts, max_tokens=20)
    assert (found["requests"], found["identical"], found["differing"]) == (5, 5, [])
    assert found["same_tokens"] == found["tokens"] > 20
