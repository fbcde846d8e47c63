"""The desired document and the count of reports, in the caller's transaction."""

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TwinRow:
    """What survives a restart.

    Attributes:
        version: of the desired document; 0 when there was none.
        desired: JSON object.
        reports: version of the newest reported document.
    """

    version: int
    desired: bytes
    reports: int


def read(connection: sqlite3.Connection) -> TwinRow:
    """The twin as of the last commit."""
    row = connection.execute("SELECT version, desired, reports FROM twin").fetchone()
    return TwinRow(*(row or (0, b"{}", 0)))


def save_desired(connection: sqlite3.Connection, version: int, desired: bytes) -> None:
    """Replace the desired document."""
    connection.execute(
        "INSERT INTO twin VALUES (1, ?, ?, 0) "
        "ON CONFLICT (one) DO UPDATE SET version = excluded.version, desired = excluded.desired",
        (version, desired),
    )


def next_report(connection: sqlite3.Connection) -> int:
    """Count a report; returns its version."""
    row = connection.execute("UPDATE twin SET reports = reports + 1 RETURNING reports").fetchone()
    return int(row[0])
