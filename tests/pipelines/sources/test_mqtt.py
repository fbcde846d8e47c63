"""Readings from MQTT topics: what a message holds, and when it is acknowledged."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import SystemClock
from agent.errors import (
    AgentError,
    BadReading,
    EngineFailed,
    NotFound,
    StorageFailed,
    TooLarge,
    TooMany,
)
from agent.pipelines.entries import Done, Receipt, Single
from agent.pipelines.names import MAX_PAYLOAD
from agent.pipelines.sources.mqtt import (
    MAX_ENGINE_TRIES,
    MAX_HELD,
    Incoming,
    MqttSource,
    fixed_part,
    read,
)
from agent.types import Rows

NOW = 1_750_000_000.0


@pytest.mark.parametrize(
    ("topic_filter", "base"),
    [
        ("sensors/#", "sensors/"),
        ("#", ""),
        ("plant/hall-2/+/flow", "plant/hall-2/"),
        ("sensors/pump-1", "sensors/"),
        ("pump-1", ""),
    ],
)
def test_the_fixed_part_of_a_filter(topic_filter: str, base: str) -> None:
    assert fixed_part(topic_filter) == base


@pytest.mark.parametrize(
    ("topic", "payload", "found"),
    [
        ("sensors/pump-1/flow", b"3.5", [("pump-1", Single("flow", NOW, 3.5))]),
        (
            "sensors/pump-1/flow",
            b'{"value": 3.5, "time": 7}',
            [("pump-1", Single("flow", 7.0, 3.5))],
        ),
        ("sensors/hall/pump-1/flow", b"3.5", [("hall/pump-1", Single("flow", NOW, 3.5))]),
        ("sensors/temperature", b"21", [("temperature", Single("value", NOW, 21.0))]),
    ],
)
def test_one_sensor(topic: str, payload: bytes, found: list[tuple[str, Single]]) -> None:
    assert read(topic, "sensors/", payload, NOW) == found


@pytest.mark.parametrize(
    ("topic", "payload", "stream", "sensors"),
    [
        ("sensors/pump-1", b'{"time": 1, "flow": 2}', "pump-1", ("flow",)),
        ("sensors/pump-1", b'{"time": 1, "value": 2}', "pump-1", ("value",)),
        ("sensors/hall/pump-1", b'[{"time": 1, "flow": 2}]', "hall/pump-1", ("flow",)),
        ("sensors/any", b'{"time": 1, "flow": 2, "stream": "pump-9"}', "pump-9", ("flow",)),
    ],
)
def test_rows(topic: str, payload: bytes, stream: str, sensors: tuple[str, ...]) -> None:
    ((name, rows),) = read(topic, "sensors/", payload, NOW)
    assert isinstance(rows, Rows)
    assert (name, rows.stream, rows.sensors) == (stream, stream, sensors)


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("sensors/pump-1/flow", b"fast"),
        ("sensors/pump-1/flow", b'{"value": true}'),
        ("sensors/pump-1/", b"1"),
        ("sensors//flow", b"1"),
        ("sensors/pump-1", b""),
    ],
)
def test_what_is_not_understood(topic: str, payload: bytes) -> None:
    with pytest.raises(BadReading):
        read(topic, "sensors/", payload, NOW)


def test_a_payload_over_its_bound() -> None:
    with pytest.raises(TooLarge):
        read("sensors/pump-1", "sensors/", b" " * (MAX_PAYLOAD + 1), NOW)


@given(st.text(max_size=40), st.binary(max_size=60))
def test_any_message_gives_readings_or_a_clear_error(topic: str, payload: bytes) -> None:
    try:
        found = read("sensors/" + topic, "sensors/", payload, NOW)
    except BadReading as error:
        shown = error.message
        assert shown
    else:
        assert found


@dataclass
class Message:
    topic: str
    payload: bytes
    acknowledged: int = 0

    @property
    def ack(self) -> Callable[[], None]:
        return self._ack

    def _ack(self) -> None:
        self.acknowledged += 1


@dataclass
class Broker:
    """A link whose messages come when the test says so."""

    handlers: dict[str, Callable[[Incoming], None]] = field(default_factory=dict)

    def subscribe(self, topic_filter: str, handler: Callable[[Incoming], None]) -> None:
        self.handlers[topic_filter] = handler

    def deliver(self, payload: bytes, topic: str = "sensors/pump-1") -> Message:
        message = Message(topic, payload)
        self.handlers["sensors/#"](message)
        return message


@dataclass
class Sink:
    """Pipelines that answer what the test says, at once or later."""

    answers: list[AgentError] = field(default_factory=list)
    doors: list[AgentError] = field(default_factory=list)
    waiting: list[Done] | None = None
    taken: list[tuple[str, Rows | Single]] = field(default_factory=list)
    refusals: list[tuple[str, str]] = field(default_factory=list)

    def offer(self, stream: str, item: Rows | Single, done: Done) -> None:
        if self.doors:
            raise self.doors.pop(0)
        if self.answers:
            done(self.answers.pop(0))
            return
        self.taken.append((stream, item))
        if self.waiting is None:
            done(Receipt(1))
        else:
            self.waiting.append(done)

    def refused(self, error: AgentError, source: str) -> None:
        self.refusals.append((error.code, source))

    def times(self) -> list[float]:
        return [item.time[0] if isinstance(item, Rows) else item.time for _, item in self.taken]


def source(sink: Sink) -> tuple[MqttSource, Broker]:
    broker = Broker()
    found = MqttSource(broker, sink, topics=["sensors/#"], clock=SystemClock())
    found.start()
    return found, broker


async def test_a_message_is_acknowledged_once_its_effect_is_on_the_disk() -> None:
    sink = Sink(waiting=[])
    _, broker = source(sink)
    message = broker.deliver(b'{"time": 1, "flow": 2}')
    assert message.acknowledged == 0
    assert sink.waiting
    sink.waiting[0](Receipt(1))
    assert message.acknowledged == 1


async def test_a_message_of_several_streams_waits_for_all_of_them() -> None:
    sink = Sink(waiting=[])
    _, broker = source(sink)
    message = broker.deliver(b'[{"time":1,"stream":"a","x":1},{"time":1,"stream":"b","x":1}]')
    assert sink.waiting
    assert len(sink.waiting) == 2
    sink.waiting[1](Receipt(1))
    assert message.acknowledged == 0
    sink.waiting[0](Receipt(1))
    assert message.acknowledged == 1


async def test_rubbish_is_acknowledged_and_refused() -> None:
    sink = Sink()
    _, broker = source(sink)
    message = broker.deliver(b"\x00\xff rubbish")
    assert message.acknowledged == 1
    assert sink.refusals == [("request.reading", "sensors/pump-1")]


async def test_a_stream_that_nobody_watches_is_acknowledged_and_refused() -> None:
    sink = Sink(doors=[NotFound("no pipeline takes this stream")])
    _, broker = source(sink)
    assert broker.deliver(b'{"time": 1, "flow": 2}').acknowledged == 1
    assert sink.refusals == [("request.not_found", "sensors/pump-1")]


@pytest.mark.parametrize(
    "error", [StorageFailed("disk full", retry_after_s=0.01), TooMany("busy", retry_after_s=0.01)]
)
@pytest.mark.parametrize("where", ["doors", "answers"])
async def test_what_cannot_be_taken_now_is_tried_again_in_order(
    error: AgentError, where: str
) -> None:
    sink = Sink(**{where: [error]})  # type: ignore[arg-type]
    found, broker = source(sink)
    messages = [broker.deliver(b'{"time": %d, "flow": 2}' % t) for t in range(1, 4)]
    assert [message.acknowledged for message in messages] == [0, 0, 0]
    assert found.held == 3
    await eventually(lambda: not found.held)
    assert [message.acknowledged for message in messages] == [1, 1, 1]
    assert sink.times() == [1.0, 2.0, 3.0]
    assert sink.refusals == []


async def test_only_the_part_that_failed_is_tried_again() -> None:
    sink = Sink(answers=[StorageFailed("disk full", retry_after_s=0.01)])
    found, broker = source(sink)
    message = broker.deliver(b'[{"time":1,"stream":"a","x":1},{"time":1,"stream":"b","x":1}]')
    await eventually(lambda: not found.held)
    assert [stream for stream, _ in sink.taken] == ["b", "a"]
    assert message.acknowledged == 1


async def test_a_message_on_which_the_engine_keeps_failing_is_given_up() -> None:
    failures: list[AgentError] = [EngineFailed("no", retry_after_s=0.01)] * MAX_ENGINE_TRIES
    sink = Sink(answers=failures)
    found, broker = source(sink)
    message = broker.deliver(b'{"time": 1, "flow": 2}')
    await eventually(lambda: message.acknowledged == 1)
    assert sink.refusals == [("engine.failed", "sensors/pump-1")]
    assert found.held == 0


async def test_held_messages_are_bounded_and_those_beyond_stay_with_the_broker() -> None:
    sink = Sink(doors=[TooMany("busy", retry_after_s=60)])
    found, broker = source(sink)
    for _ in range(MAX_HELD):
        broker.deliver(b"1")
    beyond = broker.deliver(b"1")
    assert (found.held, beyond.acknowledged) == (MAX_HELD, 0)
    assert sink.refusals == [("limit.rate", "sensors/pump-1")]
    found.close()


async def test_what_is_held_at_the_end_was_never_acknowledged() -> None:
    sink = Sink(doors=[TooMany("busy", retry_after_s=0.01)])
    found, broker = source(sink)
    message = broker.deliver(b"1")
    found.close()
    found.close()
    await asyncio.sleep(0.05)
    assert (message.acknowledged, found.held, sink.taken) == (0, 0, [])


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 (what is waited for tells nobody)
            await asyncio.sleep(0.005)
