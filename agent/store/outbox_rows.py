"""The rows of the outbox, as functions on a connection that callers combine in one transaction.

Each keeps the account exact: the counters change with the rows, on the same connection.
"""

import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent.errors import TooMany
from agent.store.account import (
    CLASSES,
    ClassCounts,
    OutboxCounts,
    Queued,
    charged,
    check,
    groups,
    lifetime,
)
from agent.store.connection import touch
from agent.types import Message, MessageClass

#: Makes one message of several of one topic, oldest first; None when they do not go together.
Merge = Callable[[Sequence[Message]], Message | None]

TABLE = "outbox"  # the name that listeners of commits see
TICK_S = 60.0  # seconds between steps of the outbox's clock; a message expires up to one late
FOLD = 8  # rows that thinning makes one of

_NUMBERS = {kind: number for number, kind in enumerate(CLASSES)}
_ESCALATION, _TELEMETRY = _NUMBERS["escalation"], _NUMBERS["telemetry"]
_INTO = (
    "INSERT OR IGNORE INTO outbox (id, class, topic, payload, size, created, expires, due) VALUES "
)
_VALUES = "(?, ?, ?, ?, ?, ?, ?, ?)"
_CHUNK = 32  # rows in one statement; a third faster than one by one
_INSERT = _INTO + _VALUES
_INSERT_CHUNK = _INTO + ", ".join([_VALUES] * _CHUNK)
_STANDING = """
    SELECT (SELECT rows FROM outbox_limits), (SELECT bytes FROM outbox_limits),
           sum(enqueued - delivered - evicted - expired - thinned - damaged), sum(bytes),
           (SELECT ifnull(max(seq), 0) FROM outbox), (SELECT seconds FROM outbox_clock)
    FROM outbox_counts
"""
_PENDING = """
    SELECT seq, due - (SELECT seconds FROM outbox_clock), id, topic, payload, created, expires
    FROM outbox WHERE class = ? AND seq > ? ORDER BY seq LIMIT ?
"""
_REMOVE = "DELETE FROM outbox WHERE id IN (SELECT value FROM json_each(?)) RETURNING class, size"
_EXPIRE = """
    DELETE FROM outbox WHERE due <= (SELECT seconds FROM outbox_clock) RETURNING class, size
"""
_COUNTS = """
    SELECT class, enqueued, delivered, evicted, expired, thinned, damaged,
           enqueued - delivered - evicted - expired - thinned - damaged, bytes
    FROM outbox_counts ORDER BY class
"""
_OF_LEVEL = """
    SELECT seq, size, due, id, topic, payload, created, expires
    FROM outbox WHERE class = ? AND level = ? AND seq > ? ORDER BY seq LIMIT ?
"""
_FOLD = """
    UPDATE outbox SET id = ?, payload = ?, size = ?, created = ?, expires = ?, due = ?, level = ?
    WHERE seq = ?
"""


def insert(connection: sqlite3.Connection, messages: Sequence[Message]) -> None:
    """Add rows within the caller's transaction, and keep the bound.

    A message whose id is queued already is left as it is, so that a producer may repeat. Over the
    bound the oldest telemetry goes, then the oldest reports, each counted; an escalation never.

    Raises:
        TooLarge: a payload or a topic is over its bound.
        TooMany: only escalations are left and they fill the outbox.
    """
    max_rows, max_bytes, rows, used, last, now = connection.execute(_STANDING).fetchone()
    added = _insert_rows(connection, [_row(message, now) for message in messages])
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


def expire(connection: sqlite3.Connection, elapsed_s: float) -> int:
    """Let the outbox's clock go on and take out what is worthless by then.

    Lifetimes run by a clock that only counts what the agent was awake for. It knows nothing of the
    wall clock, which may be wrong by years until a time server answers, and back.

    Args:
        connection: inside a transaction.
        elapsed_s: seconds of monotonic time since the last call.

    Returns:
        How many rows went.
    """
    connection.execute("UPDATE outbox_clock SET seconds = seconds + ?", (elapsed_s,))
    gone = _tally_rows(connection.execute(_EXPIRE))
    _count(connection, "expired = expired + ?, bytes = bytes - ?", gone)
    return sum(count for count, _ in gone.values())


