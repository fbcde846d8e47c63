"""The log of what was decided and sent: changed or cut, it says so."""

import sqlite3

import pytest

from agent.store import audit


async def filled(database, rows: int = 5) -> None:
    def write(connection: sqlite3.Connection) -> None:
        for number in range(rows):
            audit.append(connection, 1.7e9 + number, "escalation.opened", {"id": f"e-{number}"})

    await database.write(write)


async def test_a_log_as_it_was_written_is_whole(database):
    await filled(database)
    assert await database.read(audit.verify) == audit.Verdict(5, None)


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE audit SET detail = CAST('{}' AS BLOB) WHERE seq = 3",
        "UPDATE audit SET time = 0.0 WHERE seq = 3",
        "UPDATE audit SET kind = 'harmless' WHERE seq = 3",
        "DELETE FROM audit WHERE seq = 3",
    ],
)
async def test_a_row_changed_or_taken_out_is_found(database, tampering):
    await filled(database)
    await database.write(lambda c: c.execute(tampering))
    assert (await database.read(audit.verify)).broken == 3


async def test_over_the_bound_the_oldest_go_and_the_rest_is_still_a_chain(database, monkeypatch):
    monkeypatch.setattr(audit, "MAX_ROWS", 20)
    monkeypatch.setattr(audit, "_SLACK", 5)
    await filled(database, 64)
    verdict = await database.read(audit.verify)
    assert 20 <= verdict.rows <= 25
    assert verdict.broken is None
    await database.write(
        lambda c: c.execute("DELETE FROM audit WHERE seq = (SELECT min(seq) FROM audit)")
    )
    assert (await database.read(audit.verify)).broken is not None
