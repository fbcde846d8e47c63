"""A message that makes the broker hang up holds back its topic, and nothing else."""

import math

from hypothesis import given
from hypothesis import strategies as st

from agent.store.account import Queued
from agent.sync.suspects import FIRST_WAIT_S, LONGEST_WAIT_S, MAX_BLAMED, STRIKES, Suspects
from agent.types import Message

WINDOW = 10


def row(seq: int, topic: str = "t") -> Queued:
    message = Message(f"id-{seq}", "telemetry", topic, b"{}", 0.0, math.inf)
    return Queued(seq=seq, message=message, left_s=None)


def test_a_single_cut_with_messages_in_flight_blames_nobody():
    suspects = Suspects(WINDOW)
    assert suspects.ended([row(1), row(2)], 0.0) is None
    assert suspects.careful
    for _ in range(WINDOW):
        suspects.acknowledged()
    assert not suspects.careful


def test_a_cut_after_acknowledgements_does_not_slow_the_next_connection():
    suspects = Suspects(WINDOW)
    suspects.acknowledged()
    suspects.ended([row(1)], 0.0)
    assert not suspects.careful


def test_a_connection_that_ends_idle_is_no_sign():
    suspects = Suspects(WINDOW)
    for _ in range(10):
        assert suspects.ended([], 0.0) is None
    assert not suspects.careful


def test_the_message_that_is_alone_each_time_is_blamed_and_others_are_not():
    suspects = Suspects(WINDOW)
    suspects.ended([row(1, "bad"), row(2, "good")], 0.0)
    verdicts = [suspects.ended([row(1, "bad")], 1.0) for _ in range(STRIKES)]
    assert verdicts[:-1] == [None] * (STRIKES - 1)
    assert verdicts[-1].message.topic == "bad"
    assert set(suspects.waiting(1.0)) == {"bad"}
    assert not suspects.careful


def test_messages_cut_off_by_a_bad_network_one_after_the_other_are_not_blamed():
    suspects = Suspects(WINDOW)
    suspects.ended([row(0)], 0.0)
    assert all(suspects.ended([row(seq)], 0.0) is None for seq in range(1, 50))


def blame(suspects: Suspects, topic: str, now: float) -> None:
    suspects.careful = True
    while suspects.ended([row(7, topic)], now) is None:
        suspects.careful = True


def test_a_topic_waits_twice_as_long_each_time_up_to_an_hour():
    suspects, now, waits = Suspects(WINDOW), 0.0, []
    for _ in range(10):
        blame(suspects, "bad", now)
        _, due = suspects.waiting(now)["bad"]
        waits.append(due - now)
        assert not suspects.waiting(due)
        now = due
    assert waits[:3] == [FIRST_WAIT_S, 2 * FIRST_WAIT_S, 4 * FIRST_WAIT_S]
    assert waits[-1] == LONGEST_WAIT_S


def test_no_more_topics_are_remembered_than_the_bound():
    suspects = Suspects(WINDOW)
    for number in range(MAX_BLAMED + 5):
        suspects.careful = True
        for _ in range(STRIKES):
            suspects.careful = True
            suspects.ended([row(number, f"bad/{number}")], 0.0)
    assert len(suspects.waiting(0.0)) == MAX_BLAMED


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(0, WINDOW))
def test_whatever_the_broker_hangs_up_at_everything_else_leaves(bad: list[bool], flushed: int):
    """A broker that acknowledges in order, loses up to `flushed` answers, and closes at a bad one."""
    suspects = Suspects(WINDOW)
    table = {seq: row(seq, f"bad/{seq}" if is_bad else "good") for seq, is_bad in enumerate(bad)}
    for _ in range(20 * len(bad) + 20):
        held = suspects.waiting(0.0)
        sendable = [r for r in table.values() if r.message.topic not in held]
        if not sendable:
            break
        batch = sendable[: 1 if suspects.careful else WINDOW]
        at = next((i for i, r in enumerate(batch) if r.message.topic != "good"), len(batch))
        answered = batch[:at] if at == len(batch) else batch[: max(0, at - flushed)]
        for sent in answered:
            del table[sent.seq]
            suspects.acknowledged()
        if at < len(batch):
            suspects.ended([r for r in batch if r.seq in table], 0.0)
    assert {r.message.topic for r in table.values()} <= set(suspects.waiting(0.0))
    assert sum(bad) == len(table)
