"""What is done about a damaged database file: save what can be read, set the rest aside, go on.

A power cut may leave a file truncated, full of zeros, or with a bad page. The rebuilt file is
complete under its own name before the damaged one moves, so that a second power cut at any step
leaves either the damaged file, to be salvaged again, or the rebuilt one.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent.clock import Clock
from agent.store.connection import Connection, connect, is_corrupt
from agent.store.migrate import migrate, user_version
from agent.store.salvage_plain import copy_plain

#: A number that a dying card changed is a sound page to SQLite.
_UNBALANCED = """
    SELECT count(*) FROM outbox_counts AS account
    WHERE enqueued - delivered - evicted - expired - thinned - damaged
        <> (SELECT count(*) FROM outbox WHERE outbox.class = account.class)
"""

CHECKED_BYTES = 32 << 20  # larger files are not read whole at start; damage is met when it is read
CLASSES = (0, 1, 2)  # escalation, report, telemetry, as the tables number them
KEPT_ASIDE = 2  # damaged files kept for a person to look at

_MAGIC = b"SQLite format 3\x00"
_MODE = 0o600
_HEADER = 100  # bytes
_SMALLEST = 512  # bytes; no SQLite file is smaller
_MOST = 1 << 48  # more rows or bytes than any device ever sees
_MOST_VERSIONS = 9999  # of the schema; the files' names have four digits
_NEEDED = (
    "SELECT count(*) FROM outbox_counts",
    "SELECT count(*) FROM outbox_limits",
    "SELECT count(*) FROM outbox_clock",
    "SELECT count(*) FROM (SELECT max(seq), min(seq) FROM outbox)",
    "SELECT count(*) FROM (SELECT 1 FROM stream_states LIMIT 1)",
)
_STRIDE_LIMIT = 1 << 20  # rows skipped at once while looking for the far side of the damage
_MAX_GAPS = 64  # damaged places worth going round

_SAVE = (
    "INSERT OR IGNORE INTO outbox (id, class, topic, payload, size, created, expires, due, level) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_READ_FROM = (
    "SELECT seq, id, class, topic, payload, size, created, expires, due, level "
    "FROM outbox NOT INDEXED WHERE seq > ? ORDER BY seq"
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
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter from a damaged schema
        if isinstance(error, sqlite3.Error) and not is_corrupt(error):
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
    _create(building)
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
    _create(path)
    connection = connect(path)
    try:
        _check_version(connection)
        migrate(connection)
        _check_inside(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _create(path: Path) -> None:
    """Messages are nobody else's business; SQLite gives the log the mode of the file."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, _MODE))


def _check_outside(path: Path) -> None:
    """What SQLite itself would take for an empty database and write over."""
    size = path.stat().st_size if path.exists() else 0
    log = _log(path)
    if size == 0 and log.exists() and log.stat().st_size > 0:
        raise _damaged("the file is empty but its log is not")
    if 0 < size < _SMALLEST:
        raise _damaged(f"the file was cut to {size} bytes")
    if size and not _is_header(_begin(path)):
        raise _damaged("the file does not begin as a database does")


def _begin(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEADER)


def _is_header(header: bytes) -> bool:
    """Whether the fields that never change are as SQLite writes them (file format, section 1.3).

    SQLite takes other values for a newer format: read-only, or an error that is none of damage.
    """
    return (
        header.startswith(_MAGIC)
        and header[18] in {1, 2}  # legacy or log, to write
        and header[19] in {1, 2}  # and to read
        and header[20:24] == b"\x00\x40\x20\x20"  # nothing reserved, payload fractions
        and int.from_bytes(header[44:48], "big") <= 4  # schema format
        and int.from_bytes(header[56:60], "big") <= 1  # UTF-8, or no table yet
        and not any(header[72:92])
    )


def _check_version(connection: sqlite3.Connection) -> None:
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    version = user_version(connection)
    if (tables > 0) != (version > 0) or version > _MOST_VERSIONS:
        raise _damaged(f"the file has {tables} tables but says that its schema is {version}")


def check_whole(connection: sqlite3.Connection) -> None:
    """Read every page.

    Raises:
        sqlite3.DatabaseError: the file is damaged.
    """
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise _damaged(str(verdict))
    if connection.execute(_UNBALANCED).fetchone()[0]:
        raise _damaged("the account does not agree with the rows")


