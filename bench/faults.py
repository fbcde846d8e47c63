"""What cuts and kills cost: messages lost, messages delivered twice, accounts that do not add up.

A worker process enqueues numbered messages and drains them through a proxy to a real Mosquitto, while
the worker is killed, the broker restarted and the network reset, frozen or refused, at random. The
producer in the worker is an honest one: what was not acknowledged to it when it died, it repeats.
A receiver counts by id on the other side.

The broker is stopped in order, not killed: what a broker acknowledges and then forgets in a crash of
its own is beyond what any client can mend.
"""

import argparse
import asyncio
import contextlib
import json
import math
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.report import Row, Table

BATCH = 20  # messages in one put
BATCH_KIB = 64  # of what every second worker sends in one message while it catches up
DEADLINE_S = 120.0  # for the last messages to arrive after the last fault
FAULTS = ("kill the agent", "restart the broker", "reset", "freeze", "refuse")


@dataclass
class Outcome:
    """What was counted.

    Attributes:
        messages: acknowledged to the producer.
        lost: of these, never received.
        doubled: received by the application more than once, repeats dropped by id.
        disordered: received after a later one of the same topic.
        repeats: received again and dropped by id.
        imbalance: enqueued less delivered, evicted, expired, thinned, damaged and queued.
        faults: how often each was done.
        seconds: how long all of it took.
    """

    messages: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    repeats: int = 0
    imbalance: int = 0
    faults: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAULTS, 0))
    seconds: float = 0.0


def run(quick: bool) -> Table:
    """1,000 faults over 200,000 messages, or a hundredth of that when `quick`."""
    cuts, messages = (20, 4_000) if quick else (1_000, 200_000)
    with tempfile.TemporaryDirectory(prefix="bench-faults-") as directory:
        outcome = asyncio.run(measure(Path(directory), cuts, messages, seed=1))
    done = ", ".join(f"{name} {count}" for name, count in outcome.faults.items())
    return Table(
        f"{cuts:,} kills and cuts, {messages:,} messages",
        [
            _zero("lost", outcome.lost),
            _zero("delivered twice to the application", outcome.doubled),
            _zero("out of order within a topic", outcome.disordered),
            _zero("enqueued less all fates and what is queued", outcome.imbalance),
            Row("repeats dropped by id", outcome.repeats, "messages"),
            Row("messages a second, faults included", outcome.messages / outcome.seconds, "/s"),
        ],
        [f"Faults: {done}."],
    )


def _zero(name: str, value: int) -> Row:
    return Row(name, value, "messages", target="0", ok=value == 0)


async def measure(directory: Path, cuts: int, messages: int, seed: int) -> Outcome:
    """Run all of it in `directory`; the faults follow from `seed`, their moments from the machine."""
    from tests.support.broker import Mosquitto
    from tools.fleet.receiver import Receiver

    began = time.monotonic()
    broker = Mosquitto(directory / "mosquitto")
    broker.start()
    delivered: list[str] = []
    receiver = Receiver(
        broker.url, "edge/#", on_new=lambda _, p: delivered.append(json.loads(p)["id"])
    )
    try:
        await asyncio.to_thread(receiver.start)
        async with Proxy.open(broker.port) as proxy:
            bench = _Bench(directory, broker, proxy, random.Random(seed))
            outcome, counts = await bench.run(cuts, messages)
        await _arrived(delivered, messages)
    finally:
        await asyncio.to_thread(receiver.close)
        broker.kill()
    outcome.seconds = time.monotonic() - began
    outcome.lost = len({name(n) for n in range(messages)} - set(delivered))
    outcome.doubled = len(delivered) - len(set(delivered))
    outcome.disordered = _disordered(delivered)
    outcome.repeats = receiver.ledger.repeats
    spent = sum(
        counts[fate] for fate in ("delivered", "evicted", "expired", "thinned", "damaged", "queued")
    )
    outcome.imbalance = counts["enqueued"] - spent
    return outcome


def name(number: int) -> str:
    """The id of a message."""
    return f"m-{number:08}"


def _topic(number: int) -> str:
    kind = "escalation" if number % 50 == 0 else "telemetry"
    return f"edge/d/worker/{kind}/{number % 5}"


def _disordered(delivered: list[str]) -> int:
    """How many came, for the first time, after a later one of their topic."""
    latest: dict[str, int] = {}
    late = 0
    for number in (int(id_.removeprefix("m-")) for id_ in dict.fromkeys(delivered)):
        late += number < latest.get(_topic(number), -1)
        latest[_topic(number)] = max(number, latest.get(_topic(number), -1))
    return late


