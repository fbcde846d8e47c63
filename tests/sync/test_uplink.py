"""The uplink: everything goes once the link is up, once settled it is gone, and never before."""

import asyncio
import json
import math
import time

import pytest

from agent.errors import NotReachable
from agent.store.db import Database
from agent.store.outbox import Outbox, OutboxLimits, insert
from agent.store.outbox_rows import TICK_S
from agent.sync.queue import RETRY_REFUSED_S
from agent.sync.settings import LinkSettings
from agent.sync.uplink import Uplink
from agent.types import Message
from tests.fakes.clock import FakeClock
from tests.fakes.link import FakeLink
from tests.sync.conftest import until
from tools.fleet.receiver import Receiver

START = 1_700_000_000.0
TOPIC_OF_1 = "edge/d/x/telemetry/1"


def message(number: int, kind: str = "telemetry", expires: float = math.inf) -> Message:
    id_ = f"id-{number:06}"
    payload = json.dumps({"id": id_, "class": kind}).encode()
    return Message(id_, kind, f"edge/d/x/{kind}/{number % 3}", payload, START, expires)


def summary(number: int) -> Message:
    """Telemetry as pipelines write it."""
    id_ = f"id-{number:06}"
    body = {
        "id": id_, "device": "x", "time": "t", "class": "telemetry", "stream": "s", "model": "m 1.0.0",
        "from": f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z", "to": f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z",
        "phase": "watching", "progress": 1.0, "score": {"min": 0.1, "mean": 0.2, "max": 0.3},
        "windows": 10, "rows": 10, "readings": 80, "dropped": {},
    }  # fmt: skip
    return Message(id_, "telemetry", "edge/d/x/telemetry/s", json.dumps(body).encode(), START)


class Stage:
    """An outbox, a link that the test drives, and the uplink between them."""

    def __init__(self, path, window: int = 10, **settings) -> None:
        self.clock = FakeClock(START)
        self.database = Database.open(path, clock=self.clock)
        self.outbox = Outbox(self.database, OutboxLimits(rows=1000))
        self.link = FakeLink(window, LinkSettings(**settings))
        self.uplink = Uplink(self.outbox, self.link, clock=self.clock, retry_s=0.05)

    @property
    def sent(self) -> list[str]:
        return [json.loads(payload)["id"] for _, payload in self.link.sent]

    async def answer_all(self) -> None:
        """Acknowledge until the table is empty."""
        async with asyncio.timeout(20):
            while (await self.outbox.counts()).total.queued:
                self.link.answer(100)
                await asyncio.sleep(0.01)


@pytest.fixture
async def stage(tmp_path):
    made = Stage(tmp_path / "agent.db")
    await made.outbox.start()
    made.uplink.start()
    yield made
    await made.uplink.close()
    await made.database.close()


async def test_what_was_queued_before_goes_once_the_link_is_up(stage):
    await stage.outbox.put([message(n) for n in range(25)])
    assert stage.sent == []
    stage.link.connect()
    await stage.answer_all()
    assert stage.sent == [f"id-{n:06}" for n in range(25)]
    assert (await stage.outbox.counts()).total.delivered == 25


async def test_what_is_put_while_connected_goes_at_once(stage):
    stage.link.connect()
    await stage.outbox.put([message(1)])
    await until(lambda: stage.sent == ["id-000001"])
    await stage.database.write(lambda c: insert(c, [message(2)]))
    await until(lambda: len(stage.sent) == 2)


async def test_nothing_leaves_the_table_before_it_is_acknowledged(stage):
    await stage.outbox.put([message(n) for n in range(5)])
    stage.link.connect()
    await until(lambda: len(stage.sent) == 5)
    stage.link.answer(3)
    await until(lambda: stage.uplink.delivered == 3)
    await stage.uplink.close()
    counts = (await stage.outbox.counts()).total
    assert (counts.delivered, counts.queued) == (3, 2)


async def test_no_more_than_the_window_is_in_flight(stage):
    await stage.outbox.put([message(n) for n in range(50)])
    stage.link.connect()
    await until(lambda: len(stage.sent) == 10)
    await asyncio.sleep(0.05)
    assert len(stage.sent) == 10
    stage.link.answer(4)
    await until(lambda: len(stage.sent) == 14)


async def test_an_escalation_overtakes_telemetry(stage):
    await stage.outbox.put([message(n) for n in range(30)])
    stage.link.connect()
    await until(lambda: len(stage.sent) == 10)
    await stage.outbox.put([message(100, "escalation")])
    await asyncio.sleep(0.05)  # the look-up
    stage.link.answer(1)
    await until(lambda: len(stage.sent) == 11)
    assert stage.sent[-1] == "id-000100"