def may_expire(connection: sqlite3.Connection) -> bool:
    """Whether there is a row that the clock could take."""
    return (
        connection.execute("SELECT 1 FROM outbox WHERE due IS NOT NULL LIMIT 1").fetchone()
        is not None
    )


@dataclass(frozen=True, slots=True)
class Folded:
    """What a step of thinning did.

    Attributes:
        seen: rows looked at.
        saved: rows fewer.
        last: `seq` of the newest aggregate; 0 when there is none.
    """

    seen: int
    saved: int
    last: int


def thin(
    connection: sqlite3.Connection, merge: Merge, level: int, after: int, limit: int
) -> Folded:
    """Fold old telemetry: of each topic, `FOLD` rows that follow one another become an aggregate.

    An aggregate takes the place of its last row, has an id of its own, is one level up and counts as
    enqueued; the rows count as thinned.

    Args:
        connection: inside a transaction; none of the rows may be in flight.
        merge: makes the aggregate.
        level: of the rows to fold; 0 are those that were never folded.
        after: rows with `seq` over this are looked at, oldest first.
        limit: how many.
    """
    rows = connection.execute(_OF_LEVEL, (_TELEMETRY, level, after, limit)).fetchall()
    keys = [(row[4], at) for at, row in enumerate(rows)]
    runs = [[rows[at] for at in group] for group in groups(keys, FOLD)]
    folded = [(_fold(connection, run, merge, level + 1), run[-1][0]) for run in runs]
    freed = [(size, seq) for size, seq in folded if size is not None]
    thinned = {_TELEMETRY: (FOLD * len(freed), sum(size for size, _ in freed))}
    _count(connection, "thinned = thinned + ?, bytes = bytes - ?", thinned)
    _count(connection, "enqueued = enqueued + ?, bytes = bytes + ?", {_TELEMETRY: (len(freed), 0)})
    last = max((seq for _, seq in freed), default=0)
    return Folded(len(rows), (FOLD - 1) * len(freed), last)


def is_over(connection: sqlite3.Connection, share: float) -> bool:
    """Whether the outbox holds more than this share of its bound."""
    max_rows, max_bytes, rows, used, *_ = connection.execute(_STANDING).fetchone()
    return bool(rows > share * max_rows or used > share * max_bytes)


def read_counts(connection: sqlite3.Connection) -> OutboxCounts:
    """The account as of the last commit."""
    rows = connection.execute(_COUNTS)
    return OutboxCounts({CLASSES[kind]: ClassCounts(*counts) for kind, *counts in rows})


def read_pending(
    connection: sqlite3.Connection, kind: MessageClass, after: int, limit: int, max_bytes: int
) -> list[Queued]:
    """The oldest rows of a class that came after `after`, up to a number and a size."""
    found: list[Queued] = []
    size = 0
    for seq, left_s, *columns in connection.execute(_PENDING, (_NUMBERS[kind], after, limit)):
        message = _message(kind, columns)
        found.append(Queued(seq, message, left_s))
        size += len(message.payload)
        if size >= max_bytes:
            break
    return found


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


def _row(message: Message, now: float) -> tuple[object, ...]:
    check(message)
    lives = lifetime(message)
    return (
        message.id,
        _NUMBERS[message.kind],
        message.topic,
        message.payload,
        charged(message),
        message.created,
        None if lives is None else message.expires,
        None if lives is None else now + lives + TICK_S,
    )


def _message(kind: MessageClass, columns: Sequence[Any]) -> Message:
    id_, topic, payload, created, expires = columns
    return Message(id_, kind, topic, payload, created, math.inf if expires is None else expires)


def _fold(
    connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]], merge: Merge, level: int
) -> int | None:
    """Put an aggregate in the place of rows; returns the bytes saved, None when they do not fit."""
    merged = merge([_message("telemetry", columns) for _, _, _, *columns in rows])
    if merged is None:
        return None
    seq, _, due, _, topic, *_ = rows[-1]
    size = charged(replace(merged, topic=topic))
    connection.executemany("DELETE FROM outbox WHERE seq = ?", [(row[0],) for row in rows[:-1]])
    expires = None if due is None else merged.expires
    columns = (merged.id, merged.payload, size, merged.created, expires, due, level, seq)
    connection.execute(_FOLD, columns)
    return sum(int(row[1]) for row in rows) - size


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
