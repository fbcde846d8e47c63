"""Readings from MQTT topics.

Below the fixed part of the filter (`sensors` of `sensors/#`) a topic names the stream, and for
messages about one sensor also the sensor:

    sensors/pump-1                 {"time": …, "flow": 3.1}, arrays of rows, columns
    sensors/pump-1/flow            3.1  or  {"value": 3.1, "time": …}

A message is acknowledged to the broker once its effect is on the disk. What is not understood is
acknowledged too, counted and reported, since a broker would send it again for ever. What cannot be
taken now (a full queue, a full disk) is held, unacknowledged, and tried again in order.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from agent.clock import Clock
from agent.errors import AgentError, EngineFailed, TooMany, Unavailable
from agent.pipelines.decode import decode_json, decode_single
from agent.pipelines.entries import Done, Receipt, Single
from agent.pipelines.names import check_sensors, check_size, check_stream
from agent.types import Rows

#: Messages held for another try; a broker keeps those of QoS 1 beyond, and sends them again.
MAX_HELD = 10_000
#: Tries of a message on which the engine fails; it may be the message's own fault.
MAX_ENGINE_TRIES = 5


class Incoming(Protocol):
    """A message that has come; `ack` tells the broker that it need not be sent again."""

    @property
    def topic(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def ack(self) -> Callable[[], None]: ...


class Subscriber(Protocol):
    """A link to a broker."""

    def subscribe(self, topic_filter: str, handler: Callable[[Incoming], None]) -> None:
        """Call `handler` in the event loop for each message, also after reconnecting."""


class Sink(Protocol):
    """Where readings go: the pipelines."""

    def offer(self, stream: str, item: Rows | Single, done: Done) -> None: ...
    def refused(self, error: AgentError, source: str) -> None: ...


class MqttSource:
    """Subscribes, decodes, hands in, acknowledges."""

    def __init__(
        self, link: Subscriber, sink: Sink, *, topics: Iterable[str], clock: Clock
    ) -> None:
        self._link = link
        self._sink = sink
        self._topics = tuple(topics)
        self._clock = clock
        self._held: deque[_Held] = deque()
        self._retry: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Subscribe; messages come from now on."""
        for topic_filter in self._topics:
            base = fixed_part(topic_filter)
            self._link.subscribe(topic_filter, partial(self._receive, base))

    def close(self) -> None:
        """Give up what is held: it was never acknowledged, so that the broker keeps it. Idempotent."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._held.clear()

    @property
    def held(self) -> int:
        """Messages that wait for another try."""
        return len(self._held)

    def _receive(self, base: str, message: Incoming) -> None:
        try:
            items = read(message.topic, base, message.payload, self._clock.wall())
        except AgentError as error:
            self._sink.refused(error, message.topic)
            message.ack()
            return
        held = _Held(message, items)
        if self._held:
            self._hold(held, 1.0)
        else:
            self._offer(held)

    def _offer(self, held: "_Held") -> None:
        """Hand in every part; once all are told, acknowledge or hold."""
        parts, held.parts = held.parts, []
        held.open = len(parts)
        for stream, item in parts:
            done = partial(self._done, held, (stream, item))
            try:
                self._sink.offer(stream, item, done)
            except AgentError as error:
                done(error)

    def _done(
        self, held: "_Held", part: "tuple[str, Rows | Single]", result: Receipt | AgentError
    ) -> None:
        held.open -= 1
        if isinstance(result, AgentError):
            if self._may_pass(held, result):
                held.parts.append(part)
                held.pause_s = max(held.pause_s, getattr(result, "retry_after_s", 1.0))
            else:
                self._sink.refused(result, held.message.topic)
        if held.open:
            return
        if held.parts:
            self._hold(held, held.pause_s)
        else:
            held.message.ack()

    def _may_pass(self, held: "_Held", error: AgentError) -> bool:
        """Whether another try makes sense."""
        if isinstance(error, EngineFailed):
            held.tries += 1
            return held.tries < MAX_ENGINE_TRIES
        return isinstance(error, Unavailable | TooMany)

    def _hold(self, held: "_Held", pause_s: float) -> None:
        if len(self._held) >= MAX_HELD:
            error = TooMany(f"{MAX_HELD} messages are held already", where=held.message.topic)
            self._sink.refused(error, held.message.topic)
            return
        self._held.append(held)
        if self._retry is None:
            loop = asyncio.get_running_loop()
            self._retry = loop.call_later(pause_s, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        waiting, self._held = self._held, deque()
        for held in waiting:
            if self._held:
                self._held.append(held)
            else:
                self._offer(held)


class _Held:
    """A message and what of it has not been taken yet."""

    __slots__ = ("message", "open", "parts", "pause_s", "tries")

    def __init__(self, message: Incoming, parts: "list[tuple[str, Rows | Single]]") -> None:
        self.message = message
        self.parts = parts
        self.open = 0
        self.pause_s = 0.0
        self.tries = 0


def fixed_part(topic_filter: str) -> str:
    """The levels of a filter that name no stream: those before a wildcard, or all but the last."""
    levels = topic_filter.split("/")
    wild = [i for i, level in enumerate(levels) if level in {"+", "#"}]
    fixed = levels[: wild[0]] if wild else levels[:-1]
    return "".join(f"{level}/" for level in fixed)


def read(topic: str, base: str, payload: bytes, now: float) -> list[tuple[str, Rows | Single]]:
    """What a message holds, by stream. Pure.

    Args:
        topic: of the message.
        base: what `fixed_part` gave for its filter.
        payload: of the message.
        now: the time of readings that bear none, seconds since the epoch.

    Raises:
        BadReading: neither the topic nor the payload is understood.
        TooLarge: more bytes or rows than one message may hold.
    """
    check_size(payload)
    name = topic.removeprefix(base)
    stream, _, sensor = name.rpartition("/")
    if not stream:
        stream, sensor = name, "value"
    single = _single(payload, sensor, now, whole=stream == name)
    if single is None:
        return [(rows.stream, rows) for rows in decode_json(payload, stream=name, now=now)]
    check_sensors((sensor,))
    return [(check_stream(stream), single)]


def _single(payload: bytes, sensor: str, now: float, *, whole: bool) -> Single | None:
    """One sensor's reading; an object on a topic of one level is a row, even of one "value"."""
    if whole and payload.lstrip()[:1] == b"{":
        return None
    found = decode_single(payload, sensor=sensor, now=now)
    return None if found is None else Single(sensor, *found)