async def _arrived(delivered: list[str], messages: int) -> None:
    """Wait for the last messages; what is missing after the deadline is lost."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE_S):
            while len(delivered) < messages:  # noqa: ASYNC110 - filled by another thread
                await asyncio.sleep(0.05)


class _Bench:
    """The faults, spread evenly over the messages."""

    def __init__(
        self,
        directory: Path,
        broker,
        proxy: "Proxy",
        chance: random.Random,
    ) -> None:
        self._directory = directory
        self._broker = broker
        self._proxy = proxy
        self._messages = 0
        self._chance = chance
        self._acknowledged = 0
        self._progress = asyncio.Event()
        self._counts: dict[str, int] | None = None
        self._starts = 0
        self._ready = asyncio.Event()
        self._worker: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def run(self, cuts: int, messages: int) -> tuple[Outcome, dict[str, int]]:
        outcome = Outcome()
        self._messages = messages
        await self._start_worker()
        for cut in range(cuts):
            await self._reach(messages * (cut + 1) // (cuts + 1))
            await asyncio.sleep(self._chance.uniform(0.0, 0.05))
            fault = self._chance.choice(FAULTS)
            outcome.faults[fault] += 1
            await self._do(fault)
        await self._reach(messages)
        await self._ready.wait()  # the last one may only be starting, and would die of the signal
        assert self._worker is not None
        self._worker.send_signal(signal.SIGTERM)
        await self._ended()
        outcome.messages = self._acknowledged
        assert self._counts is not None
        return outcome, self._counts

    async def _do(self, fault: str) -> None:
        if fault == "kill the agent":
            assert self._worker is not None
            self._worker.kill()
            await self._ended()
            await self._start_worker()
        elif fault == "restart the broker":
            await asyncio.to_thread(self._broker.stop)
            await asyncio.to_thread(self._broker.start)
        else:
            await self._proxy.disturb(fault, self._chance.uniform(0.05, 0.4))

    async def _reach(self, number: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self._acknowledged < number:
                self._progress.clear()
                await self._progress.wait()

    async def _start_worker(self) -> None:
        self._starts += 1
        self._ready.clear()
        self._worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.faults", str(self._directory / "agent.db"),
            f"mqtt://127.0.0.1:{self._proxy.port}", str(self._acknowledged), str(self._messages),
            str(BATCH_KIB * (self._starts % 2)),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read(self._worker))

    async def _ended(self) -> None:
        assert self._worker is not None
        assert self._reading is not None
        await self._reading
        await self._worker.wait()

    async def _read(self, worker: asyncio.subprocess.Process) -> None:
        """What the worker says: how many of its messages were acknowledged, at last its account."""
        assert worker.stdout is not None
        async for line in worker.stdout:
            if line.startswith(b"{"):
                self._counts = json.loads(line)
            elif line.endswith(b"\n"):
                self._acknowledged = int(line)
            self._progress.set()
            self._ready.set()


class Proxy:
    """Between a client and a broker: passes bytes on, until told otherwise.

    Attributes:
        port: where it listens.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._open = asyncio.Event()
        self._open.set()
        self._refusing = False
        self._writers: set[asyncio.StreamWriter] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, target: int):
        """A proxy to a port of this machine."""
        proxy = cls(target)
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            proxy.reset()

    async def disturb(self, how: str, seconds: float) -> None:
        """Reset all connections; refuse new ones for a while as well; or hold all bytes, then reset."""
        if how == "freeze":
            self._open.clear()
            await asyncio.sleep(seconds)
            self._open.set()
        self._refusing = how == "refuse"
        self.reset()
        if how == "refuse":
            await asyncio.sleep(seconds)
        self._refusing = False

    def reset(self) -> None:
        """Break every connection without a goodbye."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if self._refusing:
                raise ConnectionRefusedError
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers |= {writer, far_writer}
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


# The worker: an agent with nothing but its outbox and its link.


async def _work(path: Path, broker: str, first: int, messages: int, batch_kib: int) -> None:
    from agent.clock import SystemClock
    from agent.store.db import Database
    from agent.store.outbox import Outbox
    from agent.sync.link import Link, LinkSettings
    from agent.sync.uplink import Uplink

    clock = SystemClock()
    database = Database.open(path, clock=clock)
    outbox = Outbox(database)
    await outbox.start()
    settings = LinkSettings(
        brokers=(broker,), client_id="worker", ack_timeout_s=1.0, connect_timeout_s=1.0,
        backoff_min_s=0.02, backoff_max_s=0.3, batch_kib=batch_kib,
    )  # fmt: skip
    link = Link(settings, clock=clock)
    uplink = Uplink(outbox, link, clock=clock)
    link.start()
    uplink.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    print(first, flush=True)
    for number in range(first, messages, BATCH):
        batch = range(number, min(number + BATCH, messages))
        await outbox.put([_message(n, clock.wall()) for n in batch])
        print(batch[-1] + 1, flush=True)
    await ended.wait()
    await _until_empty(outbox)
    await uplink.close()
    await link.close()
    counts = (await outbox.counts()).total
    await database.close()
    print(json.dumps({field: getattr(counts, field) for field in counts.__slots__}), flush=True)


async def _until_empty(outbox) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE_S):
            while (await outbox.counts()).total.queued:  # noqa: ASYNC110 - nothing waits for this
                await asyncio.sleep(0.02)


def _message(number: int, now: float):
    from agent.types import Message

    kind = "escalation" if number % 50 == 0 else "telemetry"
    payload = json.dumps({"id": name(number), "class": kind}).encode()
    return Message(name(number), kind, _topic(number), payload, now, math.inf)


def main() -> None:
    parser = argparse.ArgumentParser(description="the worker of bench.faults")
    parser.add_argument("path", type=Path)
    parser.add_argument("broker")
    parser.add_argument("first", type=int)
    parser.add_argument("messages", type=int)
    parser.add_argument("batch_kib", type=int)
    options = parser.parse_args()
    work = _work(options.path, options.broker, options.first, options.messages, options.batch_kib)
    asyncio.run(work)


if __name__ == "__main__":
    main()
