"""Drains the outbox through a link: nothing is polled, nothing is lost, repeats carry the same id.

A row is taken out of the table only after the broker has acknowledged it. Between the two a power
cut makes the row go again, with the id by which a receiver drops it.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from agent.clock import Clock
from agent.errors import AgentError, StorageFailed
from agent.store.outbox import CLASSES, Outbox, Queued
from agent.store.outbox_rows import TICK_S, Merge
from agent.sync.batches import CONTENT_TYPE, ENCODING, FEWEST, MOST, batchable, pack, within
from agent.sync.link import Link
from agent.sync.pace import Pace, QuietHours
from agent.sync.queue import Fetch, SendQueue
from agent.sync.suspects import Suspects
from agent.sync.thinning import merge_telemetry
from agent.sync.wire import Frame, PlainWire, Wire
from agent.types import MessageClass

if TYPE_CHECKING:
    from agent.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

SETTLE_ROWS = 256  # acknowledged rows taken out at once while more are coming
SETTLE_TAIL_ROWS = 16  # that are worth a commit of their own when nothing more is in flight
SETTLE_S = 0.5  # seconds until fewer are taken out: one commit for the trickle of an idle device
FETCH_BYTES = 1 << 20  # payload held ready, beside the rows in flight
PACKET_OVERHEAD = 66  # bytes of MQTT, TCP and IP beside topic and payload
RETRY_S = 5.0  # until a failing disk is tried again


class Uplink:
    """Sends what the outbox holds whenever the link is up.

    Attributes:
        delivered: messages acknowledged since the start.
    """

    def __init__(
        self,
        outbox: Outbox,
        link: Link,
        *,
        clock: Clock,
        metrics: "Metrics | None" = None,
        merge: Merge = merge_telemetry,
        wire: Wire | None = None,
        retry_s: float = RETRY_S,
    ) -> None:
        self.delivered = 0
        self._outbox = outbox
        self._link = link
        self._clock = clock
        self._merge = merge
        self._wire = wire or PlainWire()
        self._pace = Pace(link.settings.bandwidth_bit_s, clock.monotonic())
        self._quiet = QuietHours.parse(link.settings.quiet_hours)
        self._retry_s = retry_s
        self._batch_bytes = 0 if wire else link.settings.batch_kib << 10
        self._queue = SendQueue(ahead=2 * max(link.window, MOST if self._batch_bytes else 0))
        self._suspects = Suspects(link.window)
        self._acknowledged: list[Queued] = []
        self._was_connected = False
        self._pump_due = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._fetching = self._settling = self._thinning = False
        self._started = self._closed = False
        self._refused = metrics and metrics.counter(
            "edge_agent_outbox_refused_total",
            "Messages that a broker refused, and that stay queued",
        )

    def start(self) -> None:
        """Begin, now or as soon as the link is up. Returns at once; call it once."""
        self._started = True
        self._forget_news = self._outbox.on_new(self._news)
        self._link.on_state(self._link_changed)
        self._after("tick", TICK_S, self._tick)
        self._link_changed()

    def throttle(self, bandwidth_bit_s: int, quiet_hours: Sequence[str]) -> None:
        """Change how fast and when it sends, from now on.

        Raises:
            BadConfig: a text is no stretch of the day; nothing has changed.
        """
        self._quiet = QuietHours.parse(quiet_hours)
        self._pace = Pace(bandwidth_bit_s, self._clock.monotonic())
        self._pump_soon()

    async def drained(self, deadline_s: float = math.inf) -> bool:
        """Wait until nothing is queued; False when that took too long, or there is no connection."""
        until = self._clock.monotonic() + deadline_s
        while (await self._outbox.counts()).total.queued:
            if self._clock.monotonic() >= until or not self._link.connected:
                return False
            await self._clock.sleep(0.05)
        return True

    async def close(self) -> None:
        """Stop sending and take out what is acknowledged. Idempotent."""
        if not self._started or self._closed:
            return
        self._closed = True
        self._forget_news()
        for timer in self._timers.values():
            timer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._acknowledged:
            await self._settle(self._take_acknowledged())

    # What sets it going.

    def _news(self) -> None:
        self._queue.news()
        self._pump_soon()

    def _link_changed(self) -> None:
        if self._link.connected and not self._was_connected:
            self._begin()
        elif self._was_connected and not self._link.connected:
            self._ended()
        self._was_connected = self._link.connected

    def _begin(self) -> None:
        self._queue.connected()
        self.announce(self._wire.begin())
        for topic, (row, due) in self._suspects.waiting(self._clock.monotonic()).items():
            self._queue.hold(topic, row.message.kind, due)
        self._retry_in_time()
        self._pump_soon()

    def _ended(self) -> None:
        blamed = self._suspects.ended(self._queue.on_their_way, self._clock.monotonic())
        if blamed is not None:
            log.warning(
                "the broker hangs up at messages to %s: they wait, others go on",
                blamed.message.topic,
            )

    def _pump_soon(self) -> None:
        if not self._pump_due:
            self._pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Send what may be sent, and look up what follows."""
        self._pump_due = False
        if self._closed or self._thinning or not self._link.connected:
            return
        while (row := self._queue.peek(self._allowed())) is not None and self._offer(row):
            pass
        if not self._fetching and (wanted := self._queue.fetch()):
            self._fetching = True
            self._spawn(self._fetch(wanted))

    def _allowed(self) -> tuple[MessageClass, ...]:
        """The classes that may go now; what has to wait sets a timer for its time."""
        delay_s = self._pace.delay(self._clock.monotonic())
        if delay_s > 0:
            self._after("pump", delay_s, self._pump_soon)
            return CLASSES[:1]
        if self._quiet.stretches:
            quiet_s = 60 * self._quiet.left(_minute_of_day(self._clock.wall()))
            if quiet_s > 0:
                self._after("pump", min(quiet_s, TICK_S), self._pump_soon)  # the clock may be set
                return CLASSES[:2]
        return CLASSES

    def _offer(self, row: Queued) -> bool:
        """Hand a row, or those like it, to the link; False when it cannot take one now."""
        if not self._link.room or (self._suspects.careful and self._queue.in_flight):
            return False  # before it is translated: a frame that has a number must go
        rows, frames = self._framed(row)
        *before, own = frames
        self.announce(before)
        taken = self._link.publish(
            own.topic,
            own.payload,
            expires_in_s=row.left_s,
            qos=own.qos,
            content=(own.content_type, own.encoding),
            on_ack=partial(self._answered, rows),
        )
        if taken:
            self._queue.sent(rows)
            self._spend(own)
        return taken

    def _framed(self, row: Queued) -> tuple[Sequence[Queued], Sequence[Frame]]:
        """A batch where enough of the row's stream waits, or the row by itself."""
        if self._batch_bytes and row.message.kind == "telemetry" and not self._suspects.careful:
            waiting = takewhile(batchable, self._queue.like(row, MOST))
            rows = within(list(waiting), self._batch_bytes)
            payload, count = pack(rows) if len(rows) >= FEWEST else (b"", 0)
            if count:
                topic = row.message.topic
                frame = Frame(topic, payload, content_type=CONTENT_TYPE, encoding=ENCODING)
                return rows[:count], (frame,)
        return (row,), self._wire.frames(row)

    def announce(self, frames: Sequence[Frame]) -> None:
        """Send what is no row and needs no answer; it is lost where there is no connection."""
        for frame in frames:
            self._link.publish(frame.topic, frame.payload, qos=frame.qos, on_ack=_ignore)
            self._spend(frame)

    def _spend(self, frame: Frame) -> None:
        self._pace.take(len(frame.topic) + len(frame.payload) + PACKET_OVERHEAD)

    # What comes back.

    def _answered(self, rows: Sequence[Queued], error: AgentError | None) -> None:
        if error is None:
            self.delivered += len(rows)
            for row in rows:
                self._queue.acknowledged(row)
            self._suspects.acknowledged()
            self._acknowledged += rows
            self._settle_in_time()
        elif self._link.connected:
            for row in rows:
                self._refuse(row, error)
        self._pump_soon()

    def _refuse(self, row: Queued, error: AgentError) -> None:
        now = self._clock.monotonic()
        if self._queue.refused(row, now):
            log.warning("messages to %s stay queued: %s", row.message.topic, error)
        if self._refused:
            self._refused.inc()
        self._retry_in_time()

    def _retry(self) -> None:
        self._queue.retry(self._clock.monotonic())
        self._retry_in_time()
        self._pump_soon()

    def _retry_in_time(self) -> None:
        if (due := self._queue.next_retry()) is not None:
            self._after("retry", due - self._clock.monotonic(), self._retry)

    # The table.

    async def _fetch(self, wanted: Sequence[Fetch]) -> None:
        try:
            answers = await self._outbox.lookup(
                [(fetch.kind, fetch.after, fetch.limit) for fetch in wanted], FETCH_BYTES
            )
        except AgentError as error:
            log.warning("the outbox cannot be read: %s", error)
            self._after("pump", self._retry_s, self._pump_soon)
            return
        finally:
            self._fetching = False
        for fetch, rows in zip(wanted, answers, strict=True):
            self._queue.fetched(fetch, rows)
        self._pump_soon()

    def _settle_in_time(self) -> None:
        if self._settling or self._closed:
            return
        tail = self._queue.in_flight == 0 and len(self._acknowledged) >= SETTLE_TAIL_ROWS
        if tail or len(self._acknowledged) >= SETTLE_ROWS:
            self._settle_now()
        elif "settle" not in self._timers:
            self._after("settle", SETTLE_S, self._settle_now)

    def _settle_now(self) -> None:
        if self._acknowledged and not self._settling:
            self._settling = True
            self._cancel("settle")
            self._spawn(self._settle(self._take_acknowledged()))

    async def _settle(self, rows: Sequence[Queued]) -> None:
        """Take acknowledged rows out of the table."""
        try:
            await self._outbox.delivered([row.message.id for row in rows])
        except StorageFailed as error:
            log.warning("delivered messages cannot be taken out of the outbox: %s", error)
            self._acknowledged.extend(rows)
            self._after("settle", self._retry_s, self._settle_now)
        else:
            self._queue.settled(rows)
        finally:
            self._settling = False
        if self._acknowledged:
            self._settle_in_time()

    def _take_acknowledged(self) -> list[Queued]:
        taken, self._acknowledged = self._acknowledged, []
        return taken

    def _tick(self) -> None:
        self._after("tick", TICK_S, self._tick)
        self._spawn(self._tend())

    async def _tend(self) -> None:
        """What the table needs from time to time."""
        try:
            await self._outbox.expire()
            if not (self._link.connected or self._fetching or self._settling or self._acknowledged):
                await self._thin()
        except AgentError as error:
            log.warning("the outbox cannot be tended: %s", error)

    async def _thin(self) -> None:
        """Nothing is sent meanwhile: a row must not go out on its own and in an aggregate."""
        self._thinning = True
        try:
            saved = await self._outbox.thin(self._merge)
        finally:
            self._thinning = False
            self._pump_soon()
        if saved:
            log.info("the outbox is half full: telemetry was folded, %d rows fewer", saved)

    # Tasks and timers.

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _after(self, name: str, delay_s: float, action: Callable[[], None]) -> None:
        """Run `action` once after a delay; a timer of the same name is replaced."""
        if not self._closed:
            self._cancel(name)
            loop = asyncio.get_running_loop()
            self._timers[name] = loop.call_later(max(0.0, delay_s), self._fire, name, action)

    def _fire(self, name: str, action: Callable[[], None]) -> None:
        del self._timers[name]
        action()

    def _cancel(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()


def _ignore(*_: object) -> None:
    """Nobody waits for it."""


def _minute_of_day(wall: float) -> float:
    """Of the device's own time zone."""
    local = time.localtime(wall)
    return local.tm_hour * 60 + local.tm_min + local.tm_sec / 60
