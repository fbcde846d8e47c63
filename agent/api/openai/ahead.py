"""An answer that a thread makes part by part and the event loop reads.

The thread goes ahead of the reader by a bounded number of parts; when the reader goes away, the model
stops.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing, suppress
from typing import Generic, TypeAlias, TypeVar

from agent.api.ports import ModelPort
from agent.engines.generation import Cancellation
from agent.errors import TooMany

AHEAD = 256  # parts that are made before the reader has taken them

P = TypeVar("P")

#: Makes the parts of an answer, until it is told that nobody wants them.
Source: TypeAlias = Callable[[Cancellation], Iterator[P]]


class Producers:
    """Answers under way, each with a thread of its own. Used from one event loop.

    Attributes:
        running: answers that are made or waited for.
    """

    def __init__(self, most: int, name: str) -> None:
        """At most so many at once; threads have the name."""
        self.running = 0
        self._most = most
        self._name = name
        self._threads: ThreadPoolExecutor | None = None

    async def parts(self, model: ModelPort, source: Source[P]) -> AsyncGenerator[P, None]:
        """The parts of an answer of a model; closing it stops the model.

        Raises:
            TooMany: too many answers are under way.
            AgentError: whatever the source raises.
        """
        if self.running >= self._most:
            raise TooMany(f"{self._most} answers are under way already")
        held = ExitStack()  # until the thread ends, also when another version takes over
        held.enter_context(model.hold())
        self.running += 1
        production = _Production(source)
        job = self._pool().submit(production.run)
        job.add_done_callback(lambda _: held.close())
        try:
            async for part in production.parts():
                yield part
        finally:
            production.cancellation.cancel()
            # The place is given back when the thread ends, not when its reader goes away.
            loop = asyncio.get_running_loop()
            job.add_done_callback(lambda _: _tell(loop, self._leave))

    def close(self) -> None:
        """Let the threads go. Idempotent."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _leave(self) -> None:
        self.running -= 1

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._most, thread_name_prefix=self._name)
        return self._threads


class _Production(Generic[P]):
    """One answer."""

    def __init__(self, source: Source[P]) -> None:
        self.cancellation = Cancellation()
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._parts: deque[P | Exception | None] = deque()
        self._room = threading.Semaphore(AHEAD)
        self.cancellation.then(self._unblock)

    def run(self) -> None:
        """Make the parts; called in a thread."""
        try:
            for part in self._source(self.cancellation):
                self._room.acquire()
                self._put(part)
                if self.cancellation():
                    return
        except Exception as error:  # noqa: BLE001 (the reader gets it)
            self._put(error)
        finally:
            self._put(None)

    async def parts(self) -> AsyncGenerator[P, None]:
        """What was made, as it comes."""
        while True:
            while self._parts:
                part = self._parts.popleft()
                if part is None:
                    return
                if isinstance(part, Exception):
                    raise part
                self._room.release()
                yield part
            self._news.clear()
            if not self._parts:
                await self._news.wait()

    def _unblock(self) -> None:
        self._room.release()

    def _put(self, part: P | Exception | None) -> None:
        self._parts.append(part)
        _tell(self._loop, self._news.set)


async def after(parts: AsyncGenerator[P, None]) -> AsyncGenerator[P, None]:
    """The same parts, once the first is there: what is refused is refused with a status of its own."""
    try:
        first = await anext(parts)
    except BaseException:
        await parts.aclose()
        raise
    return _from(first, parts)


async def _from(first: P, rest: AsyncGenerator[P, None]) -> AsyncGenerator[P, None]:
    async with aclosing(rest):
        yield first
        async for part in rest:
            yield part


def _tell(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody listens any more
        loop.call_soon_threadsafe(act)
