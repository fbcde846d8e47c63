"""What can be read of the tables that need no account: rows move as they are, or not at all."""

import sqlite3
from collections.abc import Sequence

#: Table and the column it is ordered by. The first group holds one row, which the schema has put there.
TABLES = (
    ("twin", "one"),
    ("time_floor", "one"),
    ("audit_anchor", "one"),
    ("escalations", "seq"),
    ("feedback", "seq"),
    ("commands", "id"),
    ("audit", "seq"),
)


def copy_plain(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy what is readable within the caller's transaction; a table that is not there is passed over."""
    for table, key in TABLES:
        _copy(source, target, table, key)


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, table: str, key: str) -> None:
    """From the front up to the damage, then from the back up to it."""
    for order in ("ASC", "DESC"):
        try:
            for row in source.execute(f"SELECT * FROM {table} ORDER BY {key} {order}"):  # noqa: S608
                _put(target, table, row)
        except sqlite3.Error:
            continue
        return


def _put(target: sqlite3.Connection, table: str, row: Sequence[object]) -> None:
    """Tables are strict: a value of another type than its column's is damage, and the row is left out."""
    marks = ", ".join("?" * len(row))
    try:
        target.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)  # noqa: S608
    except sqlite3.Error:
        return
