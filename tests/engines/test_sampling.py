"""Tokens are drawn as the probabilities, and what is asked of them, say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engines.generation import Sampling
from agent.engines.sampling import GREEDY, Sampler, candidates, greedy, likeliest

LOGITS = np.log(np.array([0.5, 0.25, 0.15, 0.06, 0.04], np.float32))


def drawn(sampling: Sampling, logits: np.ndarray = LOGITS, count: int = 4000) -> np.ndarray:
    """Shares of the tokens among many that are drawn."""
    sampler = Sampler(sampling)
    tokens = [sampler.choose(logits) for _ in range(count)]
    return np.bincount(tokens, minlength=len(logits)) / count


def test_tokens_come_as_often_as_their_probabilities_say() -> None:
    np.testing.assert_allclose(drawn(Sampling(seed=1)), np.exp(LOGITS), atol=0.03)


def test_a_temperature_sharpens_and_flattens() -> None:
    for temperature in (0.5, 2.0):
        expected = np.exp(LOGITS / temperature)
        expected /= expected.sum()
        found = drawn(Sampling(temperature=temperature, seed=2))
        np.testing.assert_allclose(found, expected, atol=0.03)


def test_temperature_zero_takes_the_likeliest() -> None:
    assert Sampler(Sampling(temperature=0)).choose(LOGITS) == 0


def test_top_k_and_top_p_leave_the_unlikely_out() -> None:
    assert np.flatnonzero(drawn(Sampling(top_k=2, seed=3))).tolist() == [0, 1]
    assert np.flatnonzero(drawn(Sampling(top_p=0.74, seed=3))).tolist() == [0, 1]
    assert np.flatnonzero(drawn(Sampling(top_p=0.76, seed=3))).tolist() == [0, 1, 2]
    assert np.flatnonzero(drawn(Sampling(top_p=0.01, seed=3))).tolist() == [0]


@given(
    st.lists(st.floats(-60, 60, width=32), min_size=1, max_size=300),
    st.floats(0.05, 5),
    st.floats(0.01, 1),
    st.integers(0, 400),
)
def test_the_nucleus_is_the_smallest_that_is_large_enough(
    values: list[float], temperature: float, top_p: float, top_k: int
) -> None:
    logits = np.array(values, np.float32)
    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k)
    ids, weights = candidates(logits, sampling)
    ids = np.arange(len(logits)) if ids is None else ids
    kept = min(top_k or len(logits), len(logits))
    assert 1 <= len(ids) <= kept
    assert len(set(ids.tolist())) == len(ids)
    assert logits[ids].max() == logits.max()
    if len(ids) < kept:  # what was left out is no likelier than what was kept
        left = np.delete(logits, ids)
        assert left.max() <= logits[ids].min() + 1e-6
    assert np.isfinite(weights).all()


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=50),
    st.builds(
        Sampling,
        temperature=st.one_of(st.floats(0, 100), st.floats(0, 1e-4), st.just(1e-50)),
        top_p=st.floats(0, 1, exclude_min=True),
        top_k=st.integers(0, 2**31 - 1),
        repetition_penalty=st.floats(0.01, 100),
        frequency_penalty=st.floats(-2, 2),
        presence_penalty=st.floats(-2, 2),
        seed=st.integers(0, 2**63 - 1),
    ),
)
@pytest.mark.filterwarnings("error")
def test_probabilities_are_finite_and_add_up_whatever_the_settings(
    values: list[float], sampling: Sampling
) -> None:
    logits = np.array(values, np.float32)
    if not greedy(sampling):
        _, weights = candidates(logits, sampling)
        probabilities = weights / weights.sum(dtype=np.float64)
        assert np.isfinite(probabilities).all()
        assert probabilities.sum() == pytest.approx(1)
    sampler = Sampler(sampling, [0])
    assert all(0 <= sampler.choose(logits) < len(logits) for _ in range(5))


def test_a_temperature_next_to_nothing_takes_the_likeliest() -> None:
    for temperature in (1e-50, GREEDY / 2, 2 * GREEDY):
        assert Sampler(Sampling(temperature=temperature)).choose(LOGITS) == 0


def test_a_flat_distribution_is_cut_as_exactly_as_a_steep_one() -> None:
    ids, _ = candidates(np.zeros(1000, np.float32), Sampling(top_p=0.5))
    assert ids is not None
    assert len(ids) in (500, 501)


def test_the_unlikely_tail_counts_towards_top_p() -> None:
    """Many tokens far below the likeliest can hold most of the probability."""
    logits = np.concatenate([[0.0], np.full(200_000, -9.0)]).astype(np.float32)
    ids, _ = candidates(logits, Sampling(top_p=0.5))
    assert ids is not None
    assert len(ids) > 90_000


def test_a_repetition_penalty_counts_the_prompt() -> None:
    logits = np.array([2.0, 1.9, -1.0], np.float32)
    assert Sampler(Sampling(temperature=0), [0]).choose(logits) == 0
    assert Sampler(Sampling(temperature=0, repetition_penalty=1.5), [0]).choose(logits) == 1
    np.testing.assert_array_equal(logits, np.array([2.0, 1.9, -1.0], np.float32))


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(temperature=0), [0, 0, 0, 0]),
        (Sampling(temperature=0, presence_penalty=0.3), [0, 1, 0, 0]),
        (Sampling(temperature=0, frequency_penalty=0.3), [0, 1, 0, 1]),
    ],
)
def test_penalties_count_the_answer(sampling: Sampling, expected: list[int]) -> None:
    logits = np.array([1.0, 0.8, -5.0], np.float32)
    sampler = Sampler(sampling)
    assert [sampler.choose(logits) for _ in expected] == expected


def test_log_probabilities_are_before_temperature_and_add_up() -> None:
    logprob, top = likeliest(LOGITS + 3, 2, 5)
    assert logprob == pytest.approx(np.log(0.15), abs=1e-5)
    assert [token for token, _ in top] == [0, 1, 2, 3, 4]
    assert sum(np.exp(value) for _, value in top) == pytest.approx(1.0, abs=1e-5)
