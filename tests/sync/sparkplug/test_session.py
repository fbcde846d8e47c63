"""Births, deaths and sequence numbers, as a host application has to see them."""

import json
import math

import pytest
from sparkplub_b_packets.core import sparkplug_b_pb2 as tahu

from agent.errors import BadPayload
from agent.store.account import Queued
from agent.sync.sparkplug.session import MAX_STREAMS, REBIRTH, REBIRTH_S, NodeName, SparkplugWire
from agent.types import Message
from tests.fakes.clock import FakeClock


def summary(
    stream: str = "pump-1", id_: str = "id-1", created: float | None = None, **changes
) -> Queued:
    body = {
        "id": id_, "device": "d", "time": "2026-01-01T00:00:01Z", "class": "telemetry", "stream": stream,
        "model": "pump-anomaly 1.0.0", "from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:01:00.250Z",
        "phase": "watching", "progress": 1.0, "score": {"min": 0.1, "mean": 0.2, "max": 0.3},
        "windows": 60, "rows": 61, "readings": 488, "dropped": {"late": 2, "repeat": 1},
    } | changes  # fmt: skip
    at = 2_000_000_000.0 if created is None else created
    topic = f"edge/d/d/telemetry/{stream}"
    message = Message(id_, "telemetry", topic, json.dumps(body).encode(), at, math.inf)
    return Queued(seq=1, message=message, left_s=None)


def read(frame) -> "tahu.Payload":
    return tahu.Payload.FromString(frame.payload)


def metric(frame, name: str):
    return next(m for m in read(frame).metrics if m.name == name)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def wire(clock):
    return SparkplugWire(NodeName("plant", "d"), clock)


def test_the_birth_carries_the_number_of_the_will_and_offers_rebirth(wire):
    for expected in range(3):
        death = wire.will()
        (birth,) = wire.begin()
        assert (death.topic, death.retain, death.online) == ("spBv1.0/plant/NDEATH/d", False, None)
        (bd,) = tahu.Payload.FromString(death.offline).metrics
        assert (bd.name, bd.long_value) == ("bdSeq", expected)
        assert (birth.topic, birth.qos) == ("spBv1.0/plant/NBIRTH/d", 0)
        assert metric(birth, "bdSeq").long_value == expected
        assert metric(birth, REBIRTH).boolean_value is False
        assert read(birth).seq == 0


def test_the_number_of_births_and_deaths_wraps(wire):
    numbers = [
        tahu.Payload.FromString(wire.will().offline).metrics[0].long_value for _ in range(257)
    ]
    assert numbers == [*range(256), 0]


def test_a_stream_is_born_before_its_first_data_and_only_then(wire):
    wire.will()
    wire.begin()
    birth, data = wire.frames(summary())
    assert (birth.topic, birth.qos) == ("spBv1.0/plant/DBIRTH/d/pump-1", 0)
    assert (data.topic, data.qos) == ("spBv1.0/plant/DDATA/d/pump-1", 1)
    assert len(wire.frames(summary())) == 1
    wire.begin()
    assert len(wire.frames(summary())) == 2


def test_every_message_has_the_next_sequence_number_and_it_wraps(wire):
    wire.will()
    frames = [*wire.begin()]
    for number in range(400):
        frames += wire.frames(summary(f"s{number % 7}"))
    assert [read(frame).seq for frame in frames] == [n % 256 for n in range(len(frames))]


def test_data_says_what_the_summary_says(wire):
    wire.will()
    wire.begin()
    *_, data = wire.frames(summary())
    assert read(data).uuid == "id-1"
    assert metric(data, "model").string_value == "pump-anomaly 1.0.0"
    assert metric(data, "score/max").double_value == 0.3
    assert metric(data, "rows").long_value == 61
    assert metric(data, "dropped").long_value == 3
    assert metric(data, "from").long_value == 1_767_225_600_000
    assert metric(data, "score/max").timestamp == 1_767_225_660_250


def test_data_has_the_metrics_of_the_birth_with_the_same_types(wire):
    wire.will()
    wire.begin()
    birth, data = wire.frames(summary(score=None))
    kinds = [[(m.name, m.datatype) for m in read(frame).metrics] for frame in (birth, data)]
    assert kinds[0] == kinds[1]
    assert metric(data, "score/mean").is_null


def test_what_was_stored_before_the_session_is_historical(wire, clock):
    wire.will()
    wire.begin()
    before, after = clock.wall() - 1, clock.wall() + 1
    *_, old = wire.frames(summary(created=before))
    *_, new = wire.frames(summary(created=after))
    assert {m.is_historical for m in read(old).metrics} == {True}
    assert {m.is_historical for m in read(new).metrics} == {False}


def test_an_escalation_keeps_its_topic_and_its_json(wire):
    wire.will()
    wire.begin()
    message = Message("id-9", "escalation", "edge/d/d/escalation/id-9", b"{}", 0.0, math.inf)
    (frame,) = wire.frames(Queued(seq=1, message=message, left_s=None))
    assert (frame.topic, frame.payload) == (message.topic, message.payload)


def test_telemetry_that_is_no_summary_goes_as_it_is(wire):
    message = Message("id-9", "telemetry", "edge/d/d/telemetry/x", b"\xff{", 0.0, math.inf)
    (frame,) = wire.frames(Queued(seq=1, message=message, left_s=None))
    assert frame.payload == message.payload


def rebirth(value: bool = True) -> bytes:
    payload = tahu.Payload(timestamp=1)
    payload.metrics.add(name=REBIRTH, datatype=11, boolean_value=value)
    return payload.SerializeToString()


def test_a_rebirth_brings_the_node_and_every_stream_anew(wire):
    wire.will()
    wire.begin()
    wire.frames(summary("a"))
    wire.frames(summary("b"))
    frames = wire.told(rebirth())
    assert [frame.topic.split("/")[2] for frame in frames] == ["NBIRTH", "DBIRTH", "DBIRTH"]
    assert [read(frame).seq for frame in frames] == [0, 1, 2]
    assert metric(frames[0], "bdSeq").long_value == 0  # the session's own still


def test_a_host_that_asks_for_rebirth_without_end_gets_one_a_second(wire, clock):
    wire.will()
    wire.begin()
    assert [len(wire.told(rebirth())) for _ in range(100)] == [1] + [0] * 99
    clock.advance(REBIRTH_S)
    assert wire.told(rebirth())


def test_a_command_that_does_not_ask_for_rebirth_changes_nothing(wire):
    assert wire.told(rebirth(value=False)) == []
    with pytest.raises(BadPayload):
        wire.told(b"\xff\xff\xff")


def test_no_more_streams_are_remembered_than_the_bound(wire, clock):
    wire.will()
    wire.begin()
    for number in range(MAX_STREAMS + 1):
        wire.frames(summary(f"s{number}"))
    assert len(wire.told(rebirth())) == 1 + MAX_STREAMS
    assert len(wire.frames(summary("s0"))) == 2  # born again


def test_levels_of_a_stream_become_one_level_of_the_topic(wire):
    wire.will()
    wire.begin()
    *_, data = wire.frames(summary("hall-2/pump-1"))
    assert data.topic == "spBv1.0/plant/DDATA/d/hall-2:pump-1"
