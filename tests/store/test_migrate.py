"""Migrations: all or nothing, and every released schema can still be opened."""

import sqlite3
from pathlib import Path

import pytest

from agent.errors import StorageFailed
from agent.store.connection import connect
from agent.store.migrate import migrate, user_version, versions
from agent.store.outbox import read_counts

FORMATS = Path(__file__).parent.parent / "formats" / "store"


def _dump(path):
    connection = sqlite3.connect(path)
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


def test_a_new_file_gets_the_newest_schema(tmp_path):
    connection = connect(tmp_path / "new.db")
    assert migrate(connection) == len(versions())
    assert user_version(connection) == len(versions())
    assert migrate(connection) == 0
    connection.close()


def test_versions_are_numbered_without_a_gap():
    assert [int(path.stem) for path in versions()] == list(range(1, len(versions()) + 1))


def test_a_failed_migration_leaves_the_file_byte_equal(tmp_path):
    path = tmp_path / "agent.db"
    connection = connect(path)
    migrate(connection)
    connection.execute("INSERT INTO stream_states VALUES ('pump', x'01')")
    connection.close()
    bytes_before, dump_before = path.read_bytes(), _dump(path)
    good = tmp_path / "9001.sql"
    good.write_text("CREATE TABLE more (x); DELETE FROM stream_states;")
    bad = tmp_path / "9002.sql"
    bad.write_text("CREATE TABLE even_more (x); INSERT INTO nowhere VALUES (1);")
    connection = connect(path)
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate(connection, [*versions(), good, bad])
    assert user_version(connection) == len(versions())
    connection.close()
    assert path.read_bytes() == bytes_before
    assert _dump(path) == dump_before


def test_missing_versions_run_in_order_in_one_transaction(tmp_path):
    for number in (1, 2):
        (tmp_path / f"900{number}.sql").write_text(f"CREATE TABLE t{number} (x);")
    path = tmp_path / "agent.db"
    connection = connect(path)
    migrate(connection)
    more = [*versions(), tmp_path / "9001.sql", tmp_path / "9002.sql"]
    assert migrate(connection, more) == 2
    assert user_version(connection) == len(versions()) + 2
    connection.close()


def test_a_file_of_a_newer_agent_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "agent.db"
    connection = connect(path)
    connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageFailed, match="newer edge-agent"):
        migrate(connection)
    assert user_version(connection) == 99
    connection.close()


@pytest.mark.parametrize("sample", sorted(FORMATS.glob("*.sql")), ids=lambda path: path.stem)
def test_every_released_schema_can_still_be_opened(tmp_path, sample):
    """Each sample is the dump of a database as that release left it: two rows queued, one delivered."""
    path = tmp_path / "agent.db"
    connection = sqlite3.connect(path)
    connection.executescript(sample.read_text(encoding="utf-8"))
    connection.close()
    connection = connect(path)
    migrate(connection)
    counts = read_counts(connection)
    assert counts.by_class["escalation"].queued == 1
    assert counts.by_class["telemetry"].queued == 1
    assert counts.total.enqueued == 3
    assert counts.total.delivered == 1
    assert connection.execute("SELECT topic FROM outbox WHERE class = 0").fetchone() == (
        "edge/d/press-1/escalation/018bcfe5-6800-7000-8000-000000000001",
    )
    connection.close()


def test_there_is_a_sample_of_every_schema():
    assert {path.stem[:4] for path in FORMATS.glob("*.sql")} == {p.stem for p in versions()}
