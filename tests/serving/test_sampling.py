"""Sampling: against a plain re-implementation over the whole vocabulary, and against what the words promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving.engine.generation import GenerationRequest
from serving.engine.sampling import SamplingState, candidates, draw, most_likely, penalize

SIZE = 700  # larger than the 64 and 512 that top-p looks at first


def logits(seed: int, spread: float = 3.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(SIZE) * spread).astype(np.float32)


def plain(values: np.ndarray, temperature: float, top_k: int, top_p: float, min_p: float) -> np.ndarray:
    """Probabilities by sorting everything, one filter after another; float32 first, so that ties are the same ties."""
    x = (values - values.max()) * np.float32(1 / temperature)
    if top_k:
        x[x < np.sort(x)[-min(top_k, len(x))]] = -np.inf
    p = np.exp(x).astype(np.float64)
    p /= p.sum()
    if top_p < 1:
        order = np.argsort(-values, kind="stable")  # of logits that differ in their last bit, probabilities may not
        before = np.cumsum(p[order]) - p[order]
        p[order[before >= top_p]] = 0
    p[p < min_p * p.max()] = 0
    return p / p.sum()


def ours(values: np.ndarray, *settings: float) -> np.ndarray:
    ids, weights = candidates(values, *settings)  # type: ignore[arg-type]
    p = np.zeros(len(values))
    p[np.arange(len(values)) if ids is None else ids] = weights
    return p / p.sum()


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    spread=st.sampled_from([0.01, 1.0, 8.0]),
    temperature=st.sampled_from([0.1, 0.7, 1.0, 3.0]),
    top_k=st.sampled_from([0, 1, 5, 300, SIZE, 10_000]),
    top_p=st.sampled_from([1e-300, 0.001, 0.3, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 1.0]),
)
@example(seed=391, spread=0.01, temperature=0.1, top_k=0, top_p=1e-300, min_p=0.0)
def test_probabilities_equal_the_plain_way(seed, spread, temperature, top_k, top_p, min_p):
    values = logits(seed, spread)
    expected = plain(values, temperature, top_k, top_p, min_p)
    found = ours(values, temperature, top_k, top_p, min_p)
    # The cut of top-p may fall on the other side of a token when its running sum is top_p to the last bit.
    assert abs(np.count_nonzero(found > 1e-30) - np.count_nonzero(expected > 1e-30)) <= (top_p < 1)
    np.testing.assert_allclose(found, expected, atol=1e-6 if top_p == 1 else 5e-3)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([1, 2, 130, 8000]),
    spread=st.sampled_from([0.0, 1.0, 1e20]),
    request=st.builds(
        GenerationRequest,
        st.just([1]),
        temperature=st.sampled_from([5e-324, 1e-300, 1e-6, 1.0, 10.0]),
        top_k=st.sampled_from([0, 1, 7, 2**31 - 1]),
        top_p=st.sampled_from([5e-324, 1e-40, 0.5, 1 - 2**-53, 1.0]),
        min_p=st.sampled_from([0.0, 5e-324, 0.5, 1.0]),
        repetition_penalty=st.sampled_from([0.01, 0.5, 1.0, 10.0]),
        frequency_penalty=st.sampled_from([-2.0, 0.0, 2.0]),
        seed=st.just(1),
    ),
)
def test_whatever_is_admitted_draws_an_allowed_token(seed, size, spread, request):
    random = np.random.default_rng(seed)
    state = SamplingState(request, size, np.arange(size // 2))
    for _ in range(3):
        values = (random.standard_normal(size) * spread).astype(np.float32)
        values[1::2] = -np.inf
        assert state.sample(values) % 2 == 0


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 3000), st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, 0.5, 0.999])
)
def test_a_draw_is_the_place_in_the_running_sum(seed, size, point, empty):
    random = np.random.default_rng(seed)
    weights = random.random(size, np.float32) ** 8
    weights[random.random(size) < empty] = 0
    weights[random.integers(size)] = 1
    found = draw(weights, point)
    assert weights[found] > 0
    sums = np.cumsum(weights, dtype=np.float64) / weights.sum(dtype=np.float64)
    before = sums[found - 1] if found else 0
    assert before - 1e-5 <= point <= sums[found] + 1e-5
    assert weights[draw(weights, 1 - 2**-53)] > 0


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5000), st.integers(1, 300), st.sampled_from([0, 2, 6]))
def test_the_likeliest_are_those_of_a_full_stable_sort(seed, size, count, decimals):
    values = np.round(np.random.default_rng(seed).standard_normal(size) * 3, decimals).astype(np.float32)
    values[np.random.default_rng(seed + 1).random(size) < 0.2] = -np.inf
    values += 0.0  # no -0.0, which a sort by bits would put below 0.0
    np.testing.assert_array_equal(most_likely(values, count), np.argsort(-values, kind="stable")[:count])


def test_draws_follow_the_probabilities():
    values = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    state = SamplingState(GenerationRequest([1], temperature=1.0, seed=3), 4)
    counts = np.bincount([state.sample(values.copy()) for _ in range(8000)], minlength=4) / 8000
    np.testing.assert_allclose(counts, [0.5, 0.3, 0.15, 0.05], atol=0.02)


@pytest.mark.parametrize("settings", [{}, {"top_k": 20}, {"top_p": 0.8}, {"min_p": 0.02}, {"top_k": 9, "top_p": 0.5}])
def test_seed_decides_and_forbidden_tokens_never_come(settings):
    def draw(seed):
        state = SamplingState(GenerationRequest([1], temperature=1.5, seed=seed, **settings), SIZE)
        tokens = []
        for step in range(40):
            values = logits(step, 1.0)
            values[::2] = -np.inf
            tokens.append(state.sample(values))
        return tokens

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    assert all(token % 2 for token in draw(9))


def test_a_tiny_temperature_is_greedy_and_does_not_overflow():
    values = logits(0, 50.0)
    state = SamplingState(GenerationRequest([1], temperature=1e-8, seed=0), SIZE)
    with np.errstate(over="raise", invalid="raise"):
        assert {state.sample(values.copy()) for _ in range(20)} == {int(values.argmax())}


def test_penalty_divides_positive_and_multiplies_negative_logits():
    values = np.array([2.0, -2.0, 1.0, -np.inf], np.float32)
    penalize(values, np.array([0, 1, 3]), 2.0)
    assert values.tolist() == [1.0, -4.0, 1.0, -np.inf]


def test_a_frequency_penalty_counts_generated_tokens_alone():
    values = np.array([3.0, 2.9, 2.8, 0.0], np.float32)
    request = GenerationRequest([0], frequency_penalty=0.15)
    state = SamplingState(request, 4, np.array([0, 0, 0]))
    assert [state.sample(values.copy()) for _ in range(6)] == [0, 1, 0, 2, 1, 0]
    penalize(values, np.array([0, 3]), 1.0, np.array([2, 1]), -0.5)
    np.testing.assert_allclose(values, [4.0, 2.9, 2.8, 0.5], rtol=1e-6)


def test_repetition_penalty_counts_the_prompt_and_every_token():
    values = np.array([3.0, 2.9, 2.8, 0.0], np.float32)
    request = GenerationRequest([0], repetition_penalty=1.5)
    state = SamplingState(request, 4, np.array([0]))
    assert [state.sample(values.copy()) for _ in range(3)] == [1, 2, 0]
    assert SamplingState(request, 4).sample(values.copy()) == 0
