"""Commands that were carried out, and the time before which none is current.

When a command is forgotten, the floor of time rises to its expiry, so that it cannot come again under
any clock: the table is bounded and the protection against repeats has no gap.
"""

import sqlite3
from dataclasses import dataclass

MAX_COMMANDS = (
    10_000  # remembered; over it those that expire first are forgotten, and the floor rises
)


@dataclass(frozen=True, slots=True)
class Done:
    """A command that was carried out.

    Attributes:
        id: chosen by the operator.
        name: what was to be done.
        digest: of what was signed, SHA-256 in hexadecimal.
        expires: wall time, as the operator said, seconds since the epoch.
        result: JSON, as it was answered.
    """

    id: str
    name: str
    digest: str
    expires: float
    result: bytes


def find(connection: sqlite3.Connection, id_: str) -> Done | None:
    """What became of the command of this id."""
    query = "SELECT id, name, digest, expires, result FROM commands WHERE id = ?"
    row = connection.execute(query, (id_,)).fetchone()
    return None if row is None else Done(*row)


def floor(connection: sqlite3.Connection) -> float:
    """Wall time before which nothing is current, seconds since the epoch.

    It rises only when commands are forgotten, so that a clock that was wrong for a while locks nobody
    out.
    """
    row = connection.execute("SELECT wall FROM time_floor").fetchone()
    return float(row[0]) if row else 0.0


def remember(connection: sqlite3.Connection, done: Done) -> None:
    """Note a command and its result; forget those over the bound, and with them their time."""
    connection.execute(
        "INSERT OR IGNORE INTO commands VALUES (?, ?, ?, ?, ?)",
        (done.id, done.name, done.digest, done.expires, done.result),
    )
    (count,) = connection.execute("SELECT count(*) FROM commands").fetchone()
    if count > MAX_COMMANDS:
        _forget(connection, count - MAX_COMMANDS)


def _forget(connection: sqlite3.Connection, count: int) -> None:
    """The ones that expire first; no command of their time is carried out any more."""
    gone = connection.execute(
        "DELETE FROM commands WHERE id IN (SELECT id FROM commands ORDER BY expires LIMIT ?) "
        "RETURNING expires",
        (count,),
    ).fetchall()
    latest = max(expires for (expires,) in gone)
    connection.execute("UPDATE time_floor SET wall = max(wall, ?)", (latest,))
