"""How many requests may be inside the daemon at once, and the threads that their work runs in."""

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from agent.errors import TooMany

P = ParamSpec("P")
T = TypeVar("T")

MAX_THREADS = 4  # that run models at once


class Admission:
    """Lets so many requests in; one more is refused at once. Used from one event loop.

    Attributes:
        running: requests that are inside.
    """

    def __init__(self, most: int) -> None:
        self.running = 0
        self._most = most
        self._threads: ThreadPoolExecutor | None = None

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
        """Run a function in a thread, as one of at most so many.

        Raises:
            TooMany: every place is taken; and whatever the function raises.
        """
        loop = asyncio.get_running_loop()
        self._enter()
        job = self._pool().submit(function, *args, **kwargs)
        # The place is given back when the run ends, not when its caller goes away.
        job.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave))
        return await asyncio.wrap_future(job)

    def close(self) -> None:
        """Let the threads go. What still runs is waited for by nobody. Idempotent."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _enter(self) -> None:
        if self.running >= self._most:
            raise TooMany(f"{self._most} requests are under way already")
        self.running += 1

    def _leave(self) -> None:
        self.running -= 1

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            threads = min(MAX_THREADS, os.cpu_count() or 1)
            self._threads = ThreadPoolExecutor(threads, thread_name_prefix="infer")
        return self._threads
