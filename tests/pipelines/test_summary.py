"""Scores of a stretch of a stream."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.pipelines.summary import Summary, advance
from agent.types import Rows
from tests.fakes.detector import FakeOutcome


def rows(times: list[float]) -> Rows:
    return Rows("p", ("a", "b"), np.array(times), np.array([[1.0, np.nan]] * len(times)))


def outcome(times: list[float], dropped: dict[str, int] | None = None) -> FakeOutcome:
    at = np.array(times, dtype=np.float64)
    return FakeOutcome(
        len(at),
        dropped or {},
        at,
        at / 100,
        at[:, None],
        ("a",),
        (),
        "watching",
        1.0,
        learned=False,
    )


def test_a_stretch_ends_with_the_first_row_of_the_next() -> None:
    current, ended = advance(Summary(), 10.0, rows([0, 5]), outcome([0, 5], {"late": 2}))
    assert ended == []
    current, ended = advance(current, 10.0, rows([9, 10, 11]), outcome([9, 10, 11]))
    (first,) = ended
    assert (first.start, first.end, first.rows, first.readings, first.windows) == (0, 9, 3, 3, 3)
    assert (first.lowest, first.highest, first.dropped) == (0.0, 0.09, {"late": 2})
    assert (current.start, current.rows, current.windows) == (10, 2, 2)


def test_a_large_batch_gives_every_stretch_it_spans() -> None:
    times = [float(t) for t in range(100)]
    _, ended = advance(Summary(), 10.0, rows(times), outcome(times))
    assert [part.stretch for part in ended] == list(range(9))
    assert [part.windows for part in ended] == [10] * 9


def test_a_stretch_without_windows_still_counts_its_rows() -> None:
    _, ended = advance(Summary(), 10.0, rows([1, 2, 11]), outcome([]))
    assert (ended[0].rows, ended[0].windows) == (2, 0)


def test_a_clock_that_goes_back_begins_a_new_stretch() -> None:
    current, ended = advance(Summary(), 10.0, rows([1e9, 5]), outcome([1e9]))
    assert [part.stretch for part in ended] == [1e8]
    assert current.stretch == 0


@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=30).map(lambda ts: [float(t) for t in ts]),
    st.sets(st.integers(1, 29)),
)
def test_every_row_and_every_window_is_counted_once(times: list[float], cuts: set[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut < len(times)), len(times)]
    current, parts = Summary(), []
    for first, last in pairwise(edges):
        batch = times[first:last]
        current, ended = advance(current, 10.0, rows(batch), outcome(sorted(batch)))
        parts += ended
    parts.append(current)
    assert sum(part.rows for part in parts) == len(times)
    assert sum(part.windows for part in parts) == len(times)
    assert np.isclose(sum(part.total for part in parts), sum(times) / 100)
