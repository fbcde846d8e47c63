"""What the demo knows at a moment: written by the scenario, read by the screen and the summary."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the recording that its author labelled as anomalous.

    Attributes:
        name: what is wrong there; empty when the recording only says that something is.
        start: time of the first labelled row, seconds since the Unix epoch.
        end: time of the last labelled row, seconds since the Unix epoch.
    """

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Cause:
    """One sensor's part in the score.

    Attributes:
        sensor: its name.
        share: 0 to 1.
        direction: "higher" or "lower" than normal, "within" it, or empty when nobody said.
    """

    sensor: str
    share: float
    direction: str = ""


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning that the device raised.

    Attributes:
        time: of the row that raised it, seconds since the Unix epoch.
        score: the score then; 1.0 is the threshold.
        causes: the sensors that drove it, largest share first.
        id: of the warning.
        cleared: when it ended, seconds since the Unix epoch; infinity while it holds.
    """

    time: float
    score: float
    causes: tuple[Cause, ...]
    id: str = ""
    cleared: float = math.inf


@dataclass(frozen=True, slots=True)
class Point:
    """The score at one position of the recording; NaN while there is none."""

    position: float
    score: float


@dataclass(frozen=True, slots=True)
class Outbox:
    """What the device still owes the cloud, and what became of the rest: numbers of messages."""

    queued: int = 0
    enqueued: int = 0
    delivered: int = 0
    evicted: int = 0

    @classmethod
    def of(
        cls,
        *,
        queued: int,
        enqueued: int,
        delivered: int,
        evicted: int,
        expired: int,
        thinned: int,
        damaged: int,
        **_: object,
    ) -> "Outbox":
        """From the account as the device gives it; what was given up is one number."""
        return cls(queued, enqueued, delivered, evicted + expired + thinned + damaged)


@dataclass(frozen=True, slots=True)
class Received:
    """What arrived at the cloud: distinct messages by class, and repeats that were dropped."""

    by_class: Mapping[str, int] = field(default_factory=dict)
    repeats: int = 0
    online: bool | None = None

    @property
    def messages(self) -> int:
        return sum(self.by_class.values())


@dataclass(slots=True)
class Scene:
    """Everything a spectator may see. Positions run from 0 to 1 over the recording."""

    stream: str
    model: str = ""
    signers: tuple[str, ...] = ()
    rows: int = 0
    spans: tuple[Span, ...] = ()
    first: float = math.nan
    last: float = math.nan
    rows_sent: int = 0
    readings: int = 0
    readings_per_s: float = 0.0
    windows: int = 0
    phase: str = "starting"
    learned: float = 0.0
    points: list[Point] = field(default_factory=list)
    causes: tuple[Cause, ...] = ()
    warnings: list[Warned] = field(default_factory=list)
    dropped: Mapping[str, int] = field(default_factory=dict)
    outbox: Outbox = field(default_factory=Outbox)
    received: Received = field(default_factory=Received)
    link_up: bool = False
    outages: list[tuple[float, float | None]] = field(default_factory=list)
    narration: str = ""
    elapsed_s: float = 0.0

    @property
    def position(self) -> float:
        """How far the recording has been replayed, 0 to 1."""
        return self.rows_sent / self.rows if self.rows else 0.0

    @property
    def warning(self) -> Warned | None:
        """The warning that holds now."""
        newest = self.warnings[-1] if self.warnings else None
        return newest if newest and newest.cleared == math.inf else None

    @property
    def score(self) -> float:
        """The newest score; NaN when there is none yet."""
        return self.points[-1].score if self.points else math.nan

    def position_of(self, time: float) -> float:
        """Where a moment of the recording lies, 0 to 1."""
        return (time - self.first) / (self.last - self.first) if self.last > self.first else 0.0


def peaks(points: Iterable[Point], columns: int) -> list[float]:
    """The highest score in each of `columns` equal parts of the recording; NaN where none is."""
    highest = [math.nan] * columns
    for point in points:
        column = min(int(point.position * columns), columns - 1)
        if not math.isnan(point.score) and not highest[column] >= point.score:
            highest[column] = point.score
    return highest
