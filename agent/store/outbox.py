"""Whatever must reach the cloud, as rows, with the account of what became of every one of them.

The account is exact at any moment: enqueued = delivered + evicted + expired + damaged + queued, for
each class, because the counters change in the transaction that changes the rows.
"""

import asyncio
import json
import math
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from agent.errors import BadConfig, BadRequest, TooLarge, TooMany
from agent.store.connection import touch
from agent.store.db import Database
from agent.types import Message, MessageClass

CLASSES: tuple[MessageClass, ...] = ("escalation", "report", "telemetry")
MAX_PAYLOAD = 128 << 10  # bytes; the common limit of cloud brokers
MAX_TOPIC = 1024  # bytes of UTF-8
ROW_OVERHEAD = 150  # bytes that a row takes on the disk beside topic and payload, indexes included
_PAGED = 800  # bytes of topic and payload from which the rest of a page is often left empty
TABLE = "outbox"  # the name that listeners of commits see

_TOPIC = re.compile(r"[^+#\x00]+").fullmatch
_NUMBERS = {kind: number for number, kind in enumerate(CLASSES)}
_ESCALATION = _NUMBERS["escalation"]
_INTO = "INSERT OR IGNORE INTO outbox (id, class, topic, payload, size, created, expires) VALUES "
_VALUES = "(?, ?, ?, ?, ?, ?, ?)"
_CHUNK = 32  # rows in one statement; a third faster than one by one
_INSERT = _INTO + _VALUES
_INSERT_CHUNK = _INTO + ", ".join([_VALUES] * _CHUNK)
_STANDING = """
    SELECT (SELECT rows FROM outbox_limits), (SELECT bytes FROM outbox_limits),
           sum(enqueued - delivered - evicted - expired - damaged), sum(bytes),
           (SELECT ifnull(max(seq), 0) FROM outbox)
    FROM outbox_counts
"""
_PENDING = """
    SELECT seq, id, topic, payload, created, expires FROM outbox
    WHERE class = ? AND seq > ? ORDER BY seq LIMIT ?
"""
_REMOVE = "DELETE FROM outbox WHERE id IN (SELECT value FROM json_each(?)) RETURNING class, size"


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """How much the outbox may hold before the oldest telemetry makes room.

    Attributes:
        rows: messages.
        bytes: payloads, topics and what a row takes beside them.
    """

    rows: int = 1_000_000
    bytes: int = 256 << 20

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise BadConfig("must be at least 1", where="rows")
        if self.bytes < 2 * MAX_PAYLOAD:
            raise BadConfig("must hold at least one message of 128 KiB", where="bytes")


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """What became of the messages of one class since the device was set up.

    Attributes:
        enqueued: rows ever committed.
        delivered: acknowledged by the broker.
        evicted: made room for others.
        expired: became worthless before they could go.
        damaged: lost in a damaged file.
        queued: still here.
        bytes: charged for what is still here.
    """

    enqueued: int = 0
    delivered: int = 0
    evicted: int = 0
    expired: int = 0
    damaged: int = 0
    queued: int = 0
    bytes: int = 0

    def __add__(self, other: "ClassCounts") -> "ClassCounts":
        return ClassCounts(
            self.enqueued + other.enqueued,
            self.delivered + other.delivered,
            self.evicted + other.evicted,
            self.expired + other.expired,
            self.damaged + other.damaged,
            self.queued + other.queued,
            self.bytes + other.bytes,
        )


@dataclass(frozen=True, slots=True)
class OutboxCounts:
    """The account, by class.

    Attributes:
        by_class: one entry for each class, escalations first.
    """

    by_class: dict[MessageClass, ClassCounts]

    @property
    def total(self) -> ClassCounts:
        """All classes together."""
        return sum(self.by_class.values(), ClassCounts())


@dataclass(frozen=True, slots=True)
class Queued:
    """A row on its way out.

    Attributes:
        seq: order of arrival.
        message: what was enqueued.
    """

    seq: int
    message: Message


def check(message: Message) -> None:
    """Refuse what no broker would take.

    Raises:
        TooLarge: the payload or the topic is over its bound.
        BadRequest: the topic is empty or has characters that only filters may have.
    """
    if len(message.payload) > MAX_PAYLOAD:
        raise TooLarge(
            f"a payload of {len(message.payload)} bytes is over the bound of {MAX_PAYLOAD} bytes",
            where=message.topic,
        )
    if len(message.topic) > MAX_TOPIC or len(message.topic.encode()) > MAX_TOPIC:
        raise TooLarge(
            f"the topic is over the bound of {MAX_TOPIC} bytes", where=message.topic[:80]
        )
    if not _TOPIC(message.topic):
        raise BadRequest("cannot be the topic of a message", where=repr(message.topic[:80]))


def insert(connection: sqlite3.Connection, messages: Sequence[Message]) -> None:
    """Add rows within the caller's transaction, and keep the bound.

    A message whose id is queued already is left as it is, so that a producer may repeat. Over the
    bound the oldest telemetry goes, then the oldest reports, each counted; an escalation never.

    Raises:
        TooLarge: a payload or a topic is over its bound.
        TooMany: only escalations are left and they fill the outbox.
    """
    max_rows, max_bytes, rows, used, last = connection.execute(_STANDING).fetchone()
    added = _insert_rows(connection, [_row(message) for message in messages])
    new = _tally(messages) if added == len(messages) else _tally_since(connection, last)
    _count(connection, "enqueued = enqueued + ?, bytes = bytes + ?", new)
    rows += sum(count for count, _ in new.values())
    used += sum(size for _, size in new.values())
    if rows > max_rows or used > max_bytes:
        _make_room(connection, rows - max_rows, used - max_bytes)
    if new:
        touch(connection, TABLE)


