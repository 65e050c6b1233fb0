"""Sampling: against a plain re-implementation over the whole vocabulary, and against what the words promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engine.request import GenerationRequest
from serving.engine.sampling import Sampler, candidates, penalize

SIZE = 700  # larger than the 256 that top-p looks at first


def logits(seed: int, spread: float = 3.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(SIZE) * spread).astype(np.float32)


def plain(values: np.ndarray, temperature: float, top_k: int, top_p: float, min_p: float) -> np.ndarray:
    """Probabilities by sorting everything, one filter after another."""
    x = values.astype(np.float64) / temperature
    if top_k:
        x[x < np.sort(x)[-min(top_k, len(x))]] = -np.inf
    p = np.exp(x - x.max())
    p /= p.sum()
    if top_p < 1:
        order = np.argsort(-p, kind="stable")
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
    top_p=st.sampled_from([0.001, 0.3, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 1.0]),
)
def test_probabilities_equal_the_plain_way(seed, spread, temperature, top_k, top_p, min_p):
    values = logits(seed, spread)
    expected = plain(values, temperature, top_k, top_p, min_p)
    found = ours(values, temperature, top_k, top_p, min_p)
    # The cut of top-p may fall on the other side of a token when its running sum is top_p to the last bit.
    assert abs(np.count_nonzero(found) - np.count_nonzero(expected)) <= (top_p < 1)
    np.testing.assert_allclose(found, expected, atol=1e-9 if top_p == 1 else 5e-3)


def test_draws_follow_the_probabilities():
    values = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    sampler = Sampler(GenerationRequest([1], temperature=1.0, seed=3), 4)
    counts = np.bincount([sampler.choose(values.copy()) for _ in range(8000)], minlength=4) / 8000
    np.testing.assert_allclose(counts, [0.5, 0.3, 0.15, 0.05], atol=0.02)


@pytest.mark.parametrize("settings", [{}, {"top_k": 20}, {"top_p": 0.8}, {"min_p": 0.02}, {"top_k": 9, "top_p": 0.5}])
def test_seed_decides_and_forbidden_tokens_never_come(settings):
    def draw(seed):
        sampler = Sampler(GenerationRequest([1], temperature=1.5, seed=seed, **settings), SIZE)
        tokens = []
        for step in range(40):
            values = logits(step, 1.0)
            values[::2] = -np.inf
            tokens.append(sampler.choose(values))
        return tokens

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    assert all(token % 2 for token in draw(9))


def test_a_tiny_temperature_is_greedy_and_does_not_overflow():
    values = logits(0, 50.0)
    sampler = Sampler(GenerationRequest([1], temperature=1e-8, seed=0), SIZE)
    with np.errstate(over="raise", invalid="raise"):
        assert {sampler.choose(values.copy()) for _ in range(20)} == {int(values.argmax())}


def test_penalty_divides_positive_and_multiplies_negative_logits():
    values = np.array([2.0, -2.0, 1.0, -np.inf], np.float32)
    penalize(values, np.array([0, 1, 3]), 2.0)
    assert values.tolist() == [1.0, -4.0, 1.0, -np.inf]


def test_repetition_penalty_counts_the_prompt_and_every_token():
    values = np.array([3.0, 2.9, 2.8, 0.0], np.float32)
    request = GenerationRequest([0], repetition_penalty=1.5)
    sampler = Sampler(request, 4, np.array([0]))
    assert [sampler.choose(values.copy()) for _ in range(3)] == [1, 2, 0]
    assert Sampler(request, 4).choose(values.copy()) == 0
