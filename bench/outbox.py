"""The outbox beside what it is made of: durable enqueue against bare SQLite, drain against bare paho.

Both sides do the same work: the same rows in the same schema with full sync and as many rows to a
transaction as the outbox had on average; the same messages at QoS 1 with the same window of messages
in flight through the same broker. Runs alternate, medians are compared.
"""

import asyncio
import gc
import statistics
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import uvloop
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.clock import SystemClock
from agent.ids import uuid7
from agent.store.account import charged
from agent.store.connection import connect
from agent.store.db import Database
from agent.store.migrate import migrate
from agent.store.outbox import Outbox
from agent.sync.link import Link, LinkSettings
from agent.sync.uplink import Uplink
from agent.types import Message
from bench.report import Row, Table

PRODUCERS = 256  # tasks that each wait for their message to be on the disk
WINDOW = 100  # messages in flight
PAYLOAD = b"x" * 200  # bytes
TOPIC = "edge/d/press-1/telemetry/pump-1"

_clock = SystemClock()


def run(quick: bool) -> Table:
    """Measure both ratios; `quick` with fewer messages and runs."""
    messages, runs = (10_000, 3) if quick else (50_000, 7)
    with tempfile.TemporaryDirectory(prefix="bench-outbox-") as directory:
        enqueue = list(_enqueue_pairs(Path(directory), messages, runs))
        with _broker(Path(directory)) as port:
            drain = list(_drain_pairs(Path(directory), port, messages, runs))
            idle = uvloop.run(_idle(Path(directory) / "idle.db", port, 5.0 if quick else 60.0))
    return Table(
        "Outbox",
        [
            _row("durable enqueue, 200-byte messages", "bare SQLite", enqueue, 0.70, 5000),
            _row("drain to Mosquitto at QoS 1", "bare paho", drain, 0.85, 0),
            Row(
                "processor time, idle and connected",
                idle,
                "% of a core",
                target="at most 0.2",
                ok=idle <= 0.2,
            ),
        ],
        [
            f"{messages:,} messages a run, {runs} alternating runs, medians.",
            f"Enqueue: {PRODUCERS} producers that each wait for their own message.",
            f"Drain: {WINDOW} messages in flight.",
        ],
    )


def _row(name: str, limit: str, pairs: list[tuple[float, float]], ratio: float, rate: float) -> Row:
    ours, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
    reached = statistics.median(mine / theirs for mine, theirs in pairs)
    target = f"{ratio:.0%}" + (f" and {rate:,.0f}" if rate else "")
    return Row(
        name, ours, "messages/s", limit, bare, reached, target, reached >= ratio and ours >= rate
    )


def _messages(count: int) -> list[Message]:
    return [
        Message(uuid7(_clock), "telemetry", TOPIC, PAYLOAD, _clock.wall()) for _ in range(count)
    ]


def _timed(messages: int, work: Callable[[], object]) -> float:
    gc.collect()
    began = time.perf_counter()
    work()
    return messages / (time.perf_counter() - began)


# Enqueue.


def _enqueue_pairs(directory: Path, count: int, runs: int) -> Iterator[tuple[float, float]]:
    for number in range(runs):
        messages = _messages(count)
        ours, group = uvloop.run(_enqueue(directory / f"ours-{number}.db", messages))
        yield ours, _bare_sqlite(directory / f"bare-{number}.db", messages, group)


async def _enqueue(path: Path, messages: list[Message]) -> tuple[float, int]:
    """Messages per second, and how many shared a commit on average."""
    database = Database.open(path, clock=_clock)
    outbox = Outbox(database)
    await outbox.start()
    waiting = iter(messages)

    async def produce() -> None:
        for message in waiting:
            await outbox.put((message,))

    before = database.commits
    rate = await _timed_async(
        len(messages), lambda: asyncio.gather(*(produce() for _ in range(PRODUCERS)))
    )
    commits = database.commits - before
    await database.close()
    return rate, max(1, round(len(messages) / commits))


def _bare_sqlite(path: Path, messages: list[Message], group: int) -> float:
    connection = connect(path)
    migrate(connection)
    rows = [(m.id, 2, m.topic, m.payload, charged(m), m.created, None, None) for m in messages]

    def insert() -> None:
        for start in range(0, len(rows), group):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO outbox (id, class, topic, payload, size, created, expires, due) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                rows[start : start + group],
            )
            connection.execute("COMMIT")

    rate = _timed(len(messages), insert)
    connection.close()
    return rate


async def _timed_async(messages: int, work: Callable[[], Awaitable[object]]) -> float:
    gc.collect()
    began = time.perf_counter()
    await work()
    return messages / (time.perf_counter() - began)


# Drain.


def _drain_pairs(
    directory: Path, port: int, count: int, runs: int
) -> Iterator[tuple[float, float]]:
    for number in range(runs):
        ours = uvloop.run(_drain(directory / f"drain-{number}.db", port, count))
        yield ours, _bare_paho(port, count)


async def _drain(path: Path, port: int, count: int) -> float:
    database = Database.open(path, clock=_clock)
    outbox = Outbox(database)
    await outbox.start()
    await outbox.put(_messages(count))
    link = Link(_settings(port), clock=_clock)
    up = asyncio.Event()
    link.on_state(lambda: up.set() if link.connected else None)
    link.start()
    await up.wait()
    uplink = Uplink(outbox, link, clock=_clock)

    async def drain() -> None:
        uplink.start()
        while uplink.delivered < count:  # noqa: ASYNC110 - nothing in the product waits for this
            await asyncio.sleep(0.002)
        await uplink.close()  # takes out the last rows

    rate = await _timed_async(count, drain)
    assert not (await outbox.counts()).total.queued
    await link.close()
    await database.close()
    return rate


async def _idle(path: Path, port: int, seconds: float) -> float:
    """Processor time of link, uplink and store at rest, percent of a core."""
    database = Database.open(path, clock=_clock)
    outbox = Outbox(database)
    await outbox.start()
    link = Link(_settings(port), clock=_clock)
    uplink = Uplink(outbox, link, clock=_clock)
    link.start()
    uplink.start()
    await asyncio.sleep(1.0)
    assert link.connected
    began = time.process_time()
    await asyncio.sleep(seconds)
    spent = time.process_time() - began
    await uplink.close()
    await link.close()
    await database.close()
    return 100 * spent / seconds


def _settings(port: int) -> LinkSettings:
    return LinkSettings(brokers=(f"mqtt://127.0.0.1:{port}",), client_id="bench", window=WINDOW)


def _bare_paho(port: int, count: int) -> float:
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id="bare", protocol=MQTTProtocolVersion.MQTTv5
    )
    client.max_inflight_messages_set(WINDOW)
    up, done, left = threading.Event(), threading.Event(), [count]

    def acknowledged(*_: object) -> None:
        left[0] -= 1
        if not left[0]:
            done.set()

    client.on_connect = lambda *_: up.set()
    client.on_publish = acknowledged
    client.connect("127.0.0.1", port)
    client.loop_start()
    up.wait()

    def publish() -> None:
        for _ in range(count):
            client.publish(TOPIC, PAYLOAD, qos=1)
        done.wait()

    rate = _timed(count, publish)
    client.disconnect()
    client.loop_stop()
    return rate


@contextmanager
def _broker(directory: Path) -> Iterator[int]:
    """A Mosquitto of its own; the port it listens on."""
    from tests.support.broker import Mosquitto

    broker = Mosquitto(directory / "mosquitto", persistent=False)
    broker.start()
    try:
        yield broker.port
    finally:
        broker.kill()
