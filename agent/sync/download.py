"""Retained messages by topic, over the link: how models come from the broker.

A broker does not say that it holds nothing under a topic. So what has not come is missing when the
connection has been silent for a while; as long as anything arrives, it is waited for. A connection
that ends is no failure: the link comes back, subscribes again, and the broker sends again what is
retained.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from agent.clock import Clock, SystemClock
from agent.errors import NotReachable
from agent.sync.link import Incoming, Link, LinkSettings

T = TypeVar("T")

WINDOW = 16  # topics asked for at once; two megabytes of chunks
ABSENT_S = 5.0  # of silence on a connection, after which what has not come is not there
GIVE_UP_S = 60.0  # without a connection, in one piece
_LOOK_S = 0.05  # between looks at what has arrived


class Download:
    """Fetches retained messages, several at once. Used in the link's event loop.

    Args:
        link: started by its owner.
        clock: for the two patiences.
        absent_s: silence after which a message is taken to be missing, seconds.
        give_up_s: longest time without a connection, seconds.
    """

    def __init__(
        self,
        link: Link,
        *,
        clock: Clock,
        absent_s: float = ABSENT_S,
        give_up_s: float = GIVE_UP_S,
    ) -> None:
        self._link = link
        self._clock = clock
        self._absent_s = absent_s
        self._give_up_s = give_up_s
        self._wanted: dict[str, asyncio.Task[bytes | None]] = {}

    async def get(self, topic: str) -> bytes | None:
        """The message that is retained under a topic; None when there is none.

        Raises:
            NotReachable: there was no connection for too long.
        """
        task = self._wanted.get(topic)
        if task is None:  # the same chunk may occur twice in a file
            task = asyncio.get_running_loop().create_task(self._get(topic))
            self._wanted[topic] = task
            task.add_done_callback(lambda _: self._wanted.pop(topic))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Ask for nothing more; whoever waits is cancelled. Idempotent."""
        tasks = list(self._wanted.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _get(self, topic: str) -> bytes | None:
        arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def handle(incoming: Incoming) -> None:
            incoming.ack()
            if not arrived.done():
                arrived.set_result(incoming.payload)

        self._link.subscribe(topic, handle)
        try:
            await self._wait(arrived)
        finally:
            self._link.unsubscribe(topic)
        return arrived.result() or None if arrived.done() else None

    async def _wait(self, arrived: "asyncio.Future[bytes]") -> None:
        """Until it has arrived, or the connection has been silent for long enough."""
        silent_since = alone_since = self._clock.monotonic()
        seen: tuple[bool, int] = (False, -1)
        while not arrived.done():
            await asyncio.wait([arrived], timeout=_LOOK_S)
            now, state = self._clock.monotonic(), (self._link.connected, self._link.received)
            if state != seen:
                seen, silent_since = state, now
            if self._link.connected:
                alone_since = now
                if now - silent_since >= self._absent_s:
                    return
            elif now - alone_since >= self._give_up_s:
                raise _no_connection(self._link)


def _no_connection(link: Link) -> NotReachable:
    """Why there is none, as an error of whoever needs one."""
    reason = link.reason
    if reason is None:
        return NotReachable("no broker answers", where=link.broker)
    return NotReachable(reason.message, where=reason.where or link.broker, hint=reason.hint)


class LinkThread:
    """A link on an event loop in a thread of its own, for programs that have no loop.

    A context manager: connects on entry, in the background, and says goodbye on exit.

    Args:
        settings: of the link.
        absent_s: as `Download`.
    """

    def __init__(self, settings: LinkSettings, *, absent_s: float = ABSENT_S) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mqtt", daemon=True)
        self.link = Link(settings, clock=SystemClock())
        self._download = Download(self.link, clock=SystemClock(), absent_s=absent_s)

    def __enter__(self) -> Self:
        self._thread.start()
        self._loop.call_soon_threadsafe(self.link.start)
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._download.close())
        self.run(self.link.close())
        self.run(_end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run it in the link's loop, and go on meanwhile."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it in the link's loop, and wait for it."""
        return self.submit(work).result()

    def fetch(self, topics: Iterable[str]) -> Iterator[bytes | None]:
        """Retained messages in the order asked for, the next ones on their way meanwhile.

        Raises:
            NotReachable: there was no connection for too long.
        """
        waiting: deque[Future[bytes | None]] = deque()
        try:
            for topic in topics:
                waiting.append(self.submit(self._download.get(topic)))
                if len(waiting) == WINDOW:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def connected(
    settings: LinkSettings,
    *,
    absent_s: float = ABSENT_S,
    prepare: Callable[[Link], None] | None = None,
) -> Iterator[LinkThread]:
    """A link in a thread, connected.

    Args:
        settings: of the link.
        absent_s: as `Download`.
        prepare: called with the link before it connects; what a session has kept comes before
            anybody could subscribe afterwards.

    Raises:
        NotReachable: no broker accepts it; said after the first failure, since somebody waits.
    """
    thread = LinkThread(settings, absent_s=absent_s)
    if prepare is not None:
        prepare(thread.link)
    with thread:
        thread.run(_first_connection(thread.link))
        yield thread


async def _first_connection(link: Link) -> None:
    while not link.connected:
        await asyncio.sleep(_LOOK_S)
        if link.state == "waiting":  # a fall-back to another version of MQTT does not wait
            raise _no_connection(link)


async def _end_tasks() -> None:
    """Whoever was interrupted while it waited left its work behind."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
