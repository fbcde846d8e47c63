"""A week without a connection: what the disk holds, what is kept, how long catching up takes.

Ten streams send a summary a second each, and a warning every ten minutes. The clock is driven, the
database, its bound and the folding of old telemetry are the real ones.
"""

import asyncio
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from agent.ids import uuid7
from agent.store.db import Database
from agent.store.outbox import CLASSES, Outbox, OutboxCounts, OutboxLimits
from agent.sync.thinning import merge_telemetry
from agent.types import Message
from bench.report import Row, Table

STREAMS = 10
WEEK_MIN = 7 * 24 * 60  # minutes
WIRE_OVERHEAD = 12  # bytes of MQTT beside topic and payload: header, lengths, packet id
TCP_SHARE = 0.04  # headers of full segments, and acknowledgements coming back
LINK_BIT_S = 1_000_000
LOG_MIB = 8  # what the write-ahead log may take beside the bound


@dataclass
class DrivenClock:
    """Time that passes when it is told to."""

    now: float = 0.0

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Found:
    """How the outbox stands at the end.

    Attributes:
        counts: the account.
        escalations: put in.
        disk: bytes of file and log.
        wire: bytes of everything queued, as MQTT.
        longest: seconds in the coarsest summary.
        seconds: of real time for all of it.
    """

    counts: OutboxCounts
    escalations: int
    disk: int
    wire: int
    longest: int
    seconds: float


def run(quick: bool) -> Table:
    """A week with the default bound, or a hundredth of both when `quick`."""
    part = 100 if quick else 1
    limits = OutboxLimits(rows=OutboxLimits().rows // part, bytes=OutboxLimits().bytes // part)
    with tempfile.TemporaryDirectory(prefix="bench-offline-") as directory:
        found = asyncio.run(_live(Path(directory) / "agent.db", WEEK_MIN // part, limits))
    total, escalations = found.counts.total, found.counts.by_class["escalation"]
    telemetry = found.counts.by_class["telemetry"]
    spent = total.delivered + total.evicted + total.expired + total.thinned + total.damaged
    lost = telemetry.evicted / max(1, telemetry.enqueued)
    catch_up = found.wire * (1 + TCP_SHARE) * 8 / LINK_BIT_S
    return Table(
        f"{WEEK_MIN // part:,} minutes offline at {STREAMS} messages/s",
        [
            _at_most(
                "disk, file and log", found.disk / 2**20, "MiB", limits.bytes / 2**20 + LOG_MIB
            ),
            _at_most("escalations lost", found.escalations - escalations.queued, "messages", 0),
            _at_most("account off by", total.enqueued - spent - total.queued, "messages", 0),
            Row("summaries evicted", 100 * lost, "%"),
            Row("coarsest summary kept", found.longest, "s"),
            Row("messages queued at the end", total.queued, "messages"),
            Row("catching up at 1 Mbit/s", catch_up / 60, "min"),
            Row("messages a second while it was simulated", total.enqueued / found.seconds, "/s"),
        ],
        ["Catching up: bytes of all queued messages as MQTT, with 4 % for TCP/IP."],
    )


def _at_most(name: str, value: float, unit: str, limit: float) -> Row:
    return Row(name, value, unit, target=f"at most {limit:g}", ok=value <= limit)


async def _live(path: Path, minutes: int, limits: OutboxLimits) -> Found:
    began = time.perf_counter()
    clock = DrivenClock()
    database = Database.open(path, clock=clock)
    outbox = Outbox(database, limits)
    await outbox.start()
    escalations = 0
    for minute in range(minutes):
        batch = [_summary(clock, second, n) for second in range(60) for n in range(STREAMS)]
        if minute % 10 == 0:
            escalations += 1
            batch.append(_warning(clock))
        await outbox.put(batch)
        clock.now += 60
        await outbox.expire()
        await outbox.thin(merge_telemetry)
    seconds = time.perf_counter() - began
    disk = sum(
        file.stat().st_size for file in path.parent.iterdir() if file.name.startswith(path.name)
    )
    wire, longest = await _queued(outbox)
    counts = await outbox.counts()
    await database.close()
    return Found(counts, escalations, disk, wire, longest, seconds)


async def _queued(outbox: Outbox) -> tuple[int, int]:
    """Bytes of everything queued, and seconds in the coarsest summary."""
    wire = longest = 0
    for kind in CLASSES:
        after = 0
        while rows := await outbox.pending(1000, kind=kind, after=after):
            after = rows[-1].seq
            messages = [row.message for row in rows]
            wire += sum(len(m.topic) + len(m.payload) + WIRE_OVERHEAD for m in messages)
            longest = max(longest, *(json.loads(m.payload).get("thinned", 1) for m in messages))
    return wire, longest


def _summary(clock: DrivenClock, second: int, stream: int) -> Message:
    """As a pipeline writes it."""
    now = clock.wall() + second
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    id_ = uuid7(clock)
    payload = (
        f'{{"id":"{id_}","device":"press-1","time":"{moment}","class":"telemetry",'
        f'"stream":"pump-{stream}","model":"pump-anomaly 1.0.0","from":"{moment}","to":"{moment}",'
        f'"phase":"watching","progress":1.0,"score":{{"min":0.1,"mean":0.2{second},"max":0.4}},'
        f'"windows":10,"rows":10,"readings":80,"dropped":{{}}}}'
    )
    topic = f"edge/d/press-1/telemetry/pump-{stream}"
    return Message(id_, "telemetry", topic, payload.encode(), now)


def _warning(clock: DrivenClock) -> Message:
    id_ = uuid7(clock)
    payload = json.dumps({"id": id_, "class": "escalation", "detail": "x" * 800}).encode()
    return Message(id_, "escalation", f"edge/d/press-1/escalation/{id_}", payload, clock.wall())