def remove(connection: sqlite3.Connection, ids: Iterable[str], fate: str) -> int:
    """Take rows out and count them as `fate`; ids that are not there are passed over.

    Args:
        connection: inside a transaction.
        ids: of the messages.
        fate: delivered, evicted or expired.

    Returns:
        How many rows went.
    """
    gone = _tally_rows(connection.execute(_REMOVE, (json.dumps(list(ids)),)))
    _count(connection, f"{fate} = {fate} + ?, bytes = bytes - ?", gone)
    return sum(count for count, _ in gone.values())


def expire(connection: sqlite3.Connection, now: float) -> int:
    """Take out what is worthless by `now`; returns how many rows went."""
    gone = _tally_rows(
        connection.execute("DELETE FROM outbox WHERE expires <= ? RETURNING class, size", (now,))
    )
    _count(connection, "expired = expired + ?, bytes = bytes - ?", gone)
    return sum(count for count, _ in gone.values())


def read_counts(connection: sqlite3.Connection) -> OutboxCounts:
    """The account as of the last commit."""
    rows = connection.execute(
        "SELECT class, enqueued, delivered, evicted, expired, damaged, "
        "enqueued - delivered - evicted - expired - damaged, bytes FROM outbox_counts ORDER BY class"
    )
    return OutboxCounts({CLASSES[kind]: ClassCounts(*counts) for kind, *counts in rows})


def read_pending(
    connection: sqlite3.Connection, kind: MessageClass, after: int, limit: int, max_bytes: int
) -> list[Queued]:
    """The oldest rows of a class that came after `after`, up to a number and a size."""
    found: list[Queued] = []
    size = 0
    for seq, id_, topic, payload, created, expires in connection.execute(
        _PENDING, (_NUMBERS[kind], after, limit)
    ):
        end = math.inf if expires is None else expires
        found.append(Queued(seq, Message(id_, kind, topic, payload, created, end)))
        size += len(payload)
        if size >= max_bytes:
            break
    return found


class Outbox:
    """The outbox as the rooms above use it."""

    def __init__(self, database: Database, limits: OutboxLimits | None = None) -> None:
        self._db = database
        self._limits = limits or OutboxLimits()
        self._put: _Put | None = None
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

    async def expire(self, now: float) -> int:
        """Take out what is worthless by `now`, wall time in seconds; returns how many rows went."""
        return await self._db.write(lambda c: expire(c, now))

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
        """Pass the outcome of the commit on."""
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


def _insert_rows(connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> int:
    """Add the rows whose ids are new; returns how many those were."""
    whole = len(rows) - len(rows) % _CHUNK
    added = 0
    for start in range(0, whole, _CHUNK):
        values = [value for row in rows[start : start + _CHUNK] for value in row]
        added += connection.execute(_INSERT_CHUNK, values).rowcount
    if whole < len(rows):
        added += connection.executemany(_INSERT, rows[whole:]).rowcount
    return added


def _row(message: Message) -> tuple[object, ...]:
    check(message)
    return (
        message.id,
        _NUMBERS[message.kind],
        message.topic,
        message.payload,
        charged(message),
        message.created,
        None if message.expires == math.inf else message.expires,
    )


def charged(message: Message) -> int:
    """Bytes that a message counts against the bound: about what it takes on the disk."""
    size = len(message.payload) + len(message.topic)
    return size + ROW_OVERHEAD + (size // 3 if size > _PAGED else 0)


_Tally = dict[int, tuple[int, int]]  # class -> rows, bytes


def _tally(messages: Iterable[Message]) -> _Tally:
    return _tally_rows((_NUMBERS[message.kind], charged(message)) for message in messages)


def _tally_rows(rows: Iterable[tuple[int, int]]) -> _Tally:
    totals: _Tally = {}
    for kind, size in rows:
        count, total = totals.get(kind, (0, 0))
        totals[kind] = (count + 1, total + size)
    return totals


def _tally_since(connection: sqlite3.Connection, last: int) -> _Tally:
    """What an insert really added, when some of its ids were there already."""
    return _tally_rows(connection.execute("SELECT class, size FROM outbox WHERE seq > ?", (last,)))


def _count(connection: sqlite3.Connection, change: str, tally: _Tally) -> None:
    for kind, (count, size) in tally.items():
        connection.execute(
            f"UPDATE outbox_counts SET {change} WHERE class = ?",  # noqa: S608 - our own words
            (count, size, kind),
        )


def _make_room(connection: sqlite3.Connection, rows: int, size: int) -> None:
    """Evict the oldest of the least important class, until so many rows and bytes are gone."""
    for kind in range(len(CLASSES) - 1, _ESCALATION, -1):
        freed_rows, freed_bytes = _evict(connection, kind, rows, size)
        rows, size = rows - freed_rows, size - freed_bytes
        if rows <= 0 and size <= 0:
            return
    raise TooMany(
        "the outbox is full of escalations that no broker has taken",
        hint="Restore the connection to the broker, or raise the bound of the outbox.",
        retry_after_s=60.0,
    )


def _evict(connection: sqlite3.Connection, kind: int, rows: int, size: int) -> tuple[int, int]:
    count = total = last = 0
    for seq, charge in connection.execute(
        "SELECT seq, size FROM outbox WHERE class = ? ORDER BY seq", (kind,)
    ):
        if count >= rows and total >= size:
            break
        count, total, last = count + 1, total + charge, seq
    connection.execute("DELETE FROM outbox WHERE class = ? AND seq <= ?", (kind, last))
    _count(connection, "evicted = evicted + ?, bytes = bytes - ?", {kind: (count, total)})
    return count, total
