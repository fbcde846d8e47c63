"""Damaged files: what can be read is saved, the rest is set aside and counted, the start goes on."""

import os
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import StorageFailed
from agent.store import audit, cases, commands, salvage, streams, twin
from agent.store.connection import connect
from agent.store.db import Database
from agent.store.migrate import migrate
from agent.store.outbox import Outbox, insert, read_counts, remove
from agent.types import Message
from tests.fakes.clock import FakeClock

ROWS = 400


def message(number: int) -> Message:
    kind = "escalation" if number % 10 == 0 else "telemetry"
    return Message(f"id-{number:06}", kind, "e/d/x/telemetry/s", bytes(300), 1.7e9)


def fill(path) -> None:
    """A file with 400 queued rows, 100 delivered ones and two stream states, and no log."""
    connection = connect(path)
    migrate(connection)
    insert(connection, [message(n) for n in range(ROWS + 100)])
    remove(connection, [f"id-{n:06}" for n in range(100)], "delivered")
    streams.save(connection, "pump-1", b"one")
    streams.save(connection, "pump-2", b"two")
    connection.close()


def checkpoint(path) -> None:
    """Move everything from the log to the file."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "agent.db"
    fill(path)
    return path


async def opened(path):
    """Open, check that it works, and give back what it says: salvage, counts, ids, streams."""
    database = Database.open(path, clock=FakeClock())
    outbox = Outbox(database)
    await outbox.start()
    await outbox.put([Message("new", "report", "e/d/x/report/s", b"", 0.0)])
    counts = (await outbox.counts()).total
    assert counts.enqueued == (
        counts.delivered
        + counts.evicted
        + counts.expired
        + counts.thinned
        + counts.damaged
        + counts.queued
    )
    ids = {row.message.id for row in await outbox.peek(1000)}
    assert len(ids) == counts.queued
    states = await database.read(streams.load_all)
    await database.close()
    return database.salvage, counts, ids, states


async def test_a_sound_file_is_left_alone(path):
    found, counts, _, states = await opened(path)
    assert found is None
    assert (counts.delivered, counts.queued, counts.damaged) == (100, ROWS + 1, 0)
    assert states == {"pump-1": b"one", "pump-2": b"two"}


@pytest.mark.parametrize("size", [1, 100, 511])
async def test_a_file_cut_to_almost_nothing_is_set_aside(path, size):
    os.truncate(path, size)
    found, counts, ids, _ = await opened(path)
    assert found is not None
    assert found.set_aside.stat().st_size == size
    assert (found.messages, found.lost) == (0, None)
    assert ids == {"new"}
    assert counts.enqueued == 1


async def test_a_file_full_of_zeros_is_set_aside_and_said_so(path, caplog):
    path.write_bytes(bytes(path.stat().st_size))
    found, _, ids, _ = await opened(path)
    assert "the database was damaged" in caplog.text
    assert str(found.set_aside) in caplog.text
    assert found is not None
    assert "does not begin" in found.reason
    assert ids == {"new"}


async def test_a_file_cut_in_half_gives_what_is_left(path):
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)
    found, counts, ids, _ = await opened(path)
    assert found is not None
    assert 0 < found.messages < ROWS
    assert found.lost == ROWS - found.messages == counts.damaged
    assert len(ids) == found.messages + 1


async def test_a_zeroed_page_costs_its_rows_and_no_others(path):
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(bytes(4096))
    found, counts, _, states = await opened(path)
    assert found is not None
    assert found.messages > ROWS * 0.8
    assert counts.damaged == ROWS - found.messages
    assert states == {"pump-1": b"one", "pump-2": b"two"}


async def test_an_empty_file_beside_a_log_is_damage_and_a_plain_empty_file_is_not(tmp_path):
    path = tmp_path / "agent.db"
    path.touch()
    assert (await opened(path))[0] is None
    path.write_bytes(b"")
    path.with_name("agent.db-wal").write_bytes(bytes(5000))
    assert (await opened(path))[0] is not None


async def test_rows_that_were_only_in_the_log_are_saved(tmp_path):
    """A crash leaves the newest commits in the log; a damaged page elsewhere must not cost them."""
    path, crashed = tmp_path / "agent.db", tmp_path / "crashed" / "agent.db"
    fill(path)
    connection = connect(path)
    insert(connection, [message(9000)])
    crashed.parent.mkdir()
    for suffix in ("", "-wal"):
        crashed.with_name(f"agent.db{suffix}").write_bytes(
            path.with_name(f"agent.db{suffix}").read_bytes()
        )
    connection.close()
    with crashed.open("r+b") as file:
        file.seek(crashed.stat().st_size // 2 // 4096 * 4096)
        file.write(bytes(4096))
    found, _, ids, _ = await opened(crashed)
    assert found is not None
    assert "id-009000" in ids


async def test_damage_met_while_running_is_salvaged_without_a_restart(path):
    """Rows of the last pages are read long after the start; a group commit meets the damage."""
    database = Database.open(path, clock=FakeClock())
    outbox = Outbox(database)
    await outbox.start()
    checkpoint(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    gone = await outbox.delivered([f"id-{n:06}" for n in range(ROWS + 100)])
    assert database.salvage is not None
    await outbox.put([message(9000)])
    counts = (await outbox.counts()).total
    assert counts.queued == 1
    assert gone + database.salvage.messages >= 0
    await database.close()


async def test_damage_that_only_a_reader_meets_is_salvaged_too(path):
    """The uplink looks rows up; it must not fail for ever because nobody writes to that page."""
    database = Database.open(path, clock=FakeClock())
    outbox = Outbox(database)
    await outbox.start()
    checkpoint(path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(bytes(4 * 4096))
    rows = await outbox.pending(1000, kind="telemetry")
    assert database.salvage is not None
    counts = (await outbox.counts()).by_class["telemetry"]
    assert 0 < len(rows) == counts.queued
    assert counts.damaged > 0
    await database.close()


async def test_damage_that_cannot_be_salvaged_fails_every_write_and_hangs_none(path):
    """A directory stands where the rebuilt file would go."""
    database = Database.open(path, clock=FakeClock())
    outbox = Outbox(database)
    await outbox.start()
    checkpoint(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    path.with_name("agent.db.rebuilding").mkdir()
    for _ in range(3):
        with pytest.raises(StorageFailed):
            await outbox.put([message(9000)])
    with pytest.raises(StorageFailed):
        await outbox.counts()
    await database.close()


@pytest.mark.parametrize("step", ["rebuilding", "rebuilt"])
async def test_a_power_cut_while_rebuilding_is_finished_at_the_next_start(path, step):
    """A half-made file is made anew; a complete one takes its place."""
    other = path.with_name("other.db")
    connection = sqlite3.connect(other, isolation_level=None)
    migrate(connection)
    insert(connection, [message(7)])
    connection.close()
    other.rename(path.with_name(f"agent.db.{step}"))
    _, _, ids, _ = await opened(path)
    assert (ids == {"id-000007", "new"}) == (step == "rebuilt")


async def test_only_the_last_damaged_files_are_kept(path):
    clock = FakeClock()
    for _ in range(5):
        path.write_bytes(bytes(8192))
        clock.advance(60)
        await Database.open(path, clock=clock).close()
    kept = sorted(p for p in path.parent.iterdir() if ".corrupt-" in p.name)
    assert len([p for p in kept if not p.name.endswith("-wal")]) == salvage.KEPT_ASIDE


MEMORY = Path("/dev/shm")  # no disk to wait for, where there is one


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_damage_keeps_the_agent_from_starting(data):
    """Random bytes, zeros and cuts anywhere: it opens, the account is exact, and it takes rows."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        damage_and_open(Path(directory) / "agent.db", data)


