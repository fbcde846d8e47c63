"""Messages about one sensor each to rows on a grid."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import BadConfig, BadPayload, TooMany
from agent.pipelines.align import MAX_HELD_ROWS, Aligner, AlignSettings
from agent.pipelines.names import MAX_SENSORS
from agent.types import Rows

YEAR = 365 * 86_400.0


def grid(**settings: float) -> Aligner:
    return Aligner(AlignSettings(**{"period_s": 1.0, "wait_s": 1.0, "hold_s": 3.0, **settings}))


def feed(aligner: Aligner, *readings: tuple[str, float, float]) -> None:
    for reading in readings:
        aligner.push(*reading)


def table(rows: Rows | None) -> dict[float, list[float | None]]:
    """Time -> values, with None where there is no reading."""
    if rows is None:
        return {}
    cells = [[None if math.isnan(v) else v for v in row] for row in rows.values.tolist()]
    return dict(zip(rows.time.tolist(), cells, strict=True))


def test_sensors_of_one_cell_share_a_row() -> None:
    aligner = grid()
    feed(aligner, ("a", 10.1, 1.0), ("b", 10.7, 2.0), ("a", 12.0, 3.0))
    rows = aligner.take("pump")
    assert rows is not None
    assert (rows.stream, rows.sensors) == ("pump", ("a", "b"))
    assert table(rows) == {10.0: [1.0, 2.0]}


def test_a_row_waits_for_stragglers() -> None:
    aligner = grid()
    feed(aligner, ("a", 10.1, 1.0), ("a", 11.9, 2.0))
    assert aligner.take("pump") is None
    feed(aligner, ("b", 10.5, 5.0), ("a", 12.1, 3.0))
    assert table(aligner.take("pump")) == {10.0: [1.0, 5.0]}


def test_the_last_value_of_a_cell_counts_whatever_the_order() -> None:
    aligner = grid()
    feed(aligner, ("a", 10.8, 2.0), ("a", 10.2, 1.0))
    assert table(aligner.take("pump", everything=True)) == {10.0: [2.0]}


def test_a_value_is_held_up_to_its_bound() -> None:
    aligner = grid(hold_s=2.0)
    feed(aligner, ("a", 10.0, 1.0), *(("b", float(t), float(t)) for t in range(10, 16)))
    rows = table(aligner.take("pump", everything=True))
    assert [rows[t][0] for t in sorted(rows)] == [1.0, 1.0, 1.0, None, None, None]


def test_a_gap_is_filled_no_further_than_values_are_held() -> None:
    aligner = grid(hold_s=3.0)
    feed(aligner, ("a", 10.0, 1.0), ("a", 100.0, 2.0))
    assert sorted(table(aligner.take("pump", everything=True))) == [10.0, 97.0 + 3.0]


def test_a_short_gap_is_filled() -> None:
    aligner = grid(hold_s=3.0)
    feed(aligner, ("a", 10.0, 1.0), ("a", 13.0, 2.0))
    rows = table(aligner.take("pump", everything=True))
    assert rows == {10.0: [1.0], 11.0: [1.0], 12.0: [1.0], 13.0: [2.0]}


def test_a_late_reading_is_counted_and_becomes_the_held_value() -> None:
    aligner = grid()
    feed(aligner, ("a", 10.0, 1.0), ("b", 10.0, 1.0), ("a", 13.0, 2.0))
    aligner.take("pump")
    feed(aligner, ("b", 10.9, 7.0))
    assert aligner.late == 1
    assert table(aligner.take("pump", everything=True))[13.0] == [2.0, 7.0]


def test_nan_is_no_reading_and_is_not_replaced() -> None:
    aligner = grid()
    feed(aligner, ("a", 10.0, 1.0), ("b", 10.0, 1.0), ("a", 11.0, math.nan), ("b", 11.0, 2.0))
    assert table(aligner.take("pump", everything=True))[11.0] == [None, 2.0]


def test_a_clock_that_jumps_a_year_ahead_and_back_costs_that_reading_only() -> None:
    aligner = grid()
    feed(aligner, ("a", 10.0, 1.0), ("a", 11.0, 2.0), ("a", 11.0 + YEAR, 9.0), ("a", 12.0, 3.0))
    assert table(aligner.take("pump", everything=True)) == {10.0: [1.0], 11.0: [2.0], 12.0: [3.0]}
    assert (aligner.restarts, aligner.late) == (1, 1)


def test_a_clock_that_is_set_right_goes_on_after_rows_of_the_future() -> None:
    aligner = grid()
    feed(aligner, ("a", YEAR, 1.0), ("a", YEAR + 5, 1.0))
    aligner.take("pump", everything=True)
    feed(aligner, ("a", 10.0, 2.0), ("a", 12.5, 3.0))
    assert table(aligner.take("pump")) == {10.0: [2.0]}


def test_sensors_are_bounded() -> None:
    aligner = grid()
    for i in range(MAX_SENSORS):
        aligner.push(f"s{i}", 10.0, 1.0)
    with pytest.raises(TooMany, match=str(MAX_SENSORS)):
        aligner.push("one more", 10.0, 1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("period_s", 0.0), ("period_s", 1e6), ("wait_s", -1.0), ("wait_s", 101.0), ("hold_s", 3601.0)],
)
def test_settings_out_of_bounds_are_refused(name: str, value: float) -> None:
    with pytest.raises(BadConfig) as caught:
        AlignSettings(**{name: value})
    assert caught.value.where == name


@pytest.mark.parametrize("state", [b"", b"\xff\x00", b"\x93\x01\x02\x03"])
def test_bytes_that_are_no_state_are_refused(state: bytes) -> None:
    with pytest.raises(BadPayload):
        grid().restore(state)


readings = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.floats(0, 50) | st.sampled_from([YEAR, 0.0]),
        st.floats(-5, 5) | st.just(math.nan),
    ),
    max_size=40,
)


@given(readings, st.sets(st.integers(0, 40)))
def test_a_saved_grid_goes_on_as_if_never_stopped(
    given_readings: list[tuple[str, float, float]], cuts: set[int]
) -> None:
    whole, parted = grid(), grid()
    for number, reading in enumerate(given_readings):
        if number in cuts:
            state = parted.state()
            parted = grid()
            parted.restore(state)
        whole.push(*reading)
        parted.push(*reading)
        assert table(whole.take("p")) == table(parted.take("p"))
    assert whole.state() == parted.state()


@given(readings)
def test_rows_go_forward_and_are_bounded(given_readings: list[tuple[str, float, float]]) -> None:
    aligner = grid()
    last, restarts = -math.inf, 0
    for reading in given_readings:
        aligner.push(*reading)
        if aligner.restarts > restarts:
            last, restarts = -math.inf, aligner.restarts
        rows = aligner.take("p")
        if rows is not None:
            assert len(rows) <= MAX_HELD_ROWS
            assert (np.diff([last, *rows.time]) > 0).all()
            assert not np.isnan(rows.values).all(axis=1).any()
            last = float(rows.time[-1])


@given(readings.filter(bool))
def test_without_jumps_every_reading_is_in_a_row_or_replaced_by_a_newer_one(
    given_readings: list[tuple[str, float, float]],
) -> None:
    aligner = grid(hold_s=0.0)
    ordered = sorted((r for r in given_readings if r[1] <= 50), key=lambda r: r[1])
    newest = {(s, math.floor(t)): v for s, t, v in ordered if not math.isnan(v)}
    feed(aligner, *(r for r in ordered if not math.isnan(r[2])))
    rows = aligner.take("p", everything=True)
    found = (
        {}
        if rows is None
        else {
            (sensor, int(time)): value
            for time, row in zip(rows.time, rows.values.tolist(), strict=True)
            for sensor, value in zip(rows.sensors, row, strict=True)
            if not math.isnan(value)
        }
    )
    assert found == newest
