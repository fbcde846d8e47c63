"""Batches on the way out: fewer messages, the same rows, the same order, the same account."""

import asyncio
import json

import pytest

from agent.clock import SystemClock
from agent.errors import NotReachable
from agent.store.db import Database
from agent.store.outbox import Outbox
from agent.sync.batches import FEWEST, unpack
from agent.sync.uplink import Uplink
from tests.sync.conftest import until
from tests.sync.publishing import publish
from tests.sync.test_uplink import Stage, message
from tools.fleet.receiver import Receiver

MESSAGES = 300


@pytest.fixture
async def stage(tmp_path):
    made = Stage(tmp_path / "agent.db", batch_kib=64)
    await made.outbox.start()
    made.uplink.start()
    yield made
    await made.uplink.close()
    await made.database.close()


def by_topic(link) -> dict[str, list[str]]:
    """The ids that were sent, in order, by topic."""
    found: dict[str, list[str]] = {}
    for topic, payload in link.sent:
        found.setdefault(topic, []).extend(json.loads(line)["id"] for line in unpack(payload))
    return found


def expected(count: int, kind: str = "telemetry") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for number in range(count):
        found.setdefault(f"edge/d/x/{kind}/{number % 3}", []).append(f"id-{number:06}")
    return found


async def test_what_waited_goes_in_few_messages_in_order_and_is_counted_row_by_row(stage):
    await stage.outbox.put([message(n) for n in range(MESSAGES)])
    stage.link.connect()
    await stage.answer_all()
    assert by_topic(stage.link) == expected(MESSAGES)
    assert len(stage.link.sent) < MESSAGES / FEWEST
    counts = (await stage.outbox.counts()).total
    assert (counts.enqueued, counts.delivered, counts.queued) == (MESSAGES, MESSAGES, 0)
    assert ("application/x-ndjson", "zstd") in stage.link.contents


async def test_escalations_and_reports_are_never_batched_and_go_first(stage):
    await stage.outbox.put([message(n) for n in range(MESSAGES)])
    await stage.outbox.put([message(n, "escalation") for n in range(MESSAGES, MESSAGES + 20)])
    stage.link.connect()
    await stage.answer_all()
    first = [payload for topic, payload in stage.link.sent if "/escalation/" in topic]
    assert len(first) == 20
    assert [payload for _, payload in stage.link.sent[:10]] == first[:10]


async def test_few_messages_go_as_they_are(stage):
    stage.link.connect()
    await stage.outbox.put([message(n) for n in range(5)])
    await stage.answer_all()
    assert [payload[:1] for _, payload in stage.link.sent] == [b"{"] * 5


async def test_a_cut_sends_a_whole_batch_again_and_counts_nothing_twice(stage):
    await stage.outbox.put([message(n) for n in range(MESSAGES)])
    stage.link.connect()
    await until(lambda: stage.link.sent)
    stage.link.cut()
    counts = (await stage.outbox.counts()).total
    assert (counts.delivered, counts.queued) == (0, MESSAGES)
    stage.link.sent.clear()
    stage.link.connect()
    await stage.answer_all()
    assert by_topic(stage.link) == expected(MESSAGES)
    assert (await stage.outbox.counts()).total.delivered == MESSAGES


async def test_a_batch_that_the_broker_refuses_waits_as_a_whole(stage):
    await stage.outbox.put([message(n) for n in range(MESSAGES)])
    stage.link.connect()
    await until(lambda: stage.link.sent)
    stage.link.answer(1, NotReachable("no"))
    await until(lambda: len({topic for topic, _ in stage.link.sent}) == 3)
    stage.link.answer(100)
    await asyncio.sleep(0.05)
    counts = (await stage.outbox.counts()).total
    assert counts.enqueued == counts.delivered + counts.queued
    refused = stage.link.sent[0][0]
    assert not [topic for topic, _ in stage.link.sent[1:] if topic == refused]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_receiver_has_every_message_of_a_batch_once(broker, links, tmp_path, protocol):
    """Through a real broker, which also shows that topic aliases lead where they should."""
    database = Database.open(tmp_path / "agent.db", clock=SystemClock())
    outbox = Outbox(database)
    await outbox.start()
    await outbox.put([message(n) for n in range(MESSAGES)])
    came: list[tuple[str, str]] = []
    receiver = Receiver(
        broker.url, "edge/#", on_new=lambda t, p: came.append((t, json.loads(p)["id"]))
    )
    await asyncio.to_thread(receiver.start)
    link = links.make(broker.url, protocol=protocol, batch_kib=4)
    uplink = Uplink(outbox, link, clock=SystemClock())
    uplink.start()
    await until(lambda: len(came) >= MESSAGES)
    await uplink.close()
    await asyncio.to_thread(receiver.close)
    found: dict[str, list[str]] = {}
    for topic, id_ in came:
        found.setdefault(topic, []).append(id_)
    assert found == expected(MESSAGES)
    assert (await outbox.counts()).total.delivered == MESSAGES
    await database.close()


async def test_topics_that_are_used_again_are_shortened_and_arrive(broker, links):
    """More topics than the broker takes aliases, each several times."""
    came: list[tuple[str, bytes]] = []
    listener = links.make(broker.url, client_id="listener")
    listener.subscribe("t/#", lambda m: (came.append((m.topic, m.payload)), m.ack()))
    await until(lambda: listener.connected)
    await asyncio.sleep(0.1)
    link = links.make(broker.url)
    await until(lambda: link.connected)
    sent = [(f"t/{n % 25}/{'long' * 10}", b"%d" % n) for n in range(90)]
    answers = [publish(link, topic, payload) for topic, payload in sent]
    await until(lambda: all(answers) and len(came) == 90)
    assert came == sent
    assert link.connected
