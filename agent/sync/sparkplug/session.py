"""Births, deaths and sequence numbers of an edge node (Sparkplug 3.0.0, section 5). Pure.

Each connection is a session of its own: a will with the next `bdSeq`, a birth of the node with the
same number and `seq` 0, a birth of each stream before its first data, and from then on one `seq` for
every message, modulo 256. Rows that were stored before the session began are marked historical.
"""

from collections import OrderedDict
from dataclasses import dataclass

from agent.clock import Clock
from agent.store.account import Queued
from agent.sync.settings import Will
from agent.sync.sparkplug.metrics import Summary, metrics_of, read_summary
from agent.sync.sparkplug.payload import DataType, Metric, booleans, encode
from agent.sync.topics import level
from agent.sync.wire import Frame

NAMESPACE = "spBv1.0"
REBIRTH = "Node Control/Rebirth"
REBIRTH_S = 1.0  # between two rebirths that are asked for: a host that insists gets one a second
MAX_STREAMS = 1024  # born in a session; the one that was silent longest is born again


@dataclass(frozen=True, slots=True)
class NodeName:
    """Who publishes.

    Attributes:
        group: one level of a topic.
        node: one level of a topic; the device's name.
    """

    group: str
    node: str

    def topic(self, kind: str, stream: str = "") -> str:
        """The topic of a message of this node, or of one of its streams."""
        topic = f"{NAMESPACE}/{self.group}/{kind}/{self.node}"
        return f"{topic}/{level(stream.replace('/', ':'))}" if stream else topic


class SparkplugWire:
    """Translates rows of telemetry; other classes go as they are.

    What needs a person has no form in Sparkplug: escalations and reports keep their topics and JSON.
    """

    def __init__(self, name: NodeName, clock: Clock) -> None:
        self.name = name
        self._clock = clock
        self._bd_seq = -1
        self._seq = 0
        self._began = 0.0
        self._last: OrderedDict[str, Summary] = OrderedDict()  # born in this session
        self._reborn = -REBIRTH_S

    def will(self) -> Will:
        """The death certificate of the next session."""
        self._bd_seq = (self._bd_seq + 1) % 256
        now = self._now()
        death = encode([self._bd_metric(now)], timestamp=now, seq=None)
        return Will(self.name.topic("NDEATH"), offline=death, online=None, retain=False)

    def begin(self) -> list[Frame]:
        """A connection begins: the birth of the node."""
        self._began = self._clock.wall()
        self._last.clear()
        return [self._birth()]

    def frames(self, row: Queued) -> list[Frame]:
        """What to send for a row, its own message last."""
        message = row.message
        summary = read_summary(message.payload) if message.kind == "telemetry" else None
        if summary is None:
            return [Frame(message.topic, message.payload)]
        stream, births = summary.stream, []
        if stream not in self._last:
            births.append(self._stream_birth(summary))
        self._last[stream] = summary
        self._last.move_to_end(stream)
        if len(self._last) > MAX_STREAMS:
            self._last.popitem(last=False)
        historical = message.created < self._began
        data = self._frame("DDATA", metrics_of(summary, historical=historical), stream, summary.id)
        return [*births, Frame(data.topic, data.payload)]

    def told(self, payload: bytes) -> list[Frame]:
        """A command to the node has come: births when it asks for them, nothing else.

        Raises:
            BadPayload: it is not a Sparkplug payload.
        """
        now = self._clock.monotonic()
        if not booleans(payload).get(REBIRTH) or now - self._reborn < REBIRTH_S:
            return []
        self._reborn = now
        return [self._birth(), *(self._stream_birth(last) for last in self._last.values())]

    def _birth(self) -> Frame:
        now = self._now()
        self._seq = 255  # the birth is 0
        rebirth = Metric(REBIRTH, DataType.BOOLEAN, value=False, timestamp=now)
        return self._frame("NBIRTH", [self._bd_metric(now), rebirth])

    def _stream_birth(self, summary: Summary) -> Frame:
        return self._frame("DBIRTH", metrics_of(summary), summary.stream)

    def _frame(self, kind: str, metrics: list[Metric], stream: str = "", uuid: str = "") -> Frame:
        self._seq = (self._seq + 1) % 256
        payload = encode(metrics, timestamp=self._now(), seq=self._seq, uuid=uuid)
        return Frame(self.name.topic(kind, stream), payload, qos=0)

    def _bd_metric(self, now: int) -> Metric:
        return Metric("bdSeq", DataType.INT64, max(0, self._bd_seq), now)

    def _now(self) -> int:
        return max(0, round(self._clock.wall() * 1000))
