"""Readings that wait: bounded, in order, in batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import TooMany
from agent.pipelines.entries import Entry, Single
from agent.pipelines.spec import PipelineLimits
from agent.pipelines.waiting import Waiting, coalesce
from agent.types import Rows


def rows(count: int, *sensors: str, start: float = 0.0) -> Rows:
    names = sensors or ("a",)
    time = start + np.arange(count, dtype=np.float64)
    return Rows("pump", names, time, np.tile(time[:, None], (1, len(names))))


def entry(item: Rows | Single, *, exact: bool = False) -> Entry:
    return Entry(item, lambda _: None, exact)


def test_the_bound_is_over_all_streams_and_refuses_with_a_pause() -> None:
    waiting = Waiting(PipelineLimits(waiting_rows=10))
    waiting.add("a", entry(rows(6)))
    waiting.add("b", entry(rows(4)))
    with pytest.raises(TooMany, match="10") as caught:
        waiting.add("c", entry(rows(1)), retry_after_s=2.5)
    assert caught.value.retry_after_s == 2.5
    assert waiting.rows == 10


def test_one_table_larger_than_the_bound_may_come_when_nothing_waits() -> None:
    waiting = Waiting(PipelineLimits(waiting_rows=10))
    waiting.add("a", entry(rows(11)))
    assert waiting.rows == 11


def test_a_batch_holds_no_more_rows_than_its_bound() -> None:
    waiting = Waiting(PipelineLimits(batch_rows=5))
    for _ in range(4):
        waiting.add("a", entry(rows(2)))
    assert [len(waiting.take()["a"]), waiting.rows] == [2, 4]
    assert [len(waiting.take()["a"]), waiting.rows] == [2, 0]
    assert not waiting


def test_neighbours_of_the_same_sensors_become_one_table() -> None:
    items, owners = coalesce([entry(rows(2)), entry(rows(3, start=2.0))])
    assert owners == [0, 0]
    assert isinstance(items[0], Rows)
    assert items[0].time.tolist() == [0, 1, 2, 3, 4]


def test_tables_that_want_their_own_receipt_stay_apart() -> None:
    items, owners = coalesce(
        [entry(rows(1)), entry(rows(1), exact=True), entry(rows(1), exact=True)]
    )
    assert (len(items), owners) == (3, [0, 1, 2])


kinds = st.sampled_from(["rows a", "rows b", "exact", "single"])


@given(st.lists(kinds, max_size=12))
def test_coalescing_loses_no_row_and_keeps_the_order(kinds: list[str]) -> None:
    entries = []
    for number, kind in enumerate(kinds):
        item = rows(1, "b" if kind == "rows b" else "a", start=float(number))
        single = Single("a", float(number), 1.0)
        entries.append(entry(single if kind == "single" else item, exact=kind == "exact"))
    items, owners = coalesce(entries)
    times = [t for i in items for t in (i.time.tolist() if isinstance(i, Rows) else [i.time])]
    assert times == list(range(len(kinds)))
    assert sorted(set(owners)) == list(range(len(items)))
    for number, owner in enumerate(owners):
        item = items[owner]
        assert number in (item.time.tolist() if isinstance(item, Rows) else [item.time])
