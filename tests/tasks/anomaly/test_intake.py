"""Rows in any order: what comes out is in order, and what does not is counted."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.tasks.anomaly.intake import MAX_SENSORS, STEP_BACK_ROWS, Intake
from agent.types import Rows


def rows(times: list[float], *columns: list[float], names: tuple[str, ...] = ()) -> Rows:
    values = np.array(columns, float).T.reshape(len(times), -1)
    sensors = names or tuple(f"s{i}" for i in range(values.shape[1]))
    return Rows("pump", sensors, np.array(times, float), values)


def released(intake: Intake, batch: Rows) -> tuple[list[float], Counter[str]]:
    dropped: Counter[str] = Counter()
    times, _, _ = intake.push(batch, dropped)
    return times.tolist(), +dropped


def test_rows_of_one_batch_are_put_in_order() -> None:
    assert released(Intake(0.0), rows([3, 1, 2], [1, 1, 1])) == ([1, 2, 3], Counter())


def test_a_repeated_row_is_dropped_and_counted() -> None:
    intake = Intake(0.0)
    assert released(intake, rows([1, 1, 2], [1, 9, 1])) == ([1, 2], Counter(duplicate=1))
    assert released(intake, rows([2, 3], [1, 1])) == ([3], Counter(duplicate=1))


def test_a_late_row_is_dropped_and_counted() -> None:
    intake = Intake(0.0)
    released(intake, rows([5], [1]))
    assert released(intake, rows([4, 6], [1, 1])) == ([6], Counter(late=1))


def test_rows_wait_for_earlier_ones_as_long_as_configured() -> None:
    intake = Intake(2.0)
    assert released(intake, rows([1, 4], [1, 1]))[0] == [1]
    assert released(intake, rows([3], [1]))[0] == []
    assert released(intake, rows([6], [1]))[0] == [3, 4]


def test_a_clock_set_back_is_believed_after_a_while() -> None:
    intake = Intake(0.0)
    released(intake, rows([1e9], [1]))
    back = [1e6 + i for i in range(STEP_BACK_ROWS)]
    dropped: Counter[str] = Counter()
    for time in back[:-1]:
        assert released(intake, rows([time], [1]))[0] == []
    times, _, stepped = intake.push(rows(back[-1:], [1]), dropped)
    assert (times.tolist(), stepped) == (back[-1:], True)


def test_a_clock_that_jumps_a_year_ahead_and_back_goes_on() -> None:
    intake = Intake(0.0)
    released(intake, rows([0, 1, 2], [1, 1, 1]))
    released(intake, rows([3.15e7], [1]))
    again = [float(t) for t in range(3, 3 + STEP_BACK_ROWS)]
    assert released(intake, rows(again, [1] * STEP_BACK_ROWS))[0] == again


def test_unusable_rows_are_counted_by_reason() -> None:
    nan, inf = float("nan"), float("inf")
    times, dropped = released(Intake(0.0), rows([1, nan, 3, 4], [nan, 1, inf, 1]))
    assert (times, dropped) == ([4], Counter({"empty": 2, "no time": 1}))


def test_columns_may_change_while_learning_and_not_after() -> None:
    intake = Intake(0.0)
    released(intake, rows([1], [1], names=("a",)))
    released(intake, rows([2], [1], [1], names=("b", "a")))
    intake.fix()
    _, dropped = released(intake, rows([3], [1], [1], names=("a", "c")))
    assert intake.sensors == ("a", "b")
    assert dropped == Counter({"unknown sensor": 1})


def test_the_number_of_sensors_is_bounded() -> None:
    intake = Intake(0.0)
    released(intake, rows([1], *[[1]] * (MAX_SENSORS + 10)))
    assert len(intake.sensors) == MAX_SENSORS


@given(st.permutations(range(30)), st.integers(1, 7))
def test_any_order_within_the_lateness_gives_the_same_rows(order: list[int], size: int) -> None:
    intake = Intake(1000.0)
    values = [float(i * i) for i in range(30)]
    for at in range(0, 30, size):
        part = order[at : at + size]
        released(intake, rows([float(i) for i in part], [values[i] for i in part]))
    dropped: Counter[str] = Counter()
    times, found, _ = intake.push(rows([5000.0], [0]), dropped)
    assert times.tolist() == list(range(30))
    assert found[:, 0].tolist() == values
    assert not +dropped
