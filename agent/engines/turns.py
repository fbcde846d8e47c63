"""A lock whose holders take turns, in the order in which they asked.

One processor serves several conversations: each burst of tokens, and each part of a long prompt, is
one turn.
An ordinary lock would be taken again at once by the thread that has just given it back, and the
others would starve.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A fair lock."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken = False
        self._holder: int | None = None  # a thread
        self._gates: deque[threading.Lock] = deque()

    @property
    def contended(self) -> bool:
        """Whether others wait for their turn."""
        return bool(self._gates)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One turn, when it comes. Turns inside a turn are part of it."""
        if self._holder == threading.get_ident():
            yield
            return
        self._take()
        self._holder = threading.get_ident()
        try:
            yield
        finally:
            self._holder = None
            self._give()

    def _take(self) -> None:
        with self._mutex:
            if not self._taken:
                self._taken = True
                return
            gate = threading.Lock()
            gate.acquire()
            self._gates.append(gate)
        gate.acquire()  # released by whoever hands the turn over

    def _give(self) -> None:
        with self._mutex:
            if self._gates:
                self._gates.popleft().release()
            else:
                self._taken = False
