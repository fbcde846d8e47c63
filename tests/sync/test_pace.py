"""How fast and when: the rate holds over any stretch, quiet hours are quiet and end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import BadConfig
from agent.sync.pace import BURST_S, Pace, QuietHours


@given(st.lists(st.tuples(st.integers(1, 20_000), st.floats(0, 3)), max_size=100))
def test_no_more_goes_than_the_rate_a_burst_and_one_message(steps):
    """Sending whenever it is allowed: over the whole time the bound holds."""
    now, sent, largest = 0.0, 0, 0
    pace = Pace(80_000, now)
    for size, pause in steps:
        now += pause
        now += pace.delay(now)
        assert pace.delay(now) < 1e-6
        pace.take(size)
        sent, largest = sent + size, max(largest, size)
        assert sent <= 10_000 * (now + BURST_S) + largest + 1


def test_without_a_bound_nothing_waits():
    pace = Pace(0, 0.0)
    pace.take(1 << 30)
    assert pace.delay(0.0) == 0.0


def test_a_clock_that_stands_still_or_goes_back_gives_nothing_away():
    pace = Pace(8000, 100.0)
    pace.take(3000)
    assert pace.delay(100.0) == pytest.approx(1.0)
    assert pace.delay(50.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("minute", "left"),
    [(21 * 60 + 59, 0), (22 * 60, 480), (0, 360), (359.5, 0.5), (360, 0), (720, 0)],
)
def test_a_stretch_over_midnight(minute, left):
    assert QuietHours.parse(["22:00-06:00"]).left(minute) == left


def test_several_stretches():
    quiet = QuietHours.parse(["08:00-09:00", "12:00-12:30"])
    assert [quiet.left(60 * hour) for hour in (7, 8, 9, 12)] == [0, 60, 0, 30]
    assert QuietHours().left(100) == 0


@given(st.integers(0, 1439), st.integers(0, 1439), st.floats(0, 1439))
def test_after_what_is_left_it_is_over(first, end, minute):
    if first == end:
        return
    quiet = QuietHours(((first, end),))
    left = quiet.left(minute)
    assert 0 <= left <= 1440
    assert quiet.left((minute + left) % 1440) < 1e-6 or left == 0


@pytest.mark.parametrize(
    "text", ["", "22-6", "24:00-06:00", "22:60-06:00", "06:00-06:00", "22:00 - 06:00"]
)
def test_what_is_no_stretch_of_the_day_is_refused(text):
    with pytest.raises(BadConfig) as refused:
        QuietHours.parse([text])
    assert refused.value.where == "quiet_hours"
