"""Pipelines and their surroundings that keep what they are given."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.errors import AgentError, NotReachable
from agent.store.outbox import ClassCounts, OutboxCounts
from agent.types import Rows


@dataclass(frozen=True)
class FakeReceipt:
    """What became of readings."""

    accepted: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    windows: int = 0
    warnings: int = 0


@dataclass(frozen=True)
class FakeStreamStatus:
    """How a stream stands."""

    stream: str
    rows: int
    model: str = "watching 1.0.0"


class FakePipelines:
    """Accepts every row, except the first of each batch, which it calls a duplicate.

    Attributes:
        failure: raised by each submission.
        problems: pipeline -> what is wrong with it.
    """

    def __init__(self) -> None:
        self.submitted: list[Rows] = []
        self.failure: AgentError | None = None
        self.problems: dict[str, str] = {}

    async def submit(self, rows: Rows) -> FakeReceipt:
        if self.failure is not None:
            raise self.failure
        self.submitted.append(rows)
        return FakeReceipt(len(rows) - 1, {"duplicate": 1}, windows=1)

    def status(self) -> list[FakeStreamStatus]:
        return [FakeStreamStatus(rows.stream, len(rows)) for rows in self.submitted]


class FakeOutbox:
    """An outbox with one message in it."""

    async def counts(self) -> OutboxCounts:
        return OutboxCounts({"telemetry": ClassCounts(enqueued=3, delivered=2, queued=1)})


@dataclass(frozen=True)
class FakeLink:
    """A link that waits."""

    connected: bool = False
    state: str = "waiting"
    protocol: str = ""
    broker: str = "broker:1883"
    reason: NotReachable | None = field(
        default_factory=lambda: NotReachable("no route", where="broker:1883")
    )
