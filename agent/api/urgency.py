"""How urgent a request is, and which of those that wait is next. Pure."""

import heapq
import math
from itertools import count
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

USUAL_LEVEL = 2  # of requests that do not say


class Urgency(NamedTuple):
    """When a request should be answered.

    Attributes:
        level: 1 for the most urgent; a higher one waits for all lower ones.
        deadline: on the monotonic clock, seconds; after it the answer is worthless.
    """

    level: int = USUAL_LEVEL
    deadline: float = math.inf


USUAL = Urgency()


class Line(Generic[T]):
    """Those that wait: by level, and within one in the order of arrival."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Urgency, T]] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, item: T, urgency: Urgency) -> None:
        """Let it wait."""
        heapq.heappush(self._heap, (urgency.level, next(self._numbers), urgency, item))

    def next(self, now: float) -> tuple[T, bool]:
        """The next one, and whether its deadline has passed. Raises IndexError: none waits."""
        _, _, urgency, item = heapq.heappop(self._heap)
        return item, urgency.deadline <= now
