"""Who waits for a thread goes by urgency, and nothing is begun in vain."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial

import pytest

from agent.api.admission import Admission
from agent.api.urgency import Line, Urgency
from agent.errors import TooMany, TooSlow


def test_the_most_urgent_is_next_and_then_who_came_first() -> None:
    line: Line[str] = Line()
    for name, level in (("batch", 9), ("kiosk", 2), ("alarm", 1), ("kiosk too", 2)):
        line.add(name, Urgency(level))
    assert [line.next(0.0)[0] for _ in range(4)] == ["alarm", "kiosk", "kiosk too", "batch"]


def test_whose_deadline_has_passed_is_said_to_be_late() -> None:
    line: Line[int] = Line()
    line.add(1, Urgency(deadline=5.0))
    line.add(2, Urgency(deadline=7.0))
    assert line.next(6.0) == (1, True)
    assert line.next(6.0) == (2, False)


class Busy:
    """Every thread of an admission, kept until they are let go."""

    def __init__(self, admission: Admission) -> None:
        self.go = threading.Event()
        self.alone = threading.Event()
        kept = [self.alone, *[self.go] * (admission._crew._size - 1)]
        self.tasks = [asyncio.create_task(admission.in_thread(event.wait)) for event in kept]

    async def end(self) -> None:
        self.alone.set()
        self.go.set()
        await asyncio.gather(*self.tasks)


async def test_urgent_work_overtakes_what_waits() -> None:
    admission = Admission(16)
    busy = Busy(admission)
    await asyncio.sleep(0)
    order: list[int] = []
    lock = threading.Lock()

    def note(level: int) -> None:
        with lock:
            order.append(level)

    levels = [3, 2, 1, 3, 1]
    waiting = [
        asyncio.create_task(admission.admitted(partial(note, level), Urgency(level)))
        for level in levels
    ]
    await asyncio.sleep(0)
    assert admission.waiting == len(levels)
    busy.alone.set()  # one thread, so that the order of beginning is that of ending
    await asyncio.gather(*waiting)
    await busy.end()
    assert order == [1, 1, 2, 3, 3]
    assert admission.running == 0
    admission.close()


async def test_what_waited_too_long_is_not_begun() -> None:
    admission = Admission(16)
    busy = Busy(admission)
    await asyncio.sleep(0)
    begun: list[str] = []
    now = asyncio.get_running_loop().time()
    late = asyncio.create_task(
        admission.admitted(partial(begun.append, "late"), Urgency(deadline=now))
    )
    left = asyncio.create_task(admission.admitted(partial(begun.append, "left"), Urgency()))
    await asyncio.sleep(0)
    left.cancel()
    await busy.end()
    with pytest.raises(TooSlow):
        await late
    await asyncio.gather(left, return_exceptions=True)
    assert begun == []
    assert admission.running == 0
    admission.close()


async def test_one_more_than_there_are_places_is_refused_at_once() -> None:
    admission = Admission(3)
    go = threading.Event()
    tasks = [asyncio.create_task(admission.in_thread(go.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(TooMany):
        await admission.in_thread(go.wait)
    go.set()
    await asyncio.gather(*tasks)
    assert await admission.in_thread(_seven) == 7
    admission.close()


async def test_what_work_raises_reaches_whoever_waits() -> None:
    admission = Admission(3)
    fails: Callable[[], int] = partial(int, "x")
    with pytest.raises(ValueError, match="invalid literal"):
        await admission.in_thread(fails)
    assert admission.running == 0
    admission.close()


async def test_whoever_waits_for_a_worker_keeps_nobody_else_waiting() -> None:
    admission = Admission(64)
    go = threading.Event()
    hung = [asyncio.create_task(admission.admitted(go.wait, Urgency(), "hung")) for _ in range(10)]
    await asyncio.sleep(0)
    assert admission.waiting == 6
    assert await admission.in_thread(_seven) == 7
    assert await admission.admitted(_seven, Urgency(), "another") == 7
    go.set()
    await asyncio.gather(*hung)
    for number in range(40):  # as many models one after the other
        assert await admission.admitted(_seven, Urgency(), number) == 7
    assert len(admission._apart) <= 17
    admission.close()


def _seven() -> int:
    return 7
