"""How many requests may be inside the daemon at once, and the threads that their work runs in.

What waits for a thread goes by its urgency; what waited beyond its deadline is not begun any more.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

from agent.api.urgency import USUAL, Line, Urgency
from agent.errors import TooMany, TooSlow
from agent.processors import usable

P = ParamSpec("P")
T = TypeVar("T")

MAX_THREADS = 4  # that run models at once, and that wait for one worker
MAX_APART = 16  # crews of threads that wait for workers, idle ones among them


@dataclass(slots=True)
class _Job:
    work: Callable[[], Any]
    told: "asyncio.Future[Any]"
    done: Callable[[], None]


class Crew:
    """Threads, and the line before them. Used from one event loop."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._line: Line[_Job] = Line()
        self._threads: ThreadPoolExecutor | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return self._free == self._size and not self._line

    @property
    def waiting(self) -> int:
        """Work that waits for a thread."""
        return len(self._line)

    def put(
        self, work: Callable[[], T], urgency: Urgency, done: Callable[[], None]
    ) -> "asyncio.Future[T]":
        """Have work done; `done` is called when it has ended, or is not begun at all."""
        told: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._line.add(_Job(work, told, done), urgency)
        self._go_on()
        return told

    def close(self) -> None:
        """Let the threads go. What still runs is waited for by nobody. Idempotent."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    def _go_on(self) -> None:
        """Give free threads to what waits."""
        loop = asyncio.get_running_loop()
        while self._free and self._line:
            job, late = self._line.next(loop.time())
            if job.told.cancelled() or late:
                job.done()
                if late and not job.told.done():
                    job.told.set_exception(TooSlow("the deadline passed while the request waited"))
                continue
            self._free -= 1
            run = self._pool().submit(job.work)
            run.add_done_callback(partial(self._tell, loop, job))

    def _tell(self, loop: asyncio.AbstractEventLoop, job: _Job, run: Future[Any]) -> None:
        """In the thread."""
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(self._ended, job, run)

    def _ended(self, job: _Job, run: Future[Any]) -> None:
        self._free += 1
        job.done()
        if not job.told.done():
            error = run.exception()
            if error is None:
                job.told.set_result(run.result())
            else:
                job.told.set_exception(error)
        self._go_on()

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="infer")
        return self._threads


class Admission:
    """Lets so many requests in; one more is refused at once. Used from one event loop.

    Attributes:
        running: requests that are inside.
    """

    def __init__(self, most: int) -> None:
        self.running = 0
        self._most = most
        self._crew = Crew(min(MAX_THREADS, usable()))
        self._apart: dict[Hashable, Crew] = {}

    @property
    def waiting(self) -> int:
        """Work that waits for a thread."""
        return self._crew.waiting + sum(crew.waiting for crew in self._apart.values())

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for as long as the context lasts.

        Raises:
            TooMany: every place is taken.
        """
        self._enter()
        try:
            yield
        finally:
            self._leave()

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in a thread, as one of at most so many requests.

        Raises:
            TooMany: every place is taken; and whatever the function raises.
        """
        return await self.admitted(partial(function, *args, **kwargs), USUAL)

    async def admitted(self, work: Callable[[], T], urgency: Urgency, apart: Hashable = None) -> T:
        """As `in_thread`, with an urgency.

        Args:
            work: to be done.
            urgency: of the request.
            apart: work that waits for somebody else, and for whom: it has threads of its own, so
                that a model that hangs keeps no other model waiting. None for work of the processor.

        Raises:
            TooSlow: the deadline passed before a thread was free.
        """
        self._enter()
        # The place is given back when the run ends, not when its caller goes away.
        return await self._crew_for(apart).put(work, urgency, self._leave)

    async def threaded(self, work: Callable[[], T], urgency: Urgency, apart: Hashable = None) -> T:
        """Run in a thread what belongs to requests that have their places already. As `admitted`."""
        return await self._crew_for(apart).put(work, urgency, _nothing)

    def close(self) -> None:
        """Let the threads go. What still runs is waited for by nobody. Idempotent."""
        for crew in (self._crew, *self._apart.values()):
            crew.close()

    def _crew_for(self, apart: Hashable) -> Crew:
        if apart is None:
            return self._crew
        crew = self._apart.get(apart)
        if crew is None:
            if len(self._apart) >= MAX_APART:
                self._forget_idle()
            crew = self._apart[apart] = Crew(MAX_THREADS)
        return crew

    def _forget_idle(self) -> None:
        for key in [key for key, crew in self._apart.items() if crew.idle]:
            self._apart.pop(key).close()

    def _enter(self) -> None:
        if self.running >= self._most:
            raise TooMany(f"{self._most} requests are under way already")
        self.running += 1

    def _leave(self) -> None:
        self.running -= 1


def _nothing() -> None:
    pass
