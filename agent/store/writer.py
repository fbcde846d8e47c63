"""The one thread that writes: whatever waits together is committed together.

While a commit waits for the disk, new operations gather; the next transaction takes all of them. So
one commit carries one operation on an idle device and hundreds on a busy one, without a timer.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent.errors import NotReady, StorageFailed
from agent.store.connection import Connection, is_corrupt, storage_failed

Operation = Callable[[sqlite3.Connection], Any]
Listener = Callable[[frozenset[str]], None]

MAX_GROUP = 1024  # operations in one transaction


class Job:
    """One operation, and the future of whoever waits for its commit."""

    __slots__ = ("error", "future", "loop", "operation", "result", "urgent")

    def __init__(
        self, operation: Operation, loop: asyncio.AbstractEventLoop, *, urgent: bool
    ) -> None:
        self.operation = operation
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.urgent = urgent
        self.result: Any = None
        self.error: BaseException | None = None

    def resolve(self) -> None:
        """Tell the waiter; runs in its event loop."""
        if self.future.done():
            return  # the waiter was cancelled; what it asked for is committed all the same
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Writer:
    """Runs operations on one connection, many to a transaction.

    Attributes:
        commits: transactions committed so far.
        operations: operations committed so far.
    """

    def __init__(
        self,
        connection: Connection,
        path: Path,
        *,
        linger_s: float,
        rebuild: Callable[[sqlite3.Error], Connection],
    ) -> None:
        """Start the thread.

        Args:
            connection: belongs to the writer from now on.
            path: names the file in errors.
            linger_s: how long a transaction without an urgent operation waits for company, seconds.
            rebuild: makes a sound connection when the file turns out to be damaged.
        """
        self.commits = 0
        self.operations = 0
        self._connection = connection
        self._path = path
        self._linger_s = linger_s
        self._rebuild = rebuild
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._listeners: list[Listener] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="store-write", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation, *, urgent: bool) -> asyncio.Future[Any]:
        """Queue an operation; the future resolves after the commit that holds it."""
        if self._closed:
            raise NotReady("the store is closed")
        job = Job(operation, asyncio.get_running_loop(), urgent=urgent)
        self._jobs.put(job)
        return job.future

    def listen(self, listener: Listener) -> None:
        """Call `listener` in the event loop after each commit, with the names of what it touched."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Commit what waits, then end the thread and the connection. Blocks. Idempotent."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        running = True
        while running:
            group, running = self._gather()
            if group:
                self._execute_surely(group)
                self._announce(group)
        self._connection.close()

    def _gather(self) -> tuple[list[Job], bool]:
        """The operations waiting now, at least one; False with the last ones before the end."""
        group: list[Job] = []
        job = self._jobs.get()
        while job is not None:
            group.append(job)
            try:
                job = self._next(group)
            except queue.Empty:
                return group, True
        return group, False

    def _next(self, group: Sequence[Job]) -> Job | None:
        if len(group) >= MAX_GROUP:
            raise queue.Empty
        if self._linger_s > 0 and len(group) == 1 and not group[0].urgent:
            return self._jobs.get(timeout=self._linger_s)
        return self._jobs.get_nowait()

    def _execute_surely(self, group: Sequence[Job]) -> None:
        """Whatever happens, the thread lives and every waiter is told."""
        try:
            self._execute(group)
        except Exception as error:  # noqa: BLE001 - it is raised where the operation was asked for
            self._roll_back()
            for job in group:
                job.error = job.error or error

    def _execute(self, group: Sequence[Job]) -> None:
        """Commit the group, or what of it can be committed."""
        try:
            self._commit(group)
        except sqlite3.Error as error:
            self._roll_back()
            if is_corrupt(error) and self._replace_connection(error):
                self._execute(group)
            elif len(group) > 1:
                for job in group:
                    self._execute([job])
            else:
                group[0].error = storage_failed(error, self._path)

    def _commit(self, group: Sequence[Job]) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        if len(group) == 1:
            self._run_alone(group[0])
        else:
            for job in group:
                self._run_among_others(job)
        if connection.in_transaction:
            connection.execute("COMMIT")
            self.commits += 1
            self.operations += len(group)

    def _run_alone(self, job: Job) -> None:
        job.error = None
        try:
            job.result = job.operation(self._connection)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked for the operation
            job.error = error
            self._connection.execute("ROLLBACK")

    def _run_among_others(self, job: Job) -> None:
        connection = self._connection
        job.error = None
        connection.execute("SAVEPOINT operation")
        try:
            job.result = job.operation(connection)
        except Exception as error:
            if not connection.in_transaction or is_corrupt(error):
                raise  # SQLite gave up the whole transaction
            connection.execute("ROLLBACK TO operation")
            job.error = self._translated(error)
        connection.execute("RELEASE operation")

    def _translated(self, error: Exception) -> Exception:
        return storage_failed(error, self._path) if isinstance(error, sqlite3.Error) else error

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # a failing disk; the next BEGIN says so to its caller

    def _replace_connection(self, error: sqlite3.Error) -> bool:
        """Whether a sound file now stands in the place of the damaged one."""
        self._connection.close()
        try:
            self._connection = self._rebuild(error)
        except (sqlite3.Error, OSError, StorageFailed):
            self._connection = Connection(":memory:")
            self._connection.close()  # every later operation fails, and says that it did
            return False
        return True

    def _announce(self, group: Sequence[Job]) -> None:
        touched = frozenset(self._connection.touched)
        self._connection.touched.clear()
        for loop in {job.loop for job in group}:
            jobs = [job for job in group if job.loop is loop]
            try:
                loop.call_soon_threadsafe(self._resolve, jobs, touched)
            except RuntimeError:
                continue  # the loop is gone, and with it whoever waited

    def _resolve(self, jobs: Sequence[Job], touched: frozenset[str]) -> None:
        for job in jobs:
            job.resolve()
        if touched:
            for listener in self._listeners:
                listener(touched)
