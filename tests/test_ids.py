"""Identifiers: version, order, uniqueness, whatever the clock does."""

import threading
import uuid

from hypothesis import given
from hypothesis import strategies as st

from agent.clock import SystemClock
from agent.ids import uuid7
from tests.fakes.clock import FakeClock


def test_it_is_a_version_7_uuid_of_the_wall_clock():
    before = uuid7(FakeClock(wall=0))  # later than any this process made, so far
    made = uuid.UUID(uuid7(FakeClock(wall=4_000_000_000.123)))
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 >= 4_000_000_000_123
    assert uuid.UUID(before).version == 7


@given(st.lists(st.floats(min_value=0, max_value=4e9), min_size=2, max_size=200))
def test_order_holds_whatever_the_clock_does(times):
    made = [uuid7(FakeClock(wall=time)) for time in times]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_more_in_a_millisecond_than_the_counter_holds_still_sort():
    clock = FakeClock()
    made = [uuid7(clock) for _ in range(10_000)]
    assert made == sorted(set(made))


def test_threads_never_make_the_same():
    made: list[str] = []
    clock = SystemClock()
    threads = [
        threading.Thread(target=lambda: made.extend(uuid7(clock) for _ in range(2000)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8000
