"""The newest rows: holes are held shut for a while, silences begin a new window."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from agent.tasks.anomaly.recent import Recent, RecentState

NAN = float("nan")


def blocks(
    recent: Recent, times: list[float], values: list[list[float]]
) -> list[list[list[float]]]:
    found = recent.push(np.array(times), np.array(values, float), anew=False)
    return [block.tolist() for _, block in found]


@pytest.fixture
def recent() -> Recent:
    made = Recent(rows=2, max_gap_s=10, hold_rows=2)
    made.prime(np.array([[0.0, 0.0]]), last=0.0)
    return made


def test_each_run_comes_with_the_rows_before_it(recent: Recent) -> None:
    assert blocks(recent, [1], [[1, 1]]) == [[[0, 0], [1, 1]]]
    assert blocks(recent, [2, 3], [[2, 2], [3, 3]]) == [[[0, 0], [1, 1], [2, 2], [3, 3]]]
    assert blocks(recent, [4], [[4, 4]]) == [[[2, 2], [3, 3], [4, 4]]]


def test_a_long_silence_begins_anew(recent: Recent) -> None:
    assert blocks(recent, [1, 20, 21], [[1, 1], [2, 2], [3, 3]]) == [
        [[0, 0], [1, 1]],
        [[2, 2], [3, 3]],
    ]
    assert blocks(recent, [99], [[4, 4]]) == [[[4, 4]]]


def test_a_missing_reading_is_held_for_a_bounded_while(recent: Recent) -> None:
    block = blocks(recent, [1, 2, 3, 4], [[1, 5], [NAN, 6], [NAN, 7], [NAN, 8]])[0]
    assert_array_equal(np.array(block)[:, 0], [0, 1, 1, 1, NAN])
    block = blocks(recent, [5], [[NAN, 9]])[0]
    assert np.isnan(block[-1][0])


def test_holding_goes_on_from_one_call_to_the_next(recent: Recent) -> None:
    blocks(recent, [1], [[1, 5]])
    assert blocks(recent, [2], [[NAN, 6]])[0][-1] == [1, 6]
    assert blocks(recent, [3], [[NAN, 6]])[0][-1] == [1, 6]
    assert np.isnan(blocks(recent, [4], [[NAN, 6]])[0][-1][0])


def test_a_stored_state_goes_on_the_same(recent: Recent) -> None:
    blocks(recent, [1, 2], [[1, 5], [NAN, 6]])
    state = recent.state()
    again = Recent(2, 10, 2, RecentState(state.values, state.held, state.age, state.last))
    assert_array_equal(blocks(again, [3], [[NAN, 7]]), blocks(recent, [3], [[NAN, 7]]))
