"""What happens in the demo, in order: set up, learn, watch, lose the network, find it again, account.

Everything here is done to the daemon from outside, as its users do it: a configuration file, readings
through the socket, events and status from it, messages by MQTT.
"""

import asyncio
import contextlib
import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.cli.demo.cloud import Network
from agent.cli.demo.device import Daemon, Home
from agent.cli.demo.recording import Recording
from agent.cli.demo.scene import Cause, Outbox, Point, Received, Scene, Warned
from agent.cli.demo.stage import Stage
from agent.cli.demo.summary import Ledger, clock, drivers
from agent.cli.replay import Sender
from agent.errors import AgentError, NotReachable
from agent.pipelines.instants import from_text
from agent.types import Rows
from tools.fleet.receiver import Receiver

TICK_S = 0.1  # readings go in, and the screen is drawn, this often, seconds
BATCH_ROWS = 2000  # rows of one request
RATE_OVER_S = 2.0  # readings per second are taken over so long, seconds
DRAIN_S = 20.0  # longest wait for the outbox to drain, seconds
ARRIVE_S = 5.0  # longest wait for the last message to come out of the broker, seconds
LINGER_S = 2.0  # the finished screen stays so long, seconds


@dataclass(frozen=True, slots=True)
class Pace:
    """How the recording is played.

    Attributes:
        speed: recording seconds in one second.
        outage: where the network is taken away and given back, positions in the recording.
    """

    speed: float
    outage: tuple[float, float] = (0.45, 0.70)


class Demo:
    """One run, from a started daemon to the account of every message.

    When the spectator leaves early (`stopping`), the rest of the recording is left out.
    """

    def __init__(
        self,
        recording: Recording,
        pace: Pace,
        *,
        home: Home,
        daemon: Daemon,
        network: Network,
        receiver: Receiver,
        scene: Scene,
        stage: Stage,
        stopping: asyncio.Event,
    ) -> None:
        self._recording = recording
        self._pace = pace
        self._home = home
        self._daemon = daemon
        self._sender = Sender(daemon.client)
        self._network = network
        self._receiver = receiver
        self._scene = scene
        self._stage = stage
        self._began = time.monotonic()
        self._sent: deque[tuple[float, int]] = deque()
        self._stopping = stopping

    async def run(self) -> Ledger:
        """Play the recording, let the outbox drain, stop the daemon and count.

        Raises:
            NotReady: the daemon ended by itself.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                jobs = (self._listen, self._look, self._draw)
                helpers = [tasks.create_task(job()) for job in jobs]
                await self._play()
                await self._network_back()
                await self._drained()
                await self._linger()
                for helper in helpers:
                    helper.cancel()
        except* AgentError as failed:
            await asyncio.sleep(TICK_S)  # the end of a process is noticed a moment later
            self._daemon.check()
            raise failed.exceptions[0] from None
        return await self._account()

    # The recording.

    async def _play(self) -> None:
        rows, scene = self._recording.rows, self._scene
        began = time.monotonic()
        while scene.rows_sent < len(rows) and not self._stopping.is_set():
            now = rows.time[0] + (time.monotonic() - began) * self._pace.speed
            due = int(rows.time.searchsorted(now, side="right"))
            due = min(due, scene.rows_sent + BATCH_ROWS)
            if due > scene.rows_sent:
                await self._send(_part(rows, scene.rows_sent, due))
            await self._weather()
            await asyncio.sleep(TICK_S)

    async def _send(self, rows: Rows) -> None:
        """Hand rows in as `edge-agent replay` does."""
        await asyncio.to_thread(self._sender.send, rows)
        self._scene.rows_sent += len(rows)
        self._count(rows.readings)

    def _count(self, readings: int) -> None:
        now, scene = time.monotonic(), self._scene
        scene.readings += readings
        self._sent.append((now, readings))
        while now - self._sent[0][0] > RATE_OVER_S:
            self._sent.popleft()
        scene.readings_per_s = sum(n for _, n in self._sent) / RATE_OVER_S

    # The network.

    async def _weather(self) -> None:
        """Take the network away and give it back as the recording goes on."""
        scene = self._scene
        cut_at, mend_at = self._pace.outage
        if not scene.outages and cut_at <= scene.position < mend_at:
            scene.outages.append((scene.position, None))
            await self._network.cut()
        elif scene.outages and scene.position >= mend_at:
            await self._network_back()

    async def _network_back(self) -> None:
        scene = self._scene
        if scene.outages and scene.outages[-1][1] is None:
            scene.outages[-1] = (scene.outages[-1][0], scene.position)
            await self._network.mend()

    # What the device says of itself.

    async def _listen(self) -> None:
        """Follow the daemon's events; it ends the stream only when it stops."""
        loop = asyncio.get_running_loop()

        def follow() -> None:
            with contextlib.suppress(NotReachable, OSError):
                for event in self._daemon.client.events():
                    loop.call_soon_threadsafe(self._heard, event)

        await asyncio.to_thread(follow)

    def _heard(self, event: Mapping[str, Any]) -> None:
        kind, data, scene = event["type"], event["data"], self._scene
        if kind == "stream.scored":
            scene.phase, scene.learned = data["phase"], data["progress"]
            scene.windows += data["windows"]
            if data["highest"] is not None:
                scene.points.append(Point(scene.position_of(data["at"]), data["highest"]))
                scene.causes = _causes(data["shares"])
        elif kind == "anomaly.raised":
            scene.warnings.append(_warned(data))
        elif kind == "anomaly.cleared":
            scene.warnings[:] = [_cleared(warning, data) for warning in scene.warnings]

    async def _look(self) -> None:
        """Look at the outbox, the link and the cloud, several times a second."""
        while True:
            self._daemon.check()
            status = await asyncio.to_thread(self._daemon.client.get_json, "/api/status")
            self._scene.link_up = status["link"]["connected"]
            self._scene.outbox = Outbox.of(**status["outbox"])
            self._scene.received = received(self._receiver)
            await asyncio.sleep(2 * TICK_S)

    async def _draw(self) -> None:
        while True:
            self._scene.elapsed_s = time.monotonic() - self._began
            self._scene.narration = narrate(self._scene)
            self._stage.show(self._scene)
            await asyncio.sleep(TICK_S)

    # The end.

    async def _drained(self) -> None:
        """Wait until the device owes nothing, but not for ever."""
        limit_s = 1.0 if self._stopping.is_set() else DRAIN_S
        await _until(lambda: self._home.outbox().queued == 0, limit_s)

    async def _linger(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), LINGER_S)

    async def _account(self) -> Ledger:
        """Stop the daemon and say where every message is."""
        await self._daemon.stop()
        outbox = self._home.outbox()
        await _until(lambda: received(self._receiver).messages >= outbox.delivered, ARRIVE_S)
        self._scene.outbox, self._scene.received = outbox, received(self._receiver)
        return account(outbox, self._scene.received)