def _check_inside(connection: sqlite3.Connection, path: Path) -> None:
    """Read what every start needs, and small files whole."""
    try:
        rows = [connection.execute(query).fetchone()[0] for query in _NEEDED]
        if path.stat().st_size <= CHECKED_BYTES:
            check_whole(connection)
    except sqlite3.Error as error:
        raise _damaged(str(error)) from error
    if rows[:3] != [len(CLASSES), 1, 1]:
        raise _damaged("the account is incomplete")


def _damaged(reason: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(reason)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _copy(path: Path, target: sqlite3.Connection) -> tuple[int, int | None, int]:
    """Copy all that can be read; returns messages saved, messages lost, stream states saved."""
    target.execute("BEGIN")
    with closing(sqlite3.connect(path, isolation_level=None)) as source:
        # With it SQLite reads what a file has, even when the header promises more.
        source.execute("PRAGMA writable_schema = ON")
        _copy_clock(source, target)
        messages = _copy_messages(source, target)
        lost = _copy_counts(source, target)
        streams = _copy_streams(source, target)
        copy_plain(source, target)
    target.execute("COMMIT")
    return messages, lost, streams


def _copy_clock(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Without it messages expire later than they should, which is the better side."""
    try:
        (seconds,) = source.execute("SELECT seconds FROM outbox_clock").fetchone() or (0.0,)
    except sqlite3.Error:
        return
    if isinstance(seconds, float) and 0 <= seconds < _MOST:
        target.execute("UPDATE outbox_clock SET seconds = ?", (seconds,))


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
                if _plausible(row):
                    yield tuple(row)
            return
        except sqlite3.Error:
            last, stride = last + stride, stride * 2


def _plausible(row: Sequence[object]) -> bool:
    """Whether the values are of the kinds that the table holds; damage makes others of them."""
    id_, kind, topic, payload, size, created, expires, due, level = row
    return (
        isinstance(id_, str)
        and kind in CLASSES
        and isinstance(topic, str)
        and isinstance(payload, bytes)
        and isinstance(size, int)
        and 0 < size < _MOST
        and isinstance(created, float)
        and (expires is None or isinstance(expires, float))
        and (due is None or isinstance(due, float))
        and isinstance(level, int)
    )


def _copy_counts(source: sqlite3.Connection, target: sqlite3.Connection) -> int | None:
    """Carry the counters over, with what was lost; None when they cannot be read."""
    saved = dict(target.execute("SELECT class, count(*) FROM outbox GROUP BY class").fetchall())
    target.execute(
        "UPDATE outbox_counts SET bytes = "
        "(SELECT ifnull(sum(size), 0) FROM outbox WHERE outbox.class = outbox_counts.class)"
    )
    try:
        rows = source.execute(
            "SELECT class, enqueued, delivered, evicted, expired, thinned, damaged FROM outbox_counts"
        ).fetchall()
    except sqlite3.Error:
        rows = []
    sane = all(isinstance(n, int) and 0 <= n < _MOST for row in rows for n in row)
    known = {kind for (kind,) in target.execute("SELECT class FROM outbox_counts")}
    if {row[0] for row in rows} != known or len(rows) != len(known) or not sane:
        target.executemany(
            "UPDATE outbox_counts SET enqueued = ? WHERE class = ?",
            [(count, kind) for kind, count in saved.items()],
        )
        return None
    return sum(_carry(target, row, saved.get(row[0], 0)) for row in rows)


def _carry(target: sqlite3.Connection, row: tuple[int, ...], saved: int) -> int:
    kind, enqueued, delivered, evicted, expired, thinned, damaged = row
    gone = delivered + evicted + expired + thinned + damaged
    lost = max(0, enqueued - gone - saved)
    target.execute(
        "UPDATE outbox_counts SET enqueued = ?, delivered = ?, evicted = ?, expired = ?, thinned = ?, "
        "damaged = ? WHERE class = ?",
        (gone + lost + saved, delivered, evicted, expired, thinned, damaged + lost, kind),
    )
    return lost


def _copy_streams(source: sqlite3.Connection, target: sqlite3.Connection) -> int:
    for query in _STREAMS:
        try:
            for stream, state in source.execute(query):
                if isinstance(stream, str) and isinstance(state, bytes):
                    target.execute(
                        "INSERT OR IGNORE INTO stream_states VALUES (?, ?)", (stream, state)
                    )
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
