"""A database in a scratch directory."""

import pytest

from agent.store.db import Database
from tests.fakes.clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def database(tmp_path, clock):
    opened = Database.open(tmp_path / "agent.db", clock=clock)
    yield opened
    await opened.close()
