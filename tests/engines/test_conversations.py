"""Which conversation a request goes on with, and who waits for a place."""

import threading
import time

import numpy as np
import pytest

from agent.engines import conversations
from agent.engines.conversations import ONCE, Slot, Slots, choose, common, roomy
from agent.engines.generation import Cancellation, not_cancelled
from agent.engines.turns import Turns
from agent.errors import TooMany


def tokens(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def slot(*seen: int, capacity: int = 512, long: int = 100) -> Slot:
    """A slot that has seen these tokens, and many others after them; all but three were asked."""
    seen_all = np.concatenate([tokens(*seen), np.full(long, 7, np.int32)])
    return Slot(object(), capacity, seen_all, max(len(seen_all) - 3, 0))


def test_what_two_sequences_have_in_common() -> None:
    assert common(tokens(1, 2, 3), tokens(1, 2, 4, 5)) == 2
    assert common(tokens(1, 2), tokens(1, 2, 4)) == 2
    assert common(tokens(), tokens(1)) == 0


def test_a_request_goes_on_with_its_own_conversation() -> None:
    mine, other = slot(1, 2, 3, 4, long=0), slot(1, 9, 9, 9, 9, 9)
    prompt = tokens(1, 2, 3, 4, 5, 6)
    assert choose([other, mine], prompt, 10, may_make=True) is mine


def test_an_answer_that_is_read_otherwise_than_it_was_written_is_the_same_conversation() -> None:
    mine = Slot(object(), 512, np.arange(100, 400, dtype=np.int32), prompt=40)
    prompt = np.concatenate([np.arange(100, 145), np.arange(300)]).astype(np.int32)
    assert choose([mine, slot(1)], prompt, 400, may_make=True) is mine


def test_a_stranger_takes_no_conversation_while_there_is_room() -> None:
    others = [slot(1, 2, 3, 4), slot(5)]
    assert choose(others, tokens(1, 2, 9), 10, may_make=True) is None
    assert choose(others, tokens(1, 2, 9), 10, may_make=False) is others[0]  # used least lately


def test_a_conversation_of_a_few_tokens_is_not_worth_a_slot_of_its_own() -> None:
    few = slot(9, 8, long=30)
    assert choose([slot(1), few], tokens(5, 6), 10, may_make=True) is few


def test_a_slot_that_is_too_small_is_not_taken() -> None:
    assert choose([slot(1, 2, capacity=16)], tokens(1, 2, 3), 17, may_make=True) is None


def test_new_slots_have_room_for_the_next_turns() -> None:
    assert roomy(10, 4096) == 256
    assert roomy(700, 4096) == 2048
    assert roomy(3000, 4096) == 4096


def test_never_more_slots_than_there_may_be() -> None:
    made: list[int] = []
    slots = Slots(made.append, 2, 4096)
    one = slots.take(tokens(1), 10, not_cancelled)
    two = slots.take(tokens(2), 10, not_cancelled)
    slots.give(one)
    slots.give(two)
    for given in slots._idle:
        given.tokens = np.arange(100, dtype=np.int32)
    three = slots.take(tokens(3), 4000, not_cancelled)  # needs a larger one: one of them goes
    slots.give(three)
    assert len(made) == 3
    assert len(slots._idle) == 2


def test_who_waits_longest_is_served_first() -> None:
    slots = Slots(lambda _: object(), 1, 512)
    held = slots.take(tokens(1), 10, not_cancelled)
    order: list[int] = []

    def wait(n: int) -> None:
        mine = slots.take(tokens(n), 10, not_cancelled)
        order.append(n)
        slots.give(mine)

    threads = []
    for n in range(4):
        threads.append(threading.Thread(target=wait, args=(n,)))
        threads[-1].start()
        while len(slots._tickets) < n + 1:
            time.sleep(0.001)
    slots.give(held)
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2, 3]


def test_who_goes_away_gives_the_place_in_the_queue_up() -> None:
    slots = Slots(lambda _: object(), 1, 512)
    slots.take(tokens(1), 10, not_cancelled)
    gone = Cancellation()
    gone.cancel()
    assert slots.take(tokens(2), 10, gone) is None
    assert not slots._tickets


def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "MAX_WAITING", 0)
    with pytest.raises(TooMany):
        Slots(lambda _: object(), 1, 512).take(tokens(1), 10, not_cancelled)


def test_a_generator_that_cannot_be_made_takes_no_place() -> None:
    def fail(_: int) -> None:
        raise MemoryError

    slots = Slots(fail, 1, 512)
    for _ in range(3):
        with pytest.raises(MemoryError):
            slots.take(tokens(1), 10, not_cancelled)


def test_a_slot_with_rules_is_of_use_to_the_same_rules_only() -> None:
    slots = Slots(lambda _: "free", 3, 512)

    def take(rules: str | None) -> Slot:
        found = slots.take(tokens(1, 2, 3), 10, not_cancelled, rules=rules, make=lambda _: rules)
        assert found is not None
        return found

    json = take("json")
    json.tokens, json.prompt = tokens(1, 2), 2
    slots.give(json)
    assert take("regex").generator == "regex"
    assert take("json") is json
    slots.give(json)
    free = slots.take(tokens(1, 2, 3), 10, not_cancelled)
    assert free is not None
    assert free.generator == "free"


def test_rules_for_once_are_counted_and_not_kept_and_drop_nothing_while_there_is_room() -> None:
    slots = Slots(lambda _: "free", 2, 512)
    kept = slots.take(tokens(1), 10, not_cancelled)
    slots.give(kept)
    once = slots.take(tokens(2), 10, not_cancelled, rules=ONCE, make=lambda _: "once")
    assert once is not None
    assert slots._used == 1
    slots.give(once)
    assert slots._idle == [kept]


def test_turns_are_taken_in_order() -> None:
    turns = Turns()
    order: list[tuple[int, int]] = []
    ready = threading.Barrier(4)

    def work(n: int) -> None:
        ready.wait()
        for step in range(25):
            with turns.turn():
                order.append((step, n))
                time.sleep(0.0005)  # the others ask meanwhile

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(order) == 100
    middle = [n for _, n in order[20:80]]
    for start in range(0, len(middle), 4):  # nobody is ahead by more than a turn or two
        counts = np.bincount(middle[: start + 4], minlength=4)
        assert counts.max() - counts.min() <= 2
    assert not turns.contended
