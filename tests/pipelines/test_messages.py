"""What a scored batch sends."""

import json
import math

from agent.clock import SystemClock
from agent.pipelines.messages import MAX_SHARES, Sender, describe
from agent.pipelines.summary import Summary
from agent.sync.topics import Topics
from tests.fakes.detector import FakeAlarm, FakeShare
from tests.pipelines.test_summary import outcome


def alarm(sensors: int = 2) -> FakeAlarm:
    shares = tuple(
        FakeShare(f"s{i}", i / sensors, math.nan if i == 0 else 1.0, 0.0, 1.0, "higher")
        for i in range(sensors)
    )
    return FakeAlarm("raised", "a-1", 1_700_000_060.0, 1_700_000_000.0, 1.23456, 2.0, shares)


def sender() -> Sender:
    return Sender(Topics("plant/hall-2", "dev"), SystemClock())


def test_every_payload_begins_alike_and_bears_its_id() -> None:
    s = sender()
    messages = [
        s.alarm("p", "m 1.0.0", alarm()),
        s.learned("p", "m 1.0.0", 1_700_000_000.0),
        s.summary("p", "m 1.0.0", Summary(start=0.0, end=1.0), outcome([1.0])),
    ]
    for message in messages:
        payload = json.loads(message.payload)
        assert list(payload)[:6] == ["id", "device", "time", "class", "stream", "model"]
        assert (payload["id"], payload["class"]) == (message.id, message.kind)
        assert message.topic.startswith("plant/hall-2/d/dev/")
    assert [m.kind for m in messages] == ["escalation", "report", "telemetry"]


def test_an_escalation_s_topic_ends_in_its_id() -> None:
    message = sender().alarm("p", "m", alarm())
    assert message.topic == f"plant/hall-2/d/dev/escalation/{message.id}"


def test_the_sensors_of_a_warning_are_ranked_and_bounded() -> None:
    shown = describe(alarm(MAX_SHARES + 10))["sensors"]
    assert len(shown) == MAX_SHARES
    assert [s["share"] for s in shown] == sorted((s["share"] for s in shown), reverse=True)


def test_a_sensor_without_a_value_is_sent_as_null() -> None:
    sensors = json.loads(sender().alarm("p", "m", alarm()).payload)["sensors"]
    assert sensors[-1]["value"] is None


def test_instants_are_rfc3339() -> None:
    shown = describe(alarm())
    assert (shown["at"], shown["since"]) == ("2023-11-14T22:14:20.000Z", "2023-11-14T22:13:20.000Z")


def test_a_summary_without_windows_has_no_score() -> None:
    empty = sender().summary("p", "m", Summary(start=0.0, end=1.0, rows=3), outcome([]))
    assert json.loads(empty.payload)["score"] is None


def test_the_largest_message_fits_the_bound_of_brokers() -> None:
    wide = FakeAlarm(
        "raised", "a", 0.0, 0.0, 1.0, 1.0,
        tuple(FakeShare("x" * 128, 0.1, 1.0, 0.0, 1.0, "higher") for _ in range(256)),
    )  # fmt: skip
    assert len(sender().alarm("p" * 128, "m" * 80, wide).payload) < 128 * 1024


def test_a_streams_name_cannot_leave_its_place_in_the_topic() -> None:
    """A stream is named by whoever sends readings, and a topic is what access lists are about."""
    part = Summary(start=0.0, end=1.0)
    message = sender().summary("pump/+/#/$SYS", "m 1.0.0", part, outcome([1.0]))
    assert message.topic == "plant/hall-2/d/dev/telemetry/pump/_/_/SYS"