def account(outbox: Outbox, at_cloud: Received) -> Ledger:
    """The device's count beside the cloud's."""
    return Ledger(
        queued=outbox.enqueued,
        delivered=outbox.delivered,
        received=at_cloud.messages,
        waiting=outbox.queued,
        evicted=outbox.evicted,
        repeats=at_cloud.repeats,
    )


def received(receiver: Receiver) -> Received:
    """What has come out of the broker so far."""
    ledger = receiver.ledger
    return Received(dict(ledger.by_class), ledger.repeats)


def narrate(scene: Scene) -> str:
    """What is going on, in one sentence."""
    if scene.outages and scene.outages[-1][1] is None:
        return "The network is gone. The device watches on, and keeps what it owes."
    if scene.position >= 1:
        return "The recording is over. The last messages are on their way."
    if scene.outages and scene.outbox.queued > 0 and not scene.link_up:
        return "The network is back. The device finds its broker again."
    if scene.phase == "learning":
        return "The device learns what is normal for this machine."
    if scene.warning is not None:
        return f"A warning holds since {clock(scene.warning.time)}: {drivers(scene.warning)}."
    if scene.phase == "watching":
        return "All is well. A score above 1 for a while is a warning."
    return "The first readings are on their way."


def _part(rows: Rows, first: int, last: int) -> Rows:
    return Rows(rows.stream, rows.sensors, rows.time[first:last], rows.values[first:last])


def _causes(shares: Mapping[str, float]) -> tuple[Cause, ...]:
    return tuple(Cause(name, share) for name, share in sorted(shares.items(), key=lambda s: -s[1]))


def _warned(data: Mapping[str, Any]) -> Warned:
    causes = (Cause(s["name"], s["share"], s["direction"]) for s in data["sensors"])
    return Warned(from_text(data["at"]), data["score"], tuple(causes), data["alarm"])


def _cleared(warning: Warned, data: Mapping[str, Any]) -> Warned:
    if warning.id != data["alarm"]:
        return warning
    return dataclasses.replace(warning, cleared=from_text(data["at"]))


async def _until(condition: Callable[[], bool], limit_s: float) -> None:
    """Wait for a condition, at most so long."""
    deadline = time.monotonic() + limit_s
    # What another process does sets no event here.
    while not await asyncio.to_thread(condition) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(TICK_S)


def fitting_speed(duration_s: float, wanted_s: float) -> float:
    """The speed at which a recording takes so long, at least real time."""
    return max(duration_s / wanted_s, 1.0) if math.isfinite(duration_s) else 1.0