async def test_after_a_cut_only_what_was_not_acknowledged_goes_again_with_the_same_id(stage):
    await stage.outbox.put([message(n) for n in range(8)])
    stage.link.connect()
    await until(lambda: len(stage.sent) == 8)
    stage.link.answer(5)
    stage.link.cut()
    stage.link.connect()
    await until(lambda: len(stage.sent) == 11)
    assert stage.sent[8:] == [f"id-{n:06}" for n in (5, 6, 7)]
    await stage.answer_all()


async def test_a_refused_message_stays_and_is_tried_later_and_holds_nothing_up(stage, caplog):
    await stage.outbox.put([message(1), message(2)])
    stage.link.connect()
    await until(lambda: len(stage.sent) == 2)
    stage.link.answer(1, NotReachable("the broker refused the message: Not authorized (135)"))
    stage.link.answer(1)
    await until(lambda: "messages to edge/d/x/telemetry/1 stay queued" in caplog.text)
    await until(lambda: stage.uplink.delivered == 1)
    stage.clock.advance(RETRY_REFUSED_S)
    stage.uplink._retry()
    await until(lambda: stage.sent == ["id-000001", "id-000002", "id-000001"])
    await stage.answer_all()


async def test_a_cut_with_messages_in_flight_is_no_refusal(stage, caplog):
    """What is in flight when the connection breaks is neither logged one by one nor made to wait."""
    await stage.outbox.put([message(n) for n in range(10)])
    stage.link.connect()
    await until(lambda: len(stage.sent) == 10)
    stage.link.cut()
    assert caplog.text == ""
    stage.link.connect()
    await stage.answer_all()
    assert stage.sent[10:] == stage.sent[:10]


async def test_a_message_that_ends_every_connection_lets_the_others_pass(stage, caplog):
    """The broker closes at the second of ten; nothing that was sent with it had an answer."""
    await stage.outbox.put([message(n) for n in range(10)])
    for _ in range(10):
        stage.link.connect()
        await until(lambda: stage.link.unanswered)
        while stage.link.unanswered and stage.link.unanswered[0][0] != TOPIC_OF_1:
            stage.link.answer()
            await asyncio.sleep(0.01)
        if not stage.link.unanswered:
            break
        stage.link.cut()
    async with asyncio.timeout(10):
        while (await stage.outbox.counts()).total.delivered < 7:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await stage.outbox.counts()).total.queued == 3  # 1, 4 and 7, which share the topic
    assert f"hangs up at messages to {TOPIC_OF_1}" in caplog.text


async def test_what_outlived_its_worth_does_not_go_and_is_counted(stage):
    await stage.outbox.put(
        [message(1, expires=START + 10), message(2), message(3, expires=START + 999)]
    )
    stage.clock.advance(10 + TICK_S)
    stage.uplink._tick()
    async with asyncio.timeout(10):
        while not (await stage.outbox.counts()).total.expired:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    stage.link.connect()
    await until(lambda: len(stage.sent) == 2)
    await stage.answer_all()
    counts = (await stage.outbox.counts()).total
    assert (counts.delivered, counts.expired, counts.queued) == (2, 1, 0)
    assert stage.sent == ["id-000002", "id-000003"]


async def test_a_broker_is_told_how_long_a_message_is_worth_keeping(stage):
    await stage.outbox.put([message(1, expires=START + 3600), message(2)])
    stage.link.connect()
    await until(lambda: len(stage.link.expiries) == 2)
    assert stage.link.expiries == [pytest.approx(3600 + TICK_S), None]


async def test_telemetry_of_a_long_outage_is_folded_and_never_sent_twice(stage):
    """Rows that were acknowledged, or may be in flight, are not folded; aggregates go instead."""
    summaries = [summary(n) for n in range(600)]
    await stage.outbox.put(summaries)
    stage.link.connect()
    await until(lambda: len(stage.sent) == 10)
    stage.link.answer(4)
    stage.uplink._tick()  # connected: nothing is folded
    stage.link.cut()
    async with asyncio.timeout(10):
        while not (await stage.outbox.counts()).total.thinned:
            stage.uplink._tick()
            await asyncio.sleep(0.05)
    stage.link.connect()
    await stage.answer_all()
    counts = (await stage.outbox.counts()).total
    assert counts.enqueued == counts.delivered + counts.thinned
    bodies = {b["id"]: b for b in (json.loads(payload) for _, payload in stage.link.sent[10:])}
    assert sum(body["windows"] for body in bodies.values()) == 10 * (600 - 4)
    assert any(body.get("thinned", 1) > 1 for body in bodies.values())


async def test_a_failing_disk_keeps_delivered_rows_to_be_taken_out_later(stage):
    await stage.outbox.put([message(n) for n in range(3)])
    await stage.database.write(
        lambda c: c.execute(
            "CREATE TRIGGER broken BEFORE DELETE ON outbox BEGIN SELECT raise(ABORT, 'disk'); END"
        )
    )
    stage.link.connect()
    await until(lambda: len(stage.sent) == 3)
    stage.link.answer(3)
    await until(lambda: stage.uplink.delivered == 3)
    await asyncio.sleep(0.7)
    assert (await stage.outbox.counts()).total.queued == 3
    await stage.database.write(lambda c: c.execute("DROP TRIGGER broken"))
    async with asyncio.timeout(10):
        while (await stage.outbox.counts()).total.queued:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert len(stage.sent) == 3


