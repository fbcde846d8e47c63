"""What a task knows about each stream, kept as bytes that only the task understands."""

import sqlite3

from agent.errors import TooLarge, TooMany

MAX_STATE = 4 << 20  # bytes of one stream's state; 256 sensors need a third of it
MAX_STREAMS = 4096
MAX_NAME = 256  # characters


def save(connection: sqlite3.Connection, stream: str, state: bytes) -> None:
    """Replace a stream's state within the caller's transaction.

    Raises:
        TooLarge: the state or the name is over its bound.
        TooMany: the device knows as many streams as it may.
    """
    if len(state) > MAX_STATE or len(stream) > MAX_NAME:
        raise TooLarge(
            f"a state of {len(state)} bytes is over {MAX_STATE} bytes, "
            f"or its name over {MAX_NAME} characters",
            where=stream[:MAX_NAME],
        )
    updated = connection.execute(
        "UPDATE stream_states SET state = ? WHERE stream = ?", (state, stream)
    )
    if updated.rowcount == 0:
        _add(connection, stream, state)


def load_all(connection: sqlite3.Connection) -> dict[str, bytes]:
    """Every stream's last saved state."""
    return dict(connection.execute("SELECT stream, state FROM stream_states"))


def forget(connection: sqlite3.Connection, stream: str) -> bool:
    """Remove a stream's state; False when there was none."""
    return connection.execute("DELETE FROM stream_states WHERE stream = ?", (stream,)).rowcount > 0


def _add(connection: sqlite3.Connection, stream: str, state: bytes) -> None:
    (known,) = connection.execute("SELECT count(*) FROM stream_states").fetchone()
    if known >= MAX_STREAMS:
        raise TooMany(f"the device keeps the state of at most {MAX_STREAMS} streams", where=stream)
    connection.execute("INSERT INTO stream_states VALUES (?, ?)", (stream, state))
