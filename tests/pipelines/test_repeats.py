"""Which readings came before."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.pipelines.entries import Single
from agent.pipelines.repeats import REMEMBERED, Seen, digest
from agent.types import Rows


def rows(value: float, time: float = 1.0, sensor: str = "a") -> Rows:
    return Rows("p", (sensor,), np.array([time]), np.array([[value]]))


def test_a_digest_is_of_names_times_and_values() -> None:
    items = [rows(1.0), rows(2.0), rows(1.0, 2.0), rows(1.0, sensor="b"), rows(np.nan)]
    singles = [Single("a", 1.0, 1.0), Single("b", 1.0, 1.0), Single("a", 2.0, 1.0)]
    digests = [digest(item) for item in [*items, *singles]]
    assert len(set(digests)) == len(digests)
    assert digest(rows(np.nan)) == digest(rows(np.nan))


def test_the_layout_in_memory_does_not_matter() -> None:
    values = np.arange(6.0).reshape(2, 3)
    time = np.array([1.0, 2.0])
    c_order = Rows("p", ("a", "b", "c"), time, values)
    f_order = Rows("p", ("a", "b", "c"), time, np.asfortranarray(values))
    assert digest(c_order) == digest(f_order)


def test_the_oldest_is_forgotten_first() -> None:
    seen = Seen()
    marks = [digest(rows(float(n))) for n in range(REMEMBERED + 2)]
    seen.add(marks)
    assert [mark in seen for mark in (marks[0], marks[1], marks[2], marks[-1])] == [
        False,
        False,
        True,
        True,
    ]
    assert len(seen.state()) == REMEMBERED * 8


@given(st.lists(st.integers(0, 40), max_size=80), st.integers(0, 80))
def test_a_stored_memory_is_the_same_memory(numbers: list[int], cut: int) -> None:
    whole, parted = Seen(), Seen()
    for place, number in enumerate(numbers):
        mark = number.to_bytes(8, "big")
        whole.add([mark])
        parted.add([mark])
        if place == cut:
            parted = Seen(parted.state())
    assert whole.state() == parted.state()
    assert all(number.to_bytes(8, "big") in parted for number in numbers)
