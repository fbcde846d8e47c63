"""Stream states: replaced, bounded, all of them back after a restart."""

import pytest

from agent.errors import TooLarge, TooMany
from agent.store import streams


async def test_the_last_state_of_each_stream_comes_back(database):
    for name, state in (("a", b"1"), ("b", b"2"), ("a", b"3")):
        await database.write(lambda c, n=name, s=state: streams.save(c, n, s))
    assert await database.read(streams.load_all) == {"a": b"3", "b": b"2"}


async def test_a_forgotten_stream_is_gone(database):
    await database.write(lambda c: streams.save(c, "a", b"1"))
    assert await database.write(lambda c: streams.forget(c, "a"))
    assert not await database.write(lambda c: streams.forget(c, "a"))
    assert await database.read(streams.load_all) == {}


@pytest.mark.parametrize(
    ("name", "size"), [("a", streams.MAX_STATE + 1), ("a" * (streams.MAX_NAME + 1), 1)]
)
async def test_a_state_or_name_over_its_bound_is_refused(database, name, size):
    await database.write(
        lambda c: streams.save(c, "a" * streams.MAX_NAME, bytes(streams.MAX_STATE))
    )
    with pytest.raises(TooLarge):
        await database.write(lambda c: streams.save(c, name, bytes(size)))


async def test_there_are_only_so_many_streams(database):
    def fill(connection):
        for number in range(streams.MAX_STREAMS):
            streams.save(connection, f"s{number}", b"x")

    await database.write(fill)
    await database.write(lambda c: streams.save(c, "s0", b"y"))
    with pytest.raises(TooMany):
        await database.write(lambda c: streams.save(c, "one more", b"x"))
