"""Choosing the next token."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precision.formats.minifloat import Float32s
from workers.engine import Sampling
from workers.engines.reference.sampling import choose, logprobs


def logits(*numbers: float) -> Float32s:
    return np.array(numbers, dtype=np.float32)


def noise(seed: int, size: int = 2000) -> Float32s:
    return np.random.default_rng(seed).standard_normal(size, dtype=np.float32) * np.float32(3)


def drawn(values: Float32s, sampling: Sampling, count: int = 2000) -> dict[int, int]:
    tokens = [choose(values, sampling, place) for place in range(count)]
    return {token: tokens.count(token) for token in sorted(set(tokens))}


def test_greedy_takes_the_best_and_the_lower_id_in_a_tie() -> None:
    assert choose(logits(1, 3, 3, 2), Sampling(1, temperature=0), 5) == 1


def test_the_choice_depends_on_seed_and_place_alone() -> None:
    values = noise(1)
    sampling = Sampling(1, temperature=1.3, seed=2**64 - 1)
    alone = {place: choose(values, sampling, place) for place in range(50)}
    assert {place: choose(values, sampling, place) for place in reversed(range(50))} == alone
    assert len(set(alone.values())) > 20
    other = Sampling(1, temperature=1.3, seed=7)
    assert [choose(values, other, place) for place in range(50)] != list(alone.values())


def test_tokens_are_drawn_in_proportion_to_their_probability() -> None:
    values = logits(*(math.log(p) for p in (0.5, 0.3, 0.2)))
    for temperature in (1.0, 2.0):
        weights = np.array([0.5, 0.3, 0.2]) ** (1 / temperature)
        counts = drawn(values, Sampling(1, temperature))
        for token, expected in enumerate(weights / weights.sum()):
            assert abs(counts[token] / 2000 - expected) < 0.04


def test_top_k_and_top_p_cut() -> None:
    values = logits(*(math.log(p) for p in (0.1, 0.4, 0.2, 0.3)))
    assert set(drawn(values, Sampling(1, 1.0, top_k=2), 200)) == {1, 3}
    assert set(drawn(values, Sampling(1, 1.0, top_p=0.65), 200)) == {1, 3}
    assert set(drawn(values, Sampling(1, 1.0, top_p=0.75), 200)) == {1, 2, 3}
    assert set(drawn(values, Sampling(1, 1.0, top_p=1e-6), 200)) == {1}
    assert set(drawn(values, Sampling(1, 1.0, top_k=1000), 500)) == {0, 1, 2, 3}
    # top_p is a share of what top_k left: 0.4 of 0.7 is over a half.
    assert set(drawn(values, Sampling(1, 1.0, top_k=2, top_p=0.5), 200)) == {1}


def test_top_k_takes_lower_ids_among_equals() -> None:
    assert set(drawn(logits(*[1.0] * 10), Sampling(1, 1.0, top_k=3), 200)) == {0, 1, 2}


@pytest.mark.parametrize("temperature", [0.01, 1.0, 2.0])
def test_a_nucleus_larger_than_the_first_candidates(temperature: float) -> None:
    # With 5,000 nearly equal tokens, 90 % of them are far more than are sorted at first.
    values = noise(3, 5000) * np.float32(0.01)
    ids = set(drawn(values, Sampling(1, temperature, top_p=0.9), 200))
    order = np.argsort(-values, kind="stable")
    shares = np.exp(values[order].astype(np.float64) / temperature)
    inside = int((np.cumsum(shares) < 0.9 * shares.sum()).sum()) + 1
    assert ids <= set(order[:inside].tolist())


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**64 - 1),
    st.floats(2.0**-100, 2, width=32),
    st.floats(0.01, 1),
    st.integers(0, 50),
    st.integers(0, 9999),
)
def test_any_parameters_give_a_token(seed: int, temperature: float, top_p: float, top_k: int, place: int) -> None:
    values = noise(4, 600)
    token = choose(values, Sampling(1, temperature, top_p, top_k, seed), place)
    assert 0 <= token < 600
    if top_k:
        assert token in np.argsort(-values, kind="stable")[:top_k]


def test_logprobs_are_those_of_the_model_itself() -> None:
    values = logits(*(math.log(p) for p in (0.1, 0.6, 0.3)))
    got = logprobs(values, token=2, top=2)
    assert got.logprob == pytest.approx(math.log(0.3), abs=1e-6)
    assert [token for token, _ in got.top] == [1, 2]
    assert [value for _, value in got.top] == pytest.approx([math.log(0.6), math.log(0.3)], abs=1e-6)
    assert logprobs(values, token=0, top=0).top == ()
