"""A real broker for each test, and links that are closed at its end."""

import asyncio

import pytest

from agent.clock import SystemClock
from agent.sync.link import Link, LinkSettings
from tests.support.broker import mosquitto


@pytest.fixture
def broker(tmp_path):
    with mosquitto(tmp_path / "mosquitto") as running:
        yield running


class Links:
    """Makes links that come back fast, and waits for what they do."""

    def __init__(self) -> None:
        self._made: list[Link] = []

    def make(self, *urls: str, will=None, **settings) -> Link:
        settings = {
            "client_id": "device-1", "backoff_min_s": 0.02, "backoff_max_s": 0.1, "connect_timeout_s": 5.0
        } | settings  # fmt: skip
        link = Link(LinkSettings(brokers=urls, **settings), clock=SystemClock(), will=will)
        self._made.append(link)
        link.start()
        return link

    async def close(self) -> None:
        for link in self._made:
            await link.close()


@pytest.fixture
async def links():
    made = Links()
    yield made
    await made.close()


async def until(condition, timeout_s: float = 20.0) -> None:
    """Wait for something that happens in the event loop."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the condition is not always an event
            await asyncio.sleep(0.005)
