"""The database: one writer, one reader, and a file that is sound when it is open."""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from agent.clock import Clock
from agent.errors import NotReady, StorageFailed
from agent.store.connection import Connection, connect, is_corrupt, storage_failed
from agent.store.salvage import Salvage, check_whole, open_sound, rebuild
from agent.store.writer import Listener, Writer

T = TypeVar("T")

log = logging.getLogger(__name__)

_MAX_REBUILDS = 3  # in one run; a disk that damages faster than that needs a person


class Database:
    """The store's file, open.

    Attributes:
        path: the file.
        clock: of the agent.
        salvage: what was done about a damaged file, None when it was sound.
    """

    def __init__(
        self,
        path: Path,
        connection: Connection,
        salvage: Salvage | None,
        clock: Clock,
        linger_s: float,
    ) -> None:
        self.path = path
        self.salvage = salvage
        self.clock = clock
        self._rebuilds = 0
        self._reader: Connection | None = None
        self._reader_lock = threading.Lock()
        self._reads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-read")
        self._writer = Writer(connection, path, linger_s=linger_s, rebuild=self._rebuild)
        self._closed = False

    @classmethod
    def open(cls, path: Path, *, clock: Clock, linger_s: float = 0.0) -> "Database":
        """Open the file, made and migrated as needed; a damaged one is set aside and rebuilt.

        Args:
            path: the file; its directory must exist.
            clock: names what is set aside by its wall time.
            linger_s: how long a transaction without an urgent operation waits for company, seconds.
                Every commit costs a flash card a block; 0 commits as soon as the disk is free.

        Raises:
            StorageFailed: the directory is missing or not writable, or a newer agent made the file.
        """
        try:
            connection, salvage = open_sound(path, clock)
        except sqlite3.Error as error:
            raise storage_failed(error, path) from error
        except OSError as error:
            raise StorageFailed(
                f"cannot open the database: {error.strerror}",
                where=str(path),
                hint="Check that the directory exists and is writable.",
            ) from error
        if salvage is not None:
            _report(salvage)
        return cls(path, connection, salvage, clock, linger_s)

    @property
    def commits(self) -> int:
        """Transactions committed since the start."""
        return self._writer.commits

    async def write(
        self, operation: Callable[[sqlite3.Connection], T], *, urgent: bool = False
    ) -> T:
        """Run `operation` in a transaction; returns its result after the commit is on the disk.

        Operations waiting together share one commit. One that raises is undone alone, and its error
        comes back here. An operation may be run again when its group failed, so it must not change
        anything but the database.

        Raises:
            StorageFailed: the disk is full, read-only or failing; nothing was written.
            NotReady: the database is closed.
        """
        result: T = await self.write_nowait(operation, urgent=urgent)
        return result

    def write_nowait(
        self, operation: Callable[[sqlite3.Connection], T], *, urgent: bool = False
    ) -> "asyncio.Future[T]":
        """As `write`, for callers that wait later or not at all."""
        return self._writer.submit(operation, urgent=urgent)

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run `query` on the reader's connection; it sees every commit that has returned.

        Raises:
            StorageFailed: the file cannot be read.
            NotReady: the database is closed.
        """
        try:
            return await self._read_once(query)
        except StorageFailed as error:
            if not is_corrupt(error.__cause__):
                raise
        await self.write(check_whole)  # the writer meets the damage and rebuilds the file
        return await self._read_once(query)

    def on_commit(self, listener: Listener) -> None:
        """Call `listener` in the event loop after each commit, with what it touched."""
        self._writer.listen(listener)

    async def close(self) -> None:
        """Commit what waits and close the file. Idempotent."""
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._reads, self._drop_reader)
        await loop.run_in_executor(self._reads, self._writer.close)
        self._reads.shutdown(wait=False)

    async def _read_once(self, query: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise NotReady("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._reads, self._read, query)

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with self._reader_lock:
                if self._reader is None:
                    self._reader = connect(self.path, read_only=True)
                return query(self._reader)
        except sqlite3.Error as error:
            if is_corrupt(error):
                self._drop_reader()
            raise storage_failed(error, self.path) from error

    def _drop_reader(self) -> None:
        with self._reader_lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def _rebuild(self, error: sqlite3.Error) -> Connection:
        """In the writer's thread: the file turned out to be damaged."""
        self._rebuilds += 1
        if self._rebuilds > _MAX_REBUILDS:
            raise StorageFailed("the database was damaged again and again", where=str(self.path))
        self._drop_reader()
        self.salvage = rebuild(self.path, self.clock, str(error))
        _report(self.salvage)
        return connect(self.path)


def _report(salvage: Salvage) -> None:
    log.error(
        "the database was damaged (%s): %d messages and %d stream states were saved, %s messages lost; "
        "the damaged file is %s",
        salvage.reason,
        salvage.messages,
        salvage.streams,
        "an unknown number of" if salvage.lost is None else salvage.lost,
        salvage.set_aside,
    )