def damage_and_open(path, data) -> None:
    fill(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content) - 1))
        length = data.draw(st.sampled_from([1, 16, 512, 4096, 20000]))
        zeros = data.draw(st.booleans())
        content[start : start + length] = bytes(length) if zeros else os.urandom(length)
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path.write_bytes(content)
    if data.draw(st.booleans()):
        path.with_name("agent.db-wal").write_bytes(
            bytes(content[: data.draw(st.integers(1, 9000))])
        )
    connection, _ = salvage.open_sound(path, FakeClock())
    insert(connection, [message(9000)])
    counts = read_counts(connection).total
    (rows,) = connection.execute("SELECT count(*) FROM outbox").fetchone()
    assert rows == counts.queued
    connection.close()


async def test_cases_commands_and_the_log_move_with_the_rest(path):
    """An answer that a person gave, and a command that must not be done twice, outlive a bad page."""
    connection = connect(path)
    case = cases.Case("k-1", None, "r", "", "", "", "", 1.7e9, 1.7e9 + 60, b"{}")
    cases.open_case(connection, case)
    cases.answer(connection, "k-1", b"1", "desk", 1.7e9)
    commands.remember(connection, commands.Done("c-1", "ping", "d", 1.7e9, b"{}"))
    audit.append(connection, 1.7e9, "escalation.answered", {"id": "k-1"})
    twin.save_desired(connection, 4, b'{"log_level":"debug"}')
    connection.close()
    checkpoint(path)
    rebuilt = salvage.rebuild(path, FakeClock(), "a test says so")
    assert rebuilt.lost == 0
    connection = connect(path)
    assert cases.read(connection, "k-1").answer == b"1"
    assert commands.find(connection, "c-1") is not None
    assert twin.read(connection).version == 4
    assert audit.verify(connection) == audit.Verdict(1, None)
    connection.close()


def test_a_number_of_the_account_that_changed_is_noticed_and_mended(path):
    """To SQLite the page is sound; the rows say otherwise."""
    fill(path)
    connection = connect(path)
    connection.execute("UPDATE outbox_counts SET enqueued = enqueued - 1")
    connection.close()
    checkpoint(path)
    mended, found = salvage.open_sound(path, FakeClock())
    assert "does not agree" in found.reason
    counts = read_counts(mended).total
    (rows,) = mended.execute("SELECT count(*) FROM outbox").fetchone()
    assert rows == counts.queued
    mended.close()