async def test_closing_takes_out_what_is_acknowledged_and_is_idempotent(stage):
    await stage.outbox.put([message(1)])
    stage.link.connect()
    await until(lambda: len(stage.sent) == 1)
    stage.link.answer(1)
    await stage.uplink.close()
    await stage.uplink.close()
    assert (await stage.outbox.counts()).total.delivered == 1


async def test_a_bound_on_the_bandwidth_holds_telemetry_up_and_escalations_not(tmp_path):
    """8,000 bit/s allow 2,000 bytes at once: some of the telemetry; the escalation goes as well."""
    stage = Stage(tmp_path / "slow.db", window=100, bandwidth_bit_s=8000)
    await stage.outbox.start()
    stage.uplink.start()
    stage.link.connect()
    await stage.outbox.put([message(n) for n in range(90)])
    await until(lambda: len(stage.sent) > 10)
    await asyncio.sleep(0.05)
    before = len(stage.sent)
    assert before < 40
    await stage.outbox.put([message(100, "escalation")])
    await until(lambda: stage.sent[before:] == ["id-000100"])
    stage.clock.advance(3.0)
    stage.uplink._pump_soon()
    await until(lambda: len(stage.sent) > before + 10)
    await stage.uplink.close()
    await stage.database.close()


async def test_telemetry_waits_in_quiet_hours_and_reports_do_not(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    stage = Stage(tmp_path / "quiet.db", quiet_hours=("22:00-23:00",))  # START is 22:13:20 UTC
    await stage.outbox.start()
    stage.uplink.start()
    stage.link.connect()
    await stage.outbox.put([message(1), message(2, "report"), message(3, "escalation")])
    await until(lambda: len(stage.sent) == 2)
    await asyncio.sleep(0.05)
    assert stage.sent == ["id-000003", "id-000002"]
    stage.clock.advance(47 * 60)
    stage.uplink._pump_soon()
    await until(lambda: len(stage.sent) == 3)
    await stage.uplink.close()
    await stage.database.close()
    monkeypatch.undo()
    time.tzset()


# With a real broker.


@pytest.fixture
async def real(tmp_path, broker, links):
    clock = FakeClock(START)
    database = Database.open(tmp_path / "agent.db", clock=clock)
    outbox = Outbox(database)
    await outbox.start()
    link = links.make(broker.url, window=50)
    uplink = Uplink(outbox, link, clock=clock)
    uplink.start()
    yield outbox, uplink
    await uplink.close()
    await database.close()


async def drained(outbox) -> None:
    async with asyncio.timeout(60):
        while (await outbox.counts()).total.queued:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_draining_ends_when_all_is_gone_or_nobody_is_there(real, broker, tmp_path):
    outbox, uplink = real
    await until(lambda: uplink._link.connected)
    await outbox.put([message(n) for n in range(200)])
    draining = asyncio.create_task(uplink.drained(0.0))
    assert not await draining
    await drained(outbox)
    assert await uplink.drained()
    await asyncio.to_thread(broker.kill)
    await until(lambda: not uplink._link.connected)
    await outbox.put([message(1000)])
    assert not await uplink.drained()


async def test_everything_arrives_in_order_at_a_subscriber(real, broker):
    outbox, _ = real
    arrived = []
    receiver = Receiver(broker.url, "edge/#", on_new=lambda topic, p: arrived.append((topic, p)))
    await asyncio.to_thread(receiver.start)
    messages = [message(n) for n in range(2000)]
    for start in range(0, 2000, 100):
        await outbox.put(messages[start : start + 100])
    await drained(outbox)
    await until(lambda: receiver.ledger.unique == 2000)
    for topic in {m.topic for m in messages}:
        assert [p for t, p in arrived if t == topic] == [
            m.payload for m in messages if m.topic == topic
        ]
    await asyncio.to_thread(receiver.close)


async def test_restarts_of_the_broker_lose_nothing(real, broker):
    """The broker goes away ten times in the middle of the traffic and comes back with its sessions."""
    outbox, uplink = real
    receiver = Receiver(broker.url, "edge/#")
    await asyncio.to_thread(receiver.start)
    total = 0
    for _ in range(10):
        await outbox.put([message(n) for n in range(total, total + 300)])
        total += 300
        seen = uplink.delivered
        await until(lambda seen=seen: uplink.delivered > seen + 50)
        await asyncio.to_thread(broker.stop)
        await asyncio.to_thread(broker.start)
    await drained(outbox)
    await until(lambda: receiver.ledger.unique == total)
    assert (await outbox.counts()).total.delivered == total
    assert receiver.ledger.ids == {f"id-{n:06}" for n in range(total)}
    await asyncio.to_thread(receiver.close)
