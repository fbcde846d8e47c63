"""The database: group commit, failures that stay with their operation, full disks."""

import asyncio
import os
import resource
import sqlite3
import subprocess
import threading

import pytest

from agent.errors import BadRequest, NotReady, StorageFailed
from agent.store import streams
from agent.store.db import Database


async def test_a_write_returns_what_the_operation_returned(database):
    def operation(connection):
        streams.save(connection, "pump", b"1")
        return "done"

    assert await database.write(operation) == "done"
    assert await database.read(streams.load_all) == {"pump": b"1"}


async def test_commits_are_full_sync_in_a_log(database):
    pragmas = await database.write(
        lambda c: [c.execute(f"PRAGMA {p}").fetchone()[0] for p in ("journal_mode", "synchronous")]
    )
    assert pragmas == ["wal", 2]


class Gate:
    """An operation that keeps the writer busy until it is let go."""

    def __init__(self, database):
        self._entered, self._open = threading.Event(), threading.Event()
        self._job = database.write_nowait(self._hold)

    async def entered(self):
        await asyncio.to_thread(self._entered.wait, 10)

    async def release(self):
        self._open.set()
        await self._job

    def _hold(self, connection):
        self._entered.set()
        self._open.wait(10)


async def test_operations_that_wait_together_share_a_commit(database):
    """While the first commit is held up, a hundred others gather, and one commit takes them all."""
    gate = Gate(database)
    await gate.entered()
    rest = [
        database.write_nowait(lambda c, n=n: streams.save(c, f"s{n}", b"x")) for n in range(100)
    ]
    before = database.commits
    await gate.release()
    await asyncio.gather(*rest)
    assert database.commits - before == 2
    assert len(await database.read(streams.load_all)) == 100


async def test_an_operation_that_fails_in_a_group_fails_alone(database):
    gate = Gate(database)
    await gate.entered()

    def refuse(connection):
        streams.save(connection, "half", b"x")
        raise BadRequest("no")

    def nonsense(connection):
        streams.save(connection, "half", b"x")
        connection.execute("SELECT * FROM nowhere")

    jobs = [
        database.write_nowait(operation)
        for operation in (
            lambda c: streams.save(c, "a", b"1"),
            refuse,
            nonsense,
            lambda c: streams.save(c, "b", b"2"),
        )
    ]
    await gate.release()
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(r) for r in results] == [type(None), BadRequest, StorageFailed, type(None)]
    assert await database.read(streams.load_all) == {"a": b"1", "b": b"2"}


@pytest.mark.parametrize("error", [BadRequest("no"), sqlite3.OperationalError("no")])
async def test_an_operation_that_fails_on_its_own_leaves_nothing(database, error):
    def operation(connection):
        streams.save(connection, "half", b"x")
        raise error

    with pytest.raises((BadRequest, StorageFailed)):
        await database.write(operation)
    assert await database.read(streams.load_all) == {}


async def test_what_sqlite_cannot_hold_fails_its_operation_and_not_the_writer(database):
    with pytest.raises(OverflowError):
        await database.write(lambda c: c.execute("SELECT ?", (1 << 70,)))
    await database.write(lambda c: streams.save(c, "a", b"1"))


async def test_a_cancelled_writer_does_not_hold_up_the_others(database):
    waiting = asyncio.create_task(database.write(lambda c: streams.save(c, "a", b"1")))
    await asyncio.sleep(0)
    waiting.cancel()
    await database.write(lambda c: streams.save(c, "b", b"2"))
    assert "b" in await database.read(streams.load_all)


async def test_a_linger_waits_for_company_but_not_with_an_urgent_operation(tmp_path, clock):
    database = Database.open(tmp_path / "slow.db", clock=clock, linger_s=30.0)
    async with asyncio.timeout(10):
        await database.write(lambda c: None, urgent=True)
        first = database.write_nowait(lambda c: streams.save(c, "a", b"1"))
        await asyncio.sleep(0.05)
        assert not first.done()
        await asyncio.gather(first, database.write(lambda c: streams.save(c, "b", b"2")))
        await database.close()


