"""What a scored batch sends to the cloud: rows of the outbox, and their topics. Pure.

The payload of each class is a JSON object whose first keys are the same: id, device, time (wall
clock, RFC 3339), class, stream, model. A receiver drops repeats by `id`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from agent.clock import Clock, rfc3339
from agent.ids import uuid7
from agent.pipelines.detector import Alarm, Outcome, SensorShare
from agent.pipelines.summary import Summary
from agent.store.cases import Case
from agent.types import Message, MessageClass

#: Sensors named in a warning, those with the largest share first.
MAX_SHARES = 16

#: An answer to a warning is of use for so long, seconds.
CASE_DEADLINE_S = 7 * 86_400.0

_ENCODER = msgspec.json.Encoder()


class Topics(Protocol):
    """Where each class of message goes; the layout itself is kept in one place, beside the link."""

    @property
    def device(self) -> str: ...
    def telemetry(self, stream: str) -> str: ...
    def escalation(self, id_: str) -> str: ...
    def report(self, kind: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends, and under which topics.

    Attributes:
        topics: of this device.
        clock: for ids and the time of sending.
    """

    topics: Topics
    clock: Clock

    def summary(self, stream: str, model: str, part: Summary, outcome: Outcome) -> Message:
        """Telemetry: how a stretch of the stream scored."""
        return self._message(
            "telemetry",
            uuid7(self.clock),
            self.topics.telemetry(stream),
            {
                "stream": stream,
                "model": model,
                "from": rfc3339(part.start),
                "to": rfc3339(part.end),
                "phase": outcome.phase,
                "progress": round(outcome.progress, 4),
                "score": _scores(part),
                "windows": part.windows,
                "rows": part.rows,
                "readings": part.readings,
                "dropped": part.dropped,
            },
        )

    def alarm(self, stream: str, model: str, alarm: Alarm) -> Message:
        """An escalation: a warning began or ended."""
        id_ = uuid7(self.clock)
        body = {"stream": stream, "model": model, **describe(alarm)}
        return self._message("escalation", id_, self.topics.escalation(id_), body)

    def case(self, message: Message, model: str, alarm: Alarm, digest: str) -> Case:
        """The case of a warning: somebody may say whether it was one."""
        name, _, version = model.partition(" ")
        return Case(
            message.id, None, message.id, alarm.id, name, version, digest,
            message.created, message.created + CASE_DEADLINE_S, message.payload,
        )  # fmt: skip

    def learned(self, stream: str, model: str, at: float) -> Message:
        """A report: the stream's healthy past is known, scores count from here."""
        return self._message(
            "report",
            uuid7(self.clock),
            self.topics.report("baseline"),
            {"stream": stream, "model": model, "kind": "learned", "at": rfc3339(at)},
        )

    def _message(
        self, kind: MessageClass, id_: str, topic: str, body: Mapping[str, Any]
    ) -> Message:
        now = self.clock.wall()
        head = {"id": id_, "device": self.topics.device, "time": rfc3339(now), "class": kind}
        return Message(
            id=id_,
            kind=kind,
            topic=topic,
            payload=_ENCODER.encode({**head, **body}),
            created=now,
        )


def describe(alarm: Alarm) -> dict[str, Any]:
    """A warning as it is sent and as local listeners see it; scores are multiples of the threshold."""
    ranked = sorted(alarm.sensors, key=lambda sensor: -sensor.share)
    return {
        "kind": alarm.kind,
        "alarm": alarm.id,
        "at": rfc3339(alarm.time),
        "since": rfc3339(alarm.since),
        "score": round(alarm.score, 4),
        "peak": round(alarm.peak, 4),
        "sensors": [_share(sensor) for sensor in ranked[:MAX_SHARES]],
    }


def _share(sensor: SensorShare) -> dict[str, Any]:
    """Not-a-numbers become null: a sensor may have had no reading when the warning began."""
    return {
        "name": sensor.name,
        "share": round(sensor.share, 4),
        "value": sensor.value,
        "low": sensor.low,
        "high": sensor.high,
        "direction": sensor.direction,
    }


def _scores(part: Summary) -> dict[str, float] | None:
    if not part.windows:
        return None
    return {
        "min": round(part.lowest, 4),
        "mean": round(part.mean, 4),
        "max": round(part.highest, 4),
    }
