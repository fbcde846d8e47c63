"""Attacks on time: the clock in 1970, in 2100 and back, and nobody to ask."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Expired, RolledBack
from agent.trust.policy import EARLIEST_TIME, Horizon, advance, judged_time
from tests.support.fleet import DAY, NOW, Fleet

Y2100 = 4_102_444_800.0  # seconds since the epoch


def test_a_clock_in_1970_does_not_revive_what_expired_before_this_release(fleet: Fleet) -> None:
    fleet.operator.now = EARLIEST_TIME - 100 * DAY
    fleet.repository.refresh()
    fleet.publish()
    fleet.clock.now = 0.0
    with pytest.raises(Expired):
        fleet.install()


def test_a_clock_in_1970_lets_a_current_repository_in(fleet: Fleet) -> None:
    fleet.publish()
    fleet.clock.now = 0.0
    assert fleet.install().active


def test_a_clock_that_fell_back_does_not_revive_what_expired(fleet: Fleet) -> None:
    """Freeze: the attacker withholds what is new and turns the clock back to when it was valid."""
    fleet.publish("1.0.0")
    fleet.clock.now = NOW + 20 * DAY
    fleet.install()
    fleet.operator.now = NOW - 5 * DAY  # signed with an expiry before what the device has seen
    short = fleet.repository.metadata
    timestamp = short.timestamp()
    fleet.operator.now = NOW - 15 * DAY
    short.commit_timestamp(timestamp)
    fleet.clock.now = NOW - 14 * DAY
    with pytest.raises(Expired):
        fleet.install()


def test_a_jump_to_2100_refuses_and_passes(fleet: Fleet) -> None:
    """While the clock is wrong nothing can be installed; afterwards everything can, and does load."""
    fleet.publish("1.0.0")
    fleet.install()
    fleet.clock.now = Y2100
    fleet.publish("1.1.0")
    with pytest.raises(Expired):
        fleet.install()
    assert fleet.restarted().open("negator").ref.version == "1.0.0"
    fleet.clock.now = NOW + DAY
    assert fleet.install().ref.version == "1.1.0"


def test_a_jump_within_the_validity_is_outlived_by_the_next_publication(fleet: Fleet) -> None:
    """The one jump that moves the horizon: it cannot pass the expiry of what was accepted."""
    fleet.publish("1.0.0")
    fleet.clock.now = NOW + 29 * DAY  # false, and just inside the timestamp's 30 days
    fleet.install()
    fleet.clock.now = NOW + DAY  # right again
    fleet.operator.now = NOW + DAY
    fleet.publish("1.1.0")
    assert fleet.install().ref.version == "1.1.0"


def test_a_device_without_network_goes_on_for_years(fleet: Fleet) -> None:
    fleet.publish()
    fleet.install()
    fleet.clock.now = NOW + 3650 * DAY
    assert fleet.restarted().open("negator").ref.version == "1.0.0"


def test_a_stolen_timestamp_key_does_not_lock_the_device_for_ever(fleet: Fleet) -> None:
    """The thief signs version 1,000,000; new keys for the role start the counters again."""
    fleet.publish("1.0.0")
    store = fleet.repository.metadata
    timestamp = store.timestamp()
    honest = timestamp.signed.version
    timestamp.signed.version = 1_000_000
    store.commit_timestamp(timestamp)
    fleet.install()
    timestamp.signed.version = honest
    store.commit_timestamp(timestamp)
    with pytest.raises(RolledBack):
        fleet.install()
    fleet.repository.rotate_key("timestamp")
    assert fleet.install().active


moments = st.floats(0, 1e11)
horizons = st.builds(
    Horizon, time=moments, timestamp=st.integers(0, 9), snapshot=st.integers(0, 9),
    keys=st.just(("a", "b")),
)  # fmt: skip


@given(horizons, horizons, moments)
def test_the_horizon_never_goes_back_under_the_same_keys(
    old: Horizon, seen: Horizon, wall: float
) -> None:
    older = seen.timestamp < old.timestamp or seen.snapshot < old.snapshot
    if older:
        with pytest.raises(RolledBack):
            advance(old, seen)
        return
    new = advance(old, seen)
    assert new.time >= old.time
    assert judged_time(wall, new) >= max(judged_time(wall, old), wall)


def test_new_keys_start_the_horizon_again() -> None:
    old = Horizon(Y2100, 10, 10, ("stolen",))
    assert advance(old, Horizon(NOW, 1, 1, ("new",))) == Horizon(NOW, 1, 1, ("new",))
