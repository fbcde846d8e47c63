"""What was decided and sent, row by row, so that a row changed or taken out later is found.

Each row's hash covers its content and the hash before it. Rows beyond the bound are let go from the
oldest on; the anchor keeps the hash that the oldest remaining row builds on.
"""

import hashlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

MAX_ROWS = 50_000
_SLACK = 1000  # rows over the bound before any are let go: not one by one

_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at the whole chain found.

    Attributes:
        rows: that are there.
        broken: number of the first row that is not as it was written; None when all are.
    """

    rows: int
    broken: int | None


def append(
    connection: sqlite3.Connection, now: float, kind: str, detail: Mapping[str, Any]
) -> None:
    """Add a row within the caller's transaction.

    Args:
        connection: inside a transaction.
        now: wall time, seconds since the epoch.
        kind: dotted name of what happened.
        detail: JSON-serialisable; nothing in it may be more private than what is sent.
    """
    seq, before = _last(connection)
    data = _encode(detail)
    row = (seq + 1, now, kind, data)
    connection.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?)", (*row, _hash(before, *row)))
    _let_go(connection, seq + 1)


def verify(connection: sqlite3.Connection) -> Verdict:
    """Follow the chain from the anchor to its end."""
    seq, before = connection.execute("SELECT seq, hash FROM audit_anchor").fetchone()
    rows = 0
    for number, time, kind, data, found in connection.execute("SELECT * FROM audit ORDER BY seq"):
        seq, rows = seq + 1, rows + 1
        before = _hash(before, seq, time, kind, data)
        if number != seq or found != before:
            return Verdict(rows, seq)
    return Verdict(rows, None)


def _last(connection: sqlite3.Connection) -> tuple[int, bytes]:
    newest = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1"
    row = connection.execute(newest).fetchone()
    seq, found = row or connection.execute("SELECT seq, hash FROM audit_anchor").fetchone()
    return int(seq), bytes(found)


def _hash(before: bytes, seq: int, time: float, kind: str, data: bytes) -> bytes:
    head = _encode([seq, time, kind])
    return hashlib.sha256(before + head + data).digest()


def _let_go(connection: sqlite3.Connection, newest: int) -> None:
    (anchor,) = connection.execute("SELECT seq FROM audit_anchor").fetchone()
    if newest - anchor <= MAX_ROWS + _SLACK:
        return
    last = newest - MAX_ROWS
    connection.execute(
        "UPDATE audit_anchor SET (seq, hash) = (SELECT seq, hash FROM audit WHERE seq = ?)", (last,)
    )
    connection.execute("DELETE FROM audit WHERE seq <= ?", (last,))