async def test_closing_commits_what_waits_and_later_calls_are_refused(tmp_path, clock):
    database = Database.open(tmp_path / "agent.db", clock=clock)
    last = database.write_nowait(lambda c: streams.save(c, "last", b"x"))
    await database.close()
    await database.close()
    await last
    with pytest.raises(NotReady):
        await database.write(lambda c: None)
    with pytest.raises(NotReady):
        await database.read(streams.load_all)
    again = Database.open(tmp_path / "agent.db", clock=clock)
    assert await again.read(streams.load_all) == {"last": b"x"}
    await again.close()


@pytest.mark.parametrize("damaged", [False, True])
async def test_nobody_else_may_read_the_file(tmp_path, clock, damaged):
    path = tmp_path / "agent.db"
    if damaged:
        path.write_bytes(bytes(8192))
    database = Database.open(path, clock=clock)
    await database.write(lambda c: streams.save(c, "a", b"1"))
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.glob("agent.db*")}
    await database.close()
    assert {mode for name, mode in modes.items() if ".corrupt" not in name} == {0o600}
    assert "agent.db-wal" in modes


async def test_a_missing_directory_is_a_storage_failure_with_a_hint(tmp_path, clock):
    with pytest.raises(StorageFailed, match="Check that the directory exists"):
        Database.open(tmp_path / "nowhere" / "agent.db", clock=clock)


def _fill(number: int):
    return lambda c: streams.save(c, f"s{number}", os.urandom(64 << 10))


async def _write_until_it_fails(database) -> int:
    for number in range(1000):
        try:
            await database.write(_fill(number))
        except StorageFailed:
            return number
    raise AssertionError("the disk never filled")


async def test_a_full_database_fails_the_write_and_nothing_else(database):
    """`max_page_count` makes SQLite say what it says on a full disk."""
    await database.write(lambda c: c.execute("PRAGMA max_page_count = 100").fetchone())
    written = await _write_until_it_fails(database)
    assert len(await database.read(streams.load_all)) == written
    await database.write(lambda c: c.execute("PRAGMA max_page_count = 100000").fetchone())
    await database.write(_fill(2000))


async def test_only_the_operation_too_large_for_the_disk_fails_in_a_group(database):
    await database.write(lambda c: c.execute("PRAGMA max_page_count = 60").fetchone())
    gate = Gate(database)
    await gate.entered()
    small = database.write_nowait(lambda c: streams.save(c, "small", b"x"))
    large = database.write_nowait(lambda c: streams.save(c, "large", bytes(1 << 20)))
    other = database.write_nowait(lambda c: streams.save(c, "other", b"x"))
    await gate.release()
    results = await asyncio.gather(small, large, other, return_exceptions=True)
    assert [isinstance(r, StorageFailed) for r in results] == [False, True, False]
    assert set(await database.read(streams.load_all)) == {"small", "other"}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB; needs root."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mount)],
        check=False,
        capture_output=True,
    )
    if done.returncode:
        pytest.skip("only root may mount a small disk")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


async def test_a_disk_that_is_really_full_fails_the_write_and_recovers(small_disk, clock):
    database = Database.open(small_disk / "agent.db", clock=clock)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(512 << 10))
    written = await _write_until_it_fails(database)
    assert len(await database.read(streams.load_all)) == written
    ballast.unlink()
    await database.write(_fill(2000))
    await database.close()
    again = Database.open(small_disk / "agent.db", clock=clock)
    assert again.salvage is None
    assert len(await again.read(streams.load_all)) == written + 1
    await again.close()


async def test_a_file_that_may_not_grow_fails_the_write(tmp_path, clock):
    """RLIMIT_FSIZE makes the kernel refuse in the middle of a write."""
    database = Database.open(tmp_path / "agent.db", clock=clock)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        written = await _write_until_it_fails(database)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(await database.read(streams.load_all)) == written
    await database.write(_fill(2000))
    await database.close()
