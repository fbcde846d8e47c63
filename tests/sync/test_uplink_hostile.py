"""The uplink against brokers that lose, reorder and repeat: the rows go, once for the account."""

import json

import pytest

from agent.clock import SystemClock
from agent.store.db import Database
from agent.store.outbox import Outbox
from agent.sync.uplink import Uplink
from tests.support.broker import ACCEPT_5, CONNECT, PINGREQ, PUBLISH, fake_broker, puback
from tests.sync.conftest import until
from tests.sync.test_uplink import message

MESSAGES = 40


@pytest.fixture
async def outbox(tmp_path):
    database = Database.open(tmp_path / "agent.db", clock=SystemClock())
    made = Outbox(database)
    await made.start()
    await made.put([message(n) for n in range(MESSAGES)])
    yield made
    await database.close()


def id_of(packet: bytes) -> str:
    return json.loads(packet[packet.index(b"{") :])["id"]


async def drained(outbox, url, links, **settings) -> None:
    """Everything is delivered, and every message counted once."""
    link = links.make(url, protocol="5", **settings)
    uplink = Uplink(outbox, link, clock=SystemClock())
    uplink.start()
    try:
        await until(lambda: uplink.delivered >= MESSAGES, 40)
    finally:
        await uplink.close()
    counts = (await outbox.counts()).total
    assert (counts.enqueued, counts.delivered, counts.queued) == (MESSAGES, MESSAGES, 0)


async def test_a_broker_that_drops_every_other_message_gets_all_of_them_in_the_end(outbox, links):
    taken: list[str] = []
    arrived = 0

    def take(packet: bytes) -> bytes:
        nonlocal arrived
        arrived += 1
        if arrived % 2:
            return b""  # as if it had never come
        taken.append(id_of(packet))
        return puback(packet)

    answers = {CONNECT: lambda _: ACCEPT_5, PUBLISH: take, PINGREQ: lambda _: b"\xd0\x00"}
    async with fake_broker(answers) as broker:
        await drained(outbox, broker.url, links, ack_timeout_s=0.2)
    assert set(taken) == {f"id-{n:06}" for n in range(MESSAGES)}


async def test_acknowledgements_out_of_order_twice_and_of_nothing_settle_each_row_once(
    outbox, links
):
    held: list[bytes] = []
    taken: list[str] = []

    def take(packet: bytes) -> bytes:
        held.append(puback(packet))
        taken.append(id_of(packet))
        if len(held) < 5:
            return b""
        acks = [ack for ack in reversed(held) for _ in range(2)]
        held.clear()
        return b"".join([b"\x40\x02\xff\xfe", *acks])

    answers = {CONNECT: lambda _: ACCEPT_5, PUBLISH: take, PINGREQ: lambda _: b"\xd0\x00"}
    async with fake_broker(answers) as broker:
        await drained(outbox, broker.url, links)
    assert taken == [f"id-{n:06}" for n in range(MESSAGES)]
