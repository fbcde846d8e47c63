"""What was carried out is known, and what is forgotten cannot come again."""

from agent.store import commands
from agent.store.commands import Done


async def test_a_command_is_known_by_its_id(database):
    await database.write(lambda c: commands.remember(c, Done("c-1", "ping", "d", 100.0, b"{}")))
    assert await database.read(lambda c: commands.find(c, "c-1")) == Done(
        "c-1", "ping", "d", 100.0, b"{}"
    )
    assert await database.read(lambda c: commands.find(c, "c-2")) is None


async def test_forgotten_commands_raise_the_floor_of_time(database, monkeypatch):
    monkeypatch.setattr(commands, "MAX_COMMANDS", 2)
    for expires in (300.0, 100.0, 200.0):
        await database.write(
            lambda c, e=expires: commands.remember(c, Done(f"c-{e}", "ping", "d", e, b"{}"))
        )
    assert await database.read(commands.floor) == 100.0
    assert await database.read(lambda c: commands.find(c, "c-100.0")) is None
    assert await database.read(lambda c: commands.find(c, "c-300.0")) is not None
