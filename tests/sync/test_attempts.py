"""When to connect again: full jitter up to a bound, fail-over, versions, contested identifiers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sync.attempts import CONTESTED, STABLE_S, Attempt, Attempts

ENDINGS = ("unreachable", "silent", "closed", "version", "refused", "failed", "lost", "taken")


def attempts(brokers=1, random=lambda: 1.0, min_s=1.0, max_s=60.0) -> Attempts:
    return Attempts(brokers, min_s, max_s, random)


def test_pauses_double_up_to_the_bound():
    tried = attempts()
    assert [tried.ended("unreachable") for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]


@given(
    st.lists(st.tuples(st.sampled_from(ENDINGS), st.floats(0, 100)), max_size=200),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 4),
)
def test_no_pause_exceeds_the_bound_and_no_two_connections_follow_without_any(
    ends, chance, brokers
):
    """Whatever happens: pauses stay in [0, bound], and no more than two tries a broker go unpaused."""
    tried = attempts(brokers, lambda: max(chance, 0.01))
    unpaused = 0
    for how, lived in ends:
        assert tried.next().broker in range(brokers)
        pause = tried.ended(how, lived)
        assert 0.0 <= pause <= 60.0
        unpaused = 0 if pause else unpaused + 1
        assert unpaused < 2 * brokers


def test_a_connection_that_lived_resets_the_pause():
    tried = attempts()
    for _ in range(6):
        tried.ended("unreachable")
    assert tried.ended("lost", STABLE_S) == 1.0


def test_a_connection_that_died_young_does_not():
    tried = attempts()
    assert [tried.ended("lost", 0.1) for _ in range(3)] == [1, 2, 4]


def test_young_deaths_in_a_row_look_like_two_clients_with_one_identifier():
    tried = attempts()
    for _ in range(CONTESTED):
        tried.ended("lost", 1.0)
    assert tried.contested == CONTESTED
    tried.ended("lost", STABLE_S)
    assert tried.contested == 0


def test_who_is_taken_over_stands_back_at_once():
    assert attempts().ended("taken", 1.0) == 16.0


def test_all_brokers_are_tried_before_a_pause():
    tried = attempts(brokers=3)
    seen, pauses = [], []
    for _ in range(6):
        seen.append(tried.next().broker)
        pauses.append(tried.ended("unreachable"))
    assert seen == [0, 1, 2, 0, 1, 2]
    assert pauses == [0, 0, 1, 0, 0, 2]


def test_a_broker_that_worked_is_tried_first_after_a_cut():
    tried = attempts(brokers=3)
    tried.ended("unreachable")
    tried.connected()
    tried.ended("lost", 100)
    assert tried.next().broker == 1


@pytest.mark.parametrize("how", ["version", "closed", "silent"])
def test_a_broker_without_mqtt_5_is_asked_for_3_1_1_at_once_and_remembered(how):
    tried = attempts()
    assert tried.next() == Attempt(0, "5")
    assert tried.ended(how) == 0.0
    assert tried.next() == Attempt(0, "3.1.1")
    tried.connected()
    tried.ended("lost", 100)
    assert tried.next() == Attempt(0, "3.1.1")


def test_a_broker_that_closes_on_both_versions_is_asked_for_5_again():
    tried = attempts()
    assert tried.ended("closed") == 0.0
    assert tried.ended("closed") > 0.0
    assert tried.next() == Attempt(0, "5")


def test_versions_are_remembered_for_each_broker():
    tried = attempts(brokers=2)
    tried.ended("version")
    tried.connected()
    tried.ended("lost", 100)
    tried.ended("unreachable")
    assert tried.next() == Attempt(1, "5")
    tried.ended("unreachable")
    assert tried.next() == Attempt(0, "3.1.1")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_version_that_is_asked_for_is_the_only_one(protocol):
    tried = Attempts(1, 1.0, 60.0, lambda: 1.0, protocol)
    for how in ENDINGS:
        assert tried.next().protocol == protocol
        assert tried.ended(how) > 0
