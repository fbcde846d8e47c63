"""The simulated pump: seeded, labelled, and coupled as a pump is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.pipelines.sources.simulator import (
    RATED_CURRENT,
    RATED_FLOW,
    SENSORS,
    Episode,
    Fault,
    showcase,
    simulate,
)

FAULTS: tuple[Fault, ...] = ("cavitation", "closing valve", "bearing wear")


def column(values: NDArray[np.float64], sensor: str) -> NDArray[np.float64]:
    return values[:, list(SENSORS).index(sensor)]


def change(fault: Fault, sensor: str, seed: int = 3) -> float:
    """What the fault, fully grown, does to a sensor's mean; same pump, same weather."""
    episode = Episode(fault, 500, 2000, ramp=0.2)
    broken = simulate(2000, seed=seed, episodes=[episode]).rows.values
    sound = simulate(2000, seed=seed).rows.values
    return float(np.mean(column(broken - sound, sensor)[1500:]))


@given(st.integers(0, 2**32 - 1))
def test_the_same_seed_gives_the_same_recording(seed: int) -> None:
    one, other = simulate(50, seed=seed), simulate(50, seed=seed)
    np.testing.assert_array_equal(one.rows.values, other.rows.values)


def test_another_seed_gives_another_recording() -> None:
    assert (simulate(50, seed=1).rows.values != simulate(50, seed=2).rows.values).any()


def test_rows_are_a_second_apart_and_named() -> None:
    rows = simulate(100, seed=1, start=1e9, stream="p7").rows
    assert rows.stream == "p7"
    assert rows.sensors == tuple(SENSORS)
    assert rows.values.shape == (100, len(SENSORS))
    assert (rows.time.dtype, rows.values.dtype) == (np.float64, np.float64)
    np.testing.assert_array_equal(rows.time, 1e9 + np.arange(100))


def test_labels_are_one_exactly_during_faults() -> None:
    episodes = [Episode("cavitation", 20, 40), Episode("bearing wear", 60, 70)]
    labels = simulate(100, seed=1, episodes=episodes).labels
    assert np.flatnonzero(labels).tolist() == [*range(20, 40), *range(60, 70)]


def test_an_episode_may_outlast_the_recording() -> None:
    labels = simulate(50, seed=1, episodes=[Episode("closing valve", 40, 400)]).labels
    assert labels.sum() == 10


def test_a_fault_changes_nothing_before_it_begins() -> None:
    broken = simulate(600, seed=5, episodes=[Episode("cavitation", 400, 600)]).rows.values
    np.testing.assert_array_equal(broken[:400], simulate(600, seed=5).rows.values[:400])


@pytest.mark.parametrize(
    ("fault", "higher", "lower"),
    [
        ("cavitation", ("vibration",), ("flow", "inlet_pressure", "outlet_pressure")),
        ("closing valve", ("outlet_pressure",), ("flow", "motor_current")),
        ("bearing wear", ("vibration", "bearing_temperature", "motor_current"), ()),
    ],
)
def test_each_fault_moves_what_it_moves_in_a_pump(
    fault: Fault, higher: tuple[str, ...], lower: tuple[str, ...]
) -> None:
    assert all(change(fault, sensor) > 0 for sensor in higher)
    assert all(change(fault, sensor) < 0 for sensor in lower)


@pytest.mark.parametrize("fault", FAULTS)
def test_weather_is_no_business_of_a_fault(fault: Fault) -> None:
    assert change(fault, "fluid_temperature") == 0


def test_a_fault_grows_before_it_is_full() -> None:
    episode = Episode("bearing wear", 500, 1500, ramp=0.9)
    broken = simulate(1500, seed=5, episodes=[episode]).rows.values
    grown = column(broken - simulate(1500, seed=5).rows.values, "vibration")
    thirds = [float(grown[at : at + 300].mean()) for at in (500, 800, 1100)]
    assert 0 < thirds[0] < thirds[1] < thirds[2]


def test_a_healthy_pump_stays_near_its_rating() -> None:
    values = simulate(20_000, seed=2).rows.values
    assert np.isfinite(values).all()
    assert abs(column(values, "flow").mean() / RATED_FLOW - 1) < 0.05
    assert abs(column(values, "motor_current").mean() / RATED_CURRENT - 1) < 0.05
    assert (column(values, "outlet_pressure") > column(values, "inlet_pressure")).all()


def test_load_changes_move_flow_and_current_together() -> None:
    minutes = simulate(12_000, seed=4).rows.values.reshape(200, 60, -1).mean(axis=1)
    together = np.corrcoef(column(minutes, "flow"), column(minutes, "motor_current"))[0, 1]
    assert together > 0.3


def test_the_motor_heats_more_slowly_than_its_current_changes() -> None:
    values = simulate(6000, seed=4).rows.values
    minutes = values.reshape(100, 60, -1).mean(axis=1)

    def memory(sensor: str) -> float:
        series = column(minutes, sensor)
        return float(np.corrcoef(series[:-1], series[1:])[0, 1])

    assert memory("motor_temperature") > memory("motor_current")


@pytest.mark.parametrize("seed", range(5))
def test_the_showcase_has_a_healthy_past_and_each_fault_once(seed: int) -> None:
    made = showcase(seed)
    assert not made.labels[:900].any()
    assert sorted(episode.fault for episode in made.episodes) == sorted(FAULTS)
    edges = [at for episode in made.episodes for at in (episode.start, episode.end)]
    assert edges == sorted(edges)
    assert edges[-1] <= len(made.rows) == len(made.labels)
