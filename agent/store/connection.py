"""One SQLite connection as the store wants it, and SQLite's errors as the agent's own."""

import sqlite3
from pathlib import Path

from agent.errors import StorageFailed

_BUSY_TIMEOUT_S = 5.0  # another process (an inspection tool) may hold the lock for a moment
_CACHED_STATEMENTS = 128
_PRAGMAS = """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA journal_size_limit = 4194304;  -- bytes the log keeps after a checkpoint
    PRAGMA cache_size = -1024;            -- KiB
    PRAGMA foreign_keys = ON;
    PRAGMA trusted_schema = OFF;
"""

# Too big: nothing that the agent writes comes near a gigabyte, but a damaged length does.
_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG})
_HINTS = {
    sqlite3.SQLITE_FULL: "Free some space on the disk.",
    sqlite3.SQLITE_READONLY: "Make the directory writable for the agent's user.",
    sqlite3.SQLITE_CANTOPEN: "Check that the directory exists and is writable.",
    sqlite3.SQLITE_IOERR: "Check the disk; `dmesg` may say more.",
}


class Connection(sqlite3.Connection):
    """A connection that remembers which tables an operation touched.

    Attributes:
        touched: names of what was changed since the last commit; the writer hands them to listeners.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.touched: set[str] = set()


def connect(path: Path, *, read_only: bool = False) -> Connection:
    """Open `path` in autocommit mode with the store's settings; creates it unless `read_only`."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}",
        uri=True,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_CACHED_STATEMENTS,
        factory=Connection,
    )
    try:
        if not read_only:
            connection.executescript(_PRAGMAS)
    except BaseException:
        connection.close()
        raise
    return connection


def touch(connection: sqlite3.Connection, name: str) -> None:
    """Note that an operation changed `name`; listeners hear of it after the commit."""
    if isinstance(connection, Connection):
        connection.touched.add(name)


def is_corrupt(error: BaseException | None) -> bool:
    """Whether SQLite says that the file itself is damaged."""
    return isinstance(error, sqlite3.Error) and _primary(error) in _CORRUPT


def storage_failed(error: sqlite3.Error, path: Path) -> StorageFailed:
    """SQLite's error in the agent's words."""
    return StorageFailed(
        f"the database refused: {error}", where=str(path), hint=_HINTS.get(_primary(error), "")
    )


def _primary(error: sqlite3.Error) -> int:
    """SQLite's result code without its extension; 0 when the module itself raised."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
