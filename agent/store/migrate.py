"""Brings a database file to the newest schema, or leaves it as it was.

One file `schema/NNNN.sql` per version; SQLite's `user_version` says which ones a file has. All that
are missing run in one transaction.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from agent.errors import StorageFailed

SCHEMA_DIRECTORY = Path(__file__).with_name("schema")


def versions(directory: Path = SCHEMA_DIRECTORY) -> list[Path]:
    """The schema's files in order; the n-th (from 1) leads to version n."""
    return sorted(directory.glob("[0-9][0-9][0-9][0-9].sql"))


def user_version(connection: sqlite3.Connection) -> int:
    """How many of the schema's files the database has."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, files: Sequence[Path] | None = None) -> int:
    """Run what is missing; returns how many files that were.

    Raises:
        StorageFailed: the database was made by a newer agent.
        sqlite3.Error: a migration failed; the database is as it was.
    """
    files = versions() if files is None else files
    have = user_version(connection)
    if have > len(files):
        raise StorageFailed(
            f"the database has schema {have}, this agent knows {len(files)}",
            hint="Install the newer edge-agent again, or move the file away.",
        )
    if have < len(files):
        _run(connection, [file.read_text(encoding="utf-8") for file in files[have:]], len(files))
    return len(files) - have


def _run(connection: sqlite3.Connection, scripts: Sequence[str], version: int) -> None:
    try:
        connection.executescript(
            "BEGIN IMMEDIATE;\n"
            + "\n".join(scripts)
            + f"\nPRAGMA user_version = {version};\nCOMMIT;"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
