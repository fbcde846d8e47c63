"""What happens, for whoever listens on this machine.

A publisher never waits. Each listener has a bounded queue; a listener that is too slow loses its
oldest events, and the next thing it gets says how many were lost. The bus keeps a short history, so
that a listener that was cut off can go on after the last event it saw.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Self

from agent.types import Event

#: Type of the event that tells a listener how many it lost, as data ``{"count": n}``.
LOST = "events.lost"


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event in its place.

    Attributes:
        id: counts up by one with each published event, from 1 in each run of the daemon.
        event: what happened.
    """

    id: int
    event: Event


class EventBus:
    """Carries events from any part of the daemon to local listeners. One event loop only."""

    def __init__(self, history: int = 256) -> None:
        self._ids = count(1)
        self._history: deque[Numbered] = deque(maxlen=history)
        self._listeners: set[Subscription] = set()

    @property
    def listeners(self) -> int:
        """How many are listening."""
        return len(self._listeners)

    def publish(self, event: Event) -> None:
        """Give the event to every listener; never waits, never raises."""
        numbered = Numbered(next(self._ids), event)
        self._history.append(numbered)
        for listener in self._listeners:
            listener.offer(numbered)

    def subscribe(self, maxsize: int = 256, *, after: int | None = None) -> "Subscription":
        """Listen until the subscription is closed.

        Args:
            maxsize: events that may wait before the oldest is lost.
            after: go on after this id, as far as the history reaches; None for new events only.
        """
        missed = [] if after is None else [item for item in self._history if item.id > after]
        lost = missed[0].id - after - 1 if missed and after is not None else 0
        subscription = Subscription(maxsize, missed, max(lost, 0), self._listeners.discard)
        self._listeners.add(subscription)
        return subscription


class Subscription(AsyncIterator[Numbered]):
    """One listener's view of the bus. Close it, or use it in a ``with`` block."""

    def __init__(
        self,
        maxsize: int,
        missed: Iterable[Numbered],
        lost: int,
        leave: Callable[["Subscription"], object],
    ) -> None:
        self._waiting: deque[Numbered] = deque(maxlen=maxsize)
        self._lost = lost
        self._leave = leave
        self._arrived = asyncio.Event()
        for item in missed:
            self.offer(item)
        if lost:
            self._arrived.set()

    def offer(self, item: Numbered) -> None:
        """Take an event in; the oldest one is lost when the queue is full."""
        if len(self._waiting) == self._waiting.maxlen:
            self._lost += 1
        self._waiting.append(item)
        self._arrived.set()

    async def __anext__(self) -> Numbered:
        await self._arrived.wait()
        item = self._tell_lost() if self._lost else self._waiting.popleft()
        if not self._waiting and not self._lost:
            self._arrived.clear()
        return item

    def _tell_lost(self) -> Numbered:
        lost, self._lost = self._lost, 0
        first = self._waiting[0]
        return Numbered(first.id - 1, Event(LOST, first.event.time, {"count": lost}))

    def close(self) -> None:
        """Listen no longer. Idempotent."""
        self._leave(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
