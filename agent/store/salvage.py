"""What is done about a damaged database file: save what can be read, set the rest aside, go on.

A power cut may leave a file truncated, full of zeros, or with a bad page. The rebuilt file is
complete under its own name before the damaged one moves, so that a second power cut at any step
leaves either the damaged file, to be salvaged again, or the rebuilt one.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent.clock import Clock
from agent.store.connection import Connection, connect, is_corrupt
from agent.store.migrate import migrate

CHECKED_BYTES = 32 << 20  # larger files are not read whole at start; damage is met when it is read
KEPT_ASIDE = 2  # damaged files kept for a person to look at

_MAGIC = b"SQLite format 3\x00"
_SMALLEST = 512  # bytes; no SQLite file is smaller
_STRIDE_LIMIT = 1 << 20  # rows skipped at once while looking for the far side of the damage
_MAX_GAPS = 64  # damaged places worth going round

_SAVE = (
    "INSERT OR IGNORE INTO outbox (id, class, topic, payload, size, created, expires) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_READ_FROM = (
    "SELECT seq, id, class, topic, payload, size, created, expires FROM outbox NOT INDEXED "
    "WHERE seq > ? ORDER BY seq"
)
_STREAMS = (
    "SELECT stream, state FROM stream_states ORDER BY stream",
    "SELECT stream, state FROM stream_states ORDER BY stream DESC",  # up to the damage
)


@dataclass(frozen=True, slots=True)
class Salvage:
    """What became of a damaged file.

    Attributes:
        set_aside: where the damaged file is now.
        reason: what was wrong with it.
        messages: rows of the outbox that were saved.
        lost: rows of the outbox that were not; None when the file no longer says how many it held.
        streams: stream states that were saved.
    """

    set_aside: Path
    reason: str
    messages: int
    lost: int | None
    streams: int


def open_sound(path: Path, clock: Clock) -> tuple[Connection, Salvage | None]:
    """Open a file that may be new, old or damaged; it is sound and migrated afterwards.

    Raises:
        sqlite3.Error, OSError: no file can be opened or made there.
        StorageFailed: a newer agent made the file.
    """
    _finish(path)
    try:
        _check_outside(path)
        return _open(path), None
    except sqlite3.Error as error:
        if not is_corrupt(error):
            raise
        salvage = rebuild(path, clock, str(error))
    return _open(path), salvage


def rebuild(path: Path, clock: Clock, reason: str) -> Salvage:
    """Put a new file with everything that can be read in the place of a damaged one."""
    building, rebuilt, aside = (
        _sibling(path, "rebuilding"),
        _sibling(path, "rebuilt"),
        _aside(path, clock),
    )
    building.unlink(missing_ok=True)
    with closing(sqlite3.connect(building, isolation_level=None)) as target:
        migrate(target)
        messages, lost, streams = _copy(path, target)
    _sync(building)
    _keep(path, aside)
    building.replace(rebuilt)
    _sync(path.parent)
    _finish(path)
    return Salvage(aside, reason, messages, lost, streams)


def _open(path: Path) -> Connection:
    connection = connect(path)
    try:
        migrate(connection)
        _check_inside(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_outside(path: Path) -> None:
    """What SQLite itself would take for an empty database and write over."""
    size = path.stat().st_size if path.exists() else 0
    log = _log(path)
    if size == 0 and log.exists() and log.stat().st_size > 0:
        raise _damaged("the file is empty but its log is not")
    if 0 < size < _SMALLEST:
        raise _damaged(f"the file was cut to {size} bytes")
    if size and _begin(path) != _MAGIC:
        raise _damaged("the file does not begin as a database does")


def _begin(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_MAGIC))


def _check_inside(connection: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size > CHECKED_BYTES:
        connection.execute("SELECT * FROM outbox_counts").fetchall()
        connection.execute("SELECT max(seq), min(seq) FROM outbox").fetchall()
        return
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise _damaged(str(verdict))


def _damaged(reason: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(reason)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _copy(path: Path, target: sqlite3.Connection) -> tuple[int, int | None, int]:
    """Copy all that can be read; returns messages saved, messages lost, stream states saved."""
    target.execute("BEGIN")
    with closing(sqlite3.connect(path, isolation_level=None)) as source:
        messages = _copy_messages(source, target)
        lost = _copy_counts(source, target)
        streams = _copy_streams(source, target)
    target.execute("COMMIT")
    return messages, lost, streams


def _copy_messages(source: sqlite3.Connection, target: sqlite3.Connection) -> int:
    target.executemany(_SAVE, _readable(source))
    return int(target.execute("SELECT count(*) FROM outbox").fetchone()[0])


def _readable(source: sqlite3.Connection) -> Iterator[tuple[object, ...]]:
    """Every row of the outbox that can be read, going round damaged places."""
    last, stride, gaps = 0, 1, 0
    while gaps < _MAX_GAPS and stride <= _STRIDE_LIMIT:
        try:
            for seq, *row in source.execute(_READ_FROM, (last,)):
                gaps += stride > 1
                last, stride = seq, 1
                yield tuple(row)
            return
        except sqlite3.Error:
            last, stride = last + stride, stride * 2


def _copy_counts(source: sqlite3.Connection, target: sqlite3.Connection) -> int | None:
    """Carry the counters over, with what was lost; None when they cannot be read."""
    saved = dict(target.execute("SELECT class, count(*) FROM outbox GROUP BY class").fetchall())
    target.execute(
        "UPDATE outbox_counts SET bytes = "
        "(SELECT ifnull(sum(size), 0) FROM outbox WHERE outbox.class = outbox_counts.class)"
    )
    try:
        rows = source.execute(
            "SELECT class, enqueued, delivered, evicted, expired, damaged FROM outbox_counts"
        ).fetchall()
    except sqlite3.Error:
        rows = []
    if len(rows) != 3:  # as many as there are classes
        target.executemany(
            "UPDATE outbox_counts SET enqueued = ? WHERE class = ?",
            [(count, kind) for kind, count in saved.items()],
        )
        return None
    return sum(_carry(target, row, saved.get(row[0], 0)) for row in rows)


def _carry(target: sqlite3.Connection, row: tuple[int, ...], saved: int) -> int:
    kind, enqueued, delivered, evicted, expired, damaged = row
    lost = max(0, enqueued - delivered - evicted - expired - damaged - saved)
    total = delivered + evicted + expired + damaged + lost + saved
    target.execute(
        "UPDATE outbox_counts SET enqueued = ?, delivered = ?, evicted = ?, expired = ?, damaged = ? "
        "WHERE class = ?",
        (total, delivered, evicted, expired, damaged + lost, kind),
    )
    return lost


def _copy_streams(source: sqlite3.Connection, target: sqlite3.Connection) -> int:
    for query in _STREAMS:
        try:
            for row in source.execute(query):
                target.execute("INSERT OR IGNORE INTO stream_states VALUES (?, ?)", row)
        except sqlite3.Error:
            continue
        break
    return int(target.execute("SELECT count(*) FROM stream_states").fetchone()[0])


def _keep(path: Path, aside: Path) -> None:
    """Give the damaged file and its log a second name, and forget older ones."""
    for source, name in ((path, aside), (_log(path), _log(aside))):
        if source.exists():
            name.unlink(missing_ok=True)
            os.link(source, name)
    older = sorted(path.parent.glob(f"{path.name}.corrupt-*Z"))[:-KEPT_ASIDE]
    for stale in older:
        stale.unlink()
        _log(stale).unlink(missing_ok=True)


def _finish(path: Path) -> None:
    """Let a rebuilt file take its place; a step that a power cut may have left open."""
    rebuilt = _sibling(path, "rebuilt")
    if rebuilt.exists():
        # A log left behind would be replayed into the new file.
        _log(path).unlink(missing_ok=True)
        path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
        rebuilt.replace(path)
        _sync(path.parent)


def _aside(path: Path, clock: Clock) -> Path:
    moment = datetime.fromtimestamp(clock.wall(), UTC)
    return _sibling(path, f"corrupt-{moment:%Y%m%dT%H%M%S}Z")


def _sibling(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
