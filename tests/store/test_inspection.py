"""A look into the file: complete, harmless, and only then is sqlite-utils loaded."""

import subprocess
import sys

import pytest

from agent.errors import NotFound, StorageFailed
from agent.store import streams
from agent.store.inspection import look
from agent.store.migrate import versions
from agent.store.outbox import Outbox
from agent.types import Message


async def test_it_shows_tables_account_and_what_goes_next_beside_a_running_agent(database):
    outbox = Outbox(database)
    await outbox.start()
    await outbox.put(
        [
            Message(f"id-{n}", kind, f"t/{n}", b"{}", 0.0)
            for n, kind in enumerate(["telemetry", "escalation"])
        ]
    )
    await database.write(lambda c: streams.save(c, "pump", b"x"))
    seen = look(database.path)
    assert seen.schema == len(versions())
    assert seen.bytes > 4096
    tables = {table.name: table for table in seen.tables}
    assert {"outbox", "outbox_counts", "stream_states", "escalations", "audit"} <= set(tables)
    assert tables["outbox"].rows == 2
    assert tables["outbox"].columns["payload"] == "BLOB"
    assert [row.message.id for row in seen.next] == ["id-1", "id-0"]
    assert seen.counts.total.queued == 2
    assert seen.set_aside == []
    assert len(look(database.path, peek=1).next) == 1


def test_a_file_that_is_not_there_is_said_so_and_not_made(tmp_path):
    with pytest.raises(NotFound):
        look(tmp_path / "agent.db")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_an_error_in_words(tmp_path):
    path = tmp_path / "agent.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StorageFailed):
        look(path)


def test_the_store_itself_loads_neither_sqlite_utils_nor_paho():
    """Memory that a daemon must not pay for."""
    code = (
        "import sys, agent.store.db, agent.store.outbox, agent.store.inspection\n"
        "print([m for m in ('sqlite_utils', 'paho', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
