"""Whatever must reach the cloud, with the account of what became of every message.

The account is exact at any moment: enqueued = delivered + evicted + expired + thinned + damaged +
queued, for each class, because the counters change in the transaction that changes the rows.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from agent.store.account import (
    CLASSES,
    MAX_PAYLOAD,
    MAX_TOPIC,
    ClassCounts,
    OutboxCounts,
    OutboxLimits,
    Queued,
    charged,
    check,
)
from agent.store.db import Database
from agent.store.outbox_rows import (
    TABLE,
    Merge,
    expire,
    insert,
    is_over,
    may_expire,
    read_counts,
    read_pending,
    remove,
    thin,
)
from agent.types import Message, MessageClass

__all__ = [
    "CLASSES",
    "MAX_PAYLOAD",
    "MAX_TOPIC",
    "ClassCounts",
    "Outbox",
    "OutboxCounts",
    "OutboxLimits",
    "Queued",
    "charged",
    "check",
    "insert",
    "read_counts",
    "read_pending",
    "remove",
]

THIN_FROM = 0.5  # share of the bound over which old telemetry is folded
_THIN_ROWS = 1000  # looked at in one transaction
_MOST_THIN_ROWS = 64_000  # where so many streams take turns
_LEVELS = 6  # 8 to the 6th summaries in one are the coarsest


class Outbox:
    """The outbox as the rooms above use it."""

    def __init__(self, database: Database, limits: OutboxLimits | None = None) -> None:
        self._db = database
        self._limits = limits or OutboxLimits()
        self._put: _Put | None = None
        self._ticked = database.clock.monotonic()
        self._folded_to = [0] * _LEVELS  # `seq` up to which each level was folded in this run
        self._news: set[Callable[[], None]] = set()
        database.on_commit(self._committed)

    async def start(self) -> None:
        """Let the bound take effect; what is over it already makes room now."""
        limits = self._limits

        def apply(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE outbox_limits SET rows = ?, bytes = ?", (limits.rows, limits.bytes)
            )
            insert(connection, ())

        await self._db.write(apply)

    async def put(self, messages: Sequence[Message]) -> None:
        """Enqueue; returns when the rows are on the disk. Callers waiting together share one insert.

        Raises:
            TooLarge: a payload or a topic is over its bound; nothing of this call was enqueued.
            TooMany: only escalations are left and they fill the outbox.
            StorageFailed: the disk is full or failing; nothing was enqueued.
        """
        for message in messages:
            check(message)
        waiter = asyncio.get_running_loop().create_future()
        put = self._put
        if put is None or not put.add(messages):
            put = self._put = _Put(messages)
            committed = self._db.write_nowait(put.run, urgent=_urgent(messages))
            committed.add_done_callback(put.tell)
        put.waiters.append(waiter)
        await waiter

    async def pending(
        self, limit: int, *, kind: MessageClass, after: int = 0, max_bytes: int = 1 << 20
    ) -> list[Queued]:
        """The oldest rows of a class with `seq` over `after`: at most `limit`, about `max_bytes`."""
        return await self._db.read(lambda c: read_pending(c, kind, after, limit, max_bytes))

    async def lookup(
        self, wanted: Sequence[tuple[MessageClass, int, int]], max_bytes: int
    ) -> list[list[Queued]]:
        """As `pending`, for several classes at once: (class, after, limit) each."""
        return await self._db.read(
            lambda c: [read_pending(c, kind, after, n, max_bytes) for kind, after, n in wanted]
        )

    async def peek(self, limit: int = 20) -> list[Queued]:
        """The rows that would go next, most important class first; to look at, nothing changes."""
        found: list[Queued] = []
        for kind in CLASSES:
            if len(found) < limit:
                found += await self.pending(limit - len(found), kind=kind)
        return found

    async def delivered(self, ids: Iterable[str]) -> int:
        """Take out what the broker has acknowledged; returns how many rows were still there."""
        gone = list(ids)
        return await self._db.write(lambda c: remove(c, gone, "delivered"))

    async def expire(self) -> int:
        """Take out what outlived its worth; call it every minute. Returns how many rows went."""
        now = self._db.clock.monotonic()
        elapsed, self._ticked = now - self._ticked, now
        if not await self._db.read(may_expire):
            return 0
        return await self._db.write(lambda c: expire(c, elapsed))

    async def thin(self, merge: Merge) -> int:
        """Fold old telemetry while the outbox is more than half full.

        The finest goes first, oldest first, so that resolution is given up evenly. Call it only while
        nothing is in flight. Other writers get their turn between two steps.

        Returns:
            How many rows were saved.
        """
        saved, level, limit = 0, 0, _THIN_ROWS
        while level < _LEVELS and await self._db.read(partial(is_over, share=THIN_FROM)):
            after = self._folded_to[level]
            step = partial(thin, merge=merge, level=level, after=after, limit=limit)
            done = await self._db.write(step)
            saved += done.saved
            self._folded_to[level] = max(after, done.last)
            if done.saved:
                limit = _THIN_ROWS
            elif done.seen == limit < _MOST_THIN_ROWS:
                limit *= 2  # many streams: a run of one lies far apart
            else:
                level, limit = level + 1, _THIN_ROWS
        return saved

    async def counts(self) -> OutboxCounts:
        """The account as of the last commit."""
        return await self._db.read(read_counts)

    def on_new(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` in the event loop after each commit that added rows, whoever wrote them.

        Returns:
            What ends it.
        """
        self._news.add(listener)
        return lambda: self._news.discard(listener)

    def _committed(self, touched: frozenset[str]) -> None:
        if TABLE in touched:
            for listener in tuple(self._news):
                listener()


class _Put:
    """Messages of several producers on their way into one insert.

    Attributes:
        waiters: one future for each producer; only the event loop touches them.
    """

    def __init__(self, messages: Iterable[Message]) -> None:
        self.waiters: list[asyncio.Future[None]] = []
        self._messages = list(messages)
        self._lock = threading.Lock()
        self._taken = False

    def add(self, messages: Iterable[Message]) -> bool:
        """Join, unless the writer has begun."""
        with self._lock:
            if not self._taken:
                self._messages.extend(messages)
            return not self._taken

    def run(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            self._taken = True
        insert(connection, self._messages)

    def tell(self, committed: "asyncio.Future[None]") -> None:
        """Pass the outcome of the commit on; `run` was never called if it could not even begin."""
        with self._lock:
            self._taken = True
        error = committed.exception()
        for waiter in self.waiters:
            if waiter.done():
                continue  # cancelled; its messages are committed all the same
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)


def _urgent(messages: Iterable[Message]) -> bool:
    return any(message.kind != "telemetry" for message in messages)
