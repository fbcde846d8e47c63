"""Every broker that the documentation names: the outbox drains, and a broken connection is told.

Mosquitto is everywhere else in these tests; here are the others, as real as it.
"""

import asyncio
import contextlib
import json
import math

import pytest

from agent.cli.demo.cloud import Network, embedded_broker
from agent.clock import SystemClock
from agent.store.db import Database
from agent.store.outbox import Outbox, OutboxLimits
from agent.sync.settings import BrokerAddress, Will
from agent.sync.uplink import Uplink
from agent.types import Message
from tests.support.nats import nats_cluster
from tests.support.rabbitmq import rabbitmq
from tests.sync.conftest import until
from tools.fleet.receiver import Receiver

MESSAGES = 2_000
STATUS = "edge/d/pump-7/status"


def message(number: int, topic: str = "") -> Message:
    id_ = f"id-{number:06}"
    payload = json.dumps({"id": id_, "class": "telemetry"}).encode()
    topic = topic or f"edge/d/pump-7/telemetry/{number % 3}"
    return Message(id_, "telemetry", topic, payload, 0.0, math.inf)


class Device:
    """An outbox and its uplink, over a real link."""

    def __init__(self, path, link) -> None:
        self.link = link
        self.database = Database.open(path, clock=SystemClock())
        self.outbox = Outbox(self.database, OutboxLimits())
        self.uplink = Uplink(self.outbox, link, clock=SystemClock())

    async def start(self) -> None:
        await self.outbox.start()
        self.uplink.start()

    async def drained(self) -> None:
        """Until every message is acknowledged, over as many connections as that takes."""
        async with asyncio.timeout(120):
            while (await self.outbox.counts()).total.queued:  # noqa: ASYNC110 - of another room
                await asyncio.sleep(0.05)

    async def settled(self, count: int) -> None:
        """Until so many are out of the table."""
        async with asyncio.timeout(20):
            while (await self.outbox.counts()).total.delivered < count:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)

    async def balance(self) -> int:
        total = (await self.outbox.counts()).total
        return total.enqueued - total.delivered - total.evicted - total.expired - total.queued

    async def close(self) -> None:
        await self.uplink.close()
        await self.database.close()


@contextlib.asynccontextmanager
async def device(path, link):
    made = Device(path, link)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


async def received(ledger, count: int) -> None:
    await until(lambda: ledger.unique >= count, 60)


async def test_a_nats_cluster_of_three_loses_a_node_and_nothing_else(tmp_path, links):
    with nats_cluster(tmp_path) as cluster:
        first, _, third = cluster.nodes
        link = links.make(*(node.url for node in cluster.nodes))
        with Receiver(third.url, "edge/d/+/telemetry/#") as receiver:
            async with device(tmp_path / "agent.db", link) as made:
                await made.outbox.put([message(n) for n in range(MESSAGES)])
                await until(lambda: receiver.ledger.unique >= MESSAGES // 10, 60)
                first.kill()  # the one that the device is connected to
                await made.outbox.put([message(n) for n in range(MESSAGES, 2 * MESSAGES)])
                await made.drained()
                assert link.protocol == "3.1.1"
                assert await made.balance() == 0
            await received(receiver.ledger, 2 * MESSAGES)
        assert receiver.ledger.ids == {f"id-{n:06}" for n in range(2 * MESSAGES)}


async def test_a_killed_nats_node_comes_back_and_takes_messages(tmp_path, links):
    with nats_cluster(tmp_path) as cluster:
        first, _, third = cluster.nodes
        link = links.make(first.url)
        with Receiver(third.url, "edge/d/+/telemetry/#") as receiver:
            async with device(tmp_path / "agent.db", link) as made:
                await until(lambda: link.connected, 30)
                first.kill()
                await made.outbox.put([message(n) for n in range(100)])
                await until(lambda: not link.connected, 30)
                assert receiver.ledger.unique == 0
                cluster.restart(first)
                await made.drained()
            await received(receiver.ledger, 100)


async def test_nats_hangs_up_at_a_topic_with_a_dot_and_everything_else_leaves(tmp_path, links):
    """It has no other way to refuse, and would do so at each connection for ever."""
    with nats_cluster(tmp_path) as cluster:
        link = links.make(cluster.nodes[0].url)
        dotted = message(0, "edge/d/pump.7/telemetry/x")
        with Receiver(cluster.nodes[0].url, "edge/d/+/telemetry/#") as receiver:
            async with device(tmp_path / "agent.db", link) as made:
                await made.outbox.put([dotted, *(message(n) for n in range(1, 101))])
                await received(receiver.ledger, 100)
                await until(lambda: link.connected)
                await made.settled(100)
                total = (await made.outbox.counts()).total
        assert (total.delivered, total.queued) == (100, 1)
        assert dotted.id not in receiver.ledger.ids


async def test_rabbitmq_is_killed_in_the_middle_and_nothing_is_lost(tmp_path, links):
    with rabbitmq(tmp_path) as broker:
        link = links.make(broker.url)
        with Receiver(broker.url, "edge/d/+/telemetry/#") as receiver:
            async with device(tmp_path / "agent.db", link) as made:
                await made.outbox.put([message(n) for n in range(MESSAGES)])
                await until(lambda: receiver.ledger.unique >= MESSAGES // 10, 60)
                await asyncio.to_thread(broker.kill)
                await made.outbox.put([message(n) for n in range(MESSAGES, 2 * MESSAGES)])
                await asyncio.to_thread(broker.start)
                await made.drained()
                assert link.protocol == "3.1.1"
                assert await made.balance() == 0
            await received(receiver.ledger, 2 * MESSAGES)
        assert receiver.ledger.ids == {f"id-{n:06}" for n in range(2 * MESSAGES)}


async def test_the_embedded_broker_takes_everything(tmp_path, links):
    async with embedded_broker() as (host, port):
        url = f"mqtt://{host}:{port}"
        link = links.make(url, protocol="3.1.1")
        receiver = Receiver(url, "edge/d/+/telemetry/#")
        await asyncio.to_thread(receiver.start)
        try:
            async with device(tmp_path / "agent.db", link) as made:
                await made.outbox.put([message(n) for n in range(200)])
                await made.drained()
                await received(receiver.ledger, 200)
                assert await made.balance() == 0
        finally:
            await asyncio.to_thread(receiver.close)


@pytest.fixture(params=["nats", "rabbitmq"])
def url(request, tmp_path):
    if request.param == "nats":
        with nats_cluster(tmp_path) as cluster:
            yield cluster.nodes[0].url
    else:
        with rabbitmq(tmp_path) as broker:
            yield broker.url


async def test_others_read_when_the_device_breaks_off(url, links):
    """The last will, retained where the broker keeps retained messages."""
    heard: list[bytes] = []
    watcher = links.make(url, client_id="watcher")
    watcher.subscribe(STATUS, lambda incoming: (heard.append(incoming.payload), incoming.ack()))
    await until(lambda: watcher.connected, 30)
    address = BrokerAddress.parse(url)
    network = Network(address.host, address.port)
    await network.mend()
    links.make(f"mqtt://127.0.0.1:{network.port}", client_id="pump-7", will=Will(STATUS))
    await until(lambda: b"online" in heard, 30)
    await network.cut()
    await until(lambda: heard[-1] == b"offline", 30)
    await network.mend()
    await until(lambda: heard[-1] == b"online", 30)
    await network.cut()
