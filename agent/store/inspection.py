"""A look into a database file for people: what is in it, how large it is, what was set aside.

Reads only, beside a running agent too. sqlite-utils is loaded when somebody looks, and never by the
daemon.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agent.errors import NotFound
from agent.store import audit
from agent.store.connection import connect, storage_failed
from agent.store.migrate import user_version
from agent.store.outbox import CLASSES, OutboxCounts, Queued, read_counts, read_pending

_PEEK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class TableLook:
    """One table.

    Attributes:
        name: in the file.
        rows: how many it holds.
        columns: SQLite's types by name.
    """

    name: str
    rows: int
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Look:
    """What a database file holds.

    Attributes:
        path: the file.
        schema: version of its tables.
        bytes: what the file and its log take on the disk.
        tables: all of them, by name.
        counts: the outbox's account.
        next: the messages that would go next, most important first.
        set_aside: damaged files that were kept, oldest first.
    """

    path: Path
    schema: int
    bytes: int
    tables: Sequence[TableLook]
    counts: OutboxCounts
    next: Sequence[Queued]
    set_aside: Sequence[Path]


def look(path: Path, *, peek: int = 20) -> Look:
    """Look into a database file without changing it.

    Args:
        path: the file; an agent may be running on it.
        peek: how many of the next messages to show.

    Raises:
        NotFound: there is no such file.
        StorageFailed: it cannot be read.
    """
    if not path.exists():
        raise NotFound(
            "there is no database yet", where=str(path), hint="Start the agent once: edge-agent run"
        )
    try:
        with closing(connect(path, read_only=True)) as connection:
            return Look(
                path=path,
                schema=user_version(connection),
                bytes=sum(file.stat().st_size for file in _files(path)),
                tables=_tables(connection),
                counts=read_counts(connection),
                next=_next(connection, peek),
                set_aside=sorted(path.parent.glob(f"{path.name}.corrupt-*Z")),
            )
    except sqlite3.Error as error:
        raise storage_failed(error, path) from error


def audit_verdict(path: Path) -> audit.Verdict:
    """Whether the log of what was decided and sent is as it was written.

    Raises:
        NotFound: there is no such file.
        StorageFailed: it cannot be read, or is of an agent that kept no log.
    """
    if not path.exists():
        raise NotFound("there is no database yet", where=str(path))
    try:
        with closing(connect(path, read_only=True)) as connection:
            return audit.verify(connection)
    except sqlite3.Error as error:
        raise storage_failed(error, path) from error


def _tables(connection: sqlite3.Connection) -> list[TableLook]:
    from sqlite_utils import Database

    database = Database(connection)
    return [
        TableLook(name, database[name].count, {c.name: c.type for c in database[name].columns})
        for name in sorted(database.table_names())
        if not name.startswith("sqlite_")
    ]


def _next(connection: sqlite3.Connection, limit: int) -> list[Queued]:
    found: list[Queued] = []
    for kind in CLASSES:
        found += read_pending(connection, kind, 0, limit - len(found), _PEEK_BYTES)
    return found


def _files(path: Path) -> list[Path]:
    return [file for file in (path, path.with_name(f"{path.name}-wal")) if file.exists()]
