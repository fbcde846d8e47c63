"""What is normal: robust, joint, slowly following, and sound for every shape of past."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agent.tasks.anomaly.baseline import Baseline, Views, trailing_mean

SMOOTH = 16


def learn(values: np.ndarray) -> Baseline:
    return Baseline.learn(values, SMOOTH)


def past(seed: int = 0, rows: int = 400, sensors: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, sensors)) * [1, 10, 100][:sensors] + 50


def test_the_trailing_mean_is_the_mean() -> None:
    values = past()
    expected = [values[i : i + 23].mean(axis=0) for i in range(len(values) - 22)]
    np.testing.assert_allclose(trailing_mean(values, 23), expected)


@given(st.integers(1, 40), st.integers(0, 50))
def test_the_trailing_mean_does_not_depend_on_its_neighbours(rows: int, at: int) -> None:
    values = past(rows=100)
    alone = trailing_mean(values[at : at + rows], rows)
    assert (trailing_mean(values, rows)[at : at + 1] == alone).all()


def test_outliers_in_the_past_do_not_widen_the_scale() -> None:
    values = past()
    spoiled = values.copy()
    spoiled[::50] += 1e6
    assert learn(spoiled).scale[0] < 1.5 * learn(values).scale[0]


def test_healthy_views_stay_small_and_a_shift_does_not() -> None:
    views = Views(learn(past()), SMOOTH)
    fresh = past(1)
    healthy = np.abs(views.of(views.means(fresh)))
    fresh[200:, 1] += 30  # three standard deviations of a row
    shifted = np.abs(views.of(views.means(fresh)))[230:]
    assert healthy.mean() < 2
    assert shifted[:, 1, 0].mean() > 5
    assert shifted[:, 0, 0].mean() < 3


def test_a_common_cause_moves_levels_and_hardly_residuals() -> None:
    random = np.random.default_rng(3)
    load = np.cumsum(random.normal(size=800)) / 5
    values = np.stack((load, 2 * load, -load), axis=1) + 0.1 * random.normal(size=(800, 3))
    views = Views(learn(values[:400]), SMOOTH)
    found = np.abs(views.of(views.means(values))[-100:])
    assert found[..., 1].mean() < found[..., 0].mean()


def test_what_wandered_may_wander_on_and_what_stood_still_may_not() -> None:
    random = np.random.default_rng(5)
    walk = np.cumsum(random.normal(size=1200)) / 5
    values = np.stack((walk, random.normal(size=1200)), axis=1)
    views = Views(learn(values[:400]), SMOOTH)
    fresh = values[400:] + np.array([0, 3 * values[:400, 1].std()])
    wandered, stepped = np.abs(views.of(views.means(fresh))[..., 0]).mean(axis=0)
    assert wandered < 3 < stepped


def test_what_wanders_together_is_judged_together() -> None:
    random = np.random.default_rng(6)
    walk = np.cumsum(random.normal(size=1200))[:, None] / 5
    values = walk * np.array([1, -2]) + 0.2 * random.normal(size=(1200, 2))
    views = Views(learn(values[:400]), SMOOTH)
    apart = values[400:].copy()
    apart[:, 0] += 3 * values[:400, 0].std()
    together = np.abs(views.of(views.means(values[400:]))[..., 1]).mean()
    assert np.abs(views.of(views.means(apart))[..., 1]).mean() > 2 * together


def test_following_moves_the_reference_and_nothing_else_does() -> None:
    views = Views(learn(past()), SMOOTH)
    moved = views.means(past(2) + np.array([2, 0, 0]))
    before = np.abs(views.of(moved)[..., 0]).mean(axis=0)
    for _ in range(30):
        views.follow(moved, 0.2, healthy=True)
    after = np.abs(views.of(moved)[..., 0]).mean(axis=0)
    assert after[0] < before[0] / 2


@pytest.mark.parametrize("kind", ["constant", "missing", "all zero", "two values"])
def test_a_sensor_that_says_little_breaks_nothing(kind: str) -> None:
    values = past()
    values[:, 0] = {
        "constant": np.full(400, 7.0),
        "missing": np.full(400, np.nan),
        "all zero": np.zeros(400),
        "two values": np.arange(400) % 2,
    }[kind]
    views = Views(learn(values), SMOOTH)
    assert np.isfinite(views.of(views.means(values))).all()


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(100, 160), st.integers(1, 6)),
        elements=st.floats(-1e12, 1e12) | st.just(float("nan")),
    )
)
def test_any_past_gives_finite_views(values: np.ndarray) -> None:
    views = Views(learn(values), SMOOTH)
    assert np.isfinite(views.of(views.means(values))).all()
