"""The values that the outbox is spoken of in: its bound, its account, its rows. Pure."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

from agent.errors import BadConfig, BadRequest, TooLarge
from agent.ranges import check_range
from agent.types import Message, MessageClass

CLASSES: tuple[MessageClass, ...] = ("escalation", "report", "telemetry")
MAX_PAYLOAD = 128 << 10  # bytes; the common limit of cloud brokers
MAX_TOPIC = 1024  # bytes of UTF-8
ROW_OVERHEAD = 150  # bytes that a row takes on the disk beside topic and payload, indexes included

_PAGED = 800  # bytes of topic and payload from which the rest of a page is often left empty
_TOPIC = re.compile(r"[^+#\x00]+").fullmatch


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """How much the outbox may hold before the oldest telemetry makes room.

    Attributes:
        rows: messages.
        bytes: payloads, topics and what a row takes beside them.
        linger_s: how long readings and telemetry wait for company before they are committed, seconds;
            each commit costs a flash card a block. Escalations and reports never wait.
    """

    rows: int = 1_000_000
    bytes: int = 256 << 20
    linger_s: float = 0.0

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise BadConfig("must be at least 1", where="rows")
        if self.bytes < 2 * MAX_PAYLOAD:
            raise BadConfig("must hold at least one message of 128 KiB", where="bytes")
        check_range("linger_s", self.linger_s, 0.0, 10.0)


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """What became of the messages of one class since the device was set up.

    Attributes:
        enqueued: rows ever committed, aggregates included.
        delivered: acknowledged by the broker.
        evicted: made room for others.
        expired: became worthless before they could go.
        thinned: folded into an aggregate, which is a row of its own.
        damaged: lost in a damaged file.
        queued: still here.
        bytes: charged for what is still here.
    """

    enqueued: int = 0
    delivered: int = 0
    evicted: int = 0
    expired: int = 0
    thinned: int = 0
    damaged: int = 0
    queued: int = 0
    bytes: int = 0

    def __add__(self, other: "ClassCounts") -> "ClassCounts":
        names = [field.name for field in fields(self)]
        return ClassCounts(*(getattr(self, name) + getattr(other, name) for name in names))


@dataclass(frozen=True, slots=True)
class OutboxCounts:
    """The account, by class.

    Attributes:
        by_class: one entry for each class, escalations first.
    """

    by_class: dict[MessageClass, ClassCounts]

    @property
    def total(self) -> ClassCounts:
        """All classes together."""
        return sum(self.by_class.values(), ClassCounts())


@dataclass(frozen=True, slots=True)
class Queued:
    """A row on its way out.

    Attributes:
        seq: order of arrival.
        message: what was enqueued.
        left_s: lifetime that is left, seconds; None for a message that never expires.
    """

    seq: int
    message: Message
    left_s: float | None = None


def check(message: Message) -> None:
    """Refuse what no broker would take.

    Raises:
        TooLarge: the payload or the topic is over its bound.
        BadRequest: the topic is empty or has characters that only filters may have.
    """
    topic = message.topic
    if len(message.payload) > MAX_PAYLOAD:
        size = len(message.payload)
        raise TooLarge(
            f"a payload of {size} bytes is over the bound of {MAX_PAYLOAD} bytes", where=topic
        )
    if len(topic) > MAX_TOPIC or len(topic.encode()) > MAX_TOPIC:
        raise TooLarge(f"the topic is over the bound of {MAX_TOPIC} bytes", where=topic[:80])
    if not _TOPIC(topic):
        raise BadRequest("cannot be the topic of a message", where=repr(topic[:80]))


def charged(message: Message) -> int:
    """Bytes that a message counts against the bound: about what it takes on the disk."""
    size = len(message.payload) + len(message.topic)
    return size + ROW_OVERHEAD + (size // 3 if size > _PAGED else 0)


def lifetime(message: Message) -> float | None:
    """Seconds that a message is worth sending, None for ever. Both times are by the same clock."""
    return None if message.expires == math.inf else max(0.0, message.expires - message.created)


def groups(rows: Sequence[tuple[object, int]], size: int) -> list[list[int]]:
    """Positions of full groups of `size` rows with equal keys, each group in order.

    Args:
        rows: key and position of each row, in order of arrival.
        size: of a group.
    """
    open_groups: dict[object, list[int]] = {}
    full = []
    for key, position in rows:
        group = open_groups.setdefault(key, [])
        group.append(position)
        if len(group) == size:
            full.append(open_groups.pop(key))
    return full
