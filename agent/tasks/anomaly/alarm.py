"""When a score becomes a warning, and when the warning ends. Pure.

A warning begins when enough of the newest rows are over the threshold and ends when a run of rows is
well below it, so that one noisy row neither starts nor ends anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

Direction = Literal["higher", "lower", "within"]


@dataclass(frozen=True, slots=True)
class SensorShare:
    """A sensor's part in an alarm.

    Attributes:
        name: the sensor.
        share: of the score, 0 to 1.
        value: its mean over the newest rows, its own unit.
        low: lower end of its healthy range, its own unit.
        high: upper end of its healthy range, its own unit.
        direction: where the value stands to that range; a sensor within it may still contradict others.
    """

    name: str
    share: float
    value: float
    low: float
    high: float
    direction: Direction


@dataclass(frozen=True, slots=True)
class Alarm:
    """A warning that begins or ends.

    Attributes:
        kind: raised or cleared.
        id: the same for both.
        time: of the row that decided, seconds since the epoch.
        since: of the first row over the threshold, seconds since the epoch.
        score: of the row that decided; 1.0 is the threshold.
        peak: highest score so far.
        sensors: those that drove the score, most important first.
    """

    kind: Literal["raised", "cleared"]
    id: str
    time: float
    since: float
    score: float
    peak: float
    sensors: tuple[SensorShare, ...]


class HysteresisState(msgspec.Struct):
    """What the hysteresis keeps between calls."""

    over: int = 0  # the newest rows as bits, 1 for over the threshold
    below: int = 0  # rows in a row under the clearing score
    since: float | None = None
    began: float = 0.0  # first row of the present run of bits
    peak: float = 0.0


@dataclass(frozen=True, slots=True)
class Edge:
    """The row at which a warning begins or ends."""

    row: int
    kind: Literal["raised", "cleared"]
    since: float
    peak: float


class Hysteresis:
    """Turns scores into edges."""

    def __init__(
        self,
        raise_rows: int,
        within_rows: int,
        clear_score: float,
        state: HysteresisState | None = None,
        raise_score: float = 1.0,
    ) -> None:
        self._raise = raise_rows
        self._within = within_rows
        self._mask = (1 << within_rows) - 1
        self._clear = clear_score
        self._over = raise_score
        self.state = state or HysteresisState()

    def push(self, times: Sequence[float], scores: Sequence[float]) -> list[Edge]:
        """Edges within consecutive rows."""
        state = self.state
        quiet = state.since is None and not state.over and max(scores, default=0.0) < self._over
        if quiet:  # nearly always
            return []
        return [
            edge
            for row, (time, score) in enumerate(zip(times, scores, strict=True))
            if (edge := self._step(row, time, score)) is not None
        ]

    def _step(self, row: int, time: float, score: float) -> Edge | None:
        state = self.state
        if not state.over and score >= self._over:
            state.began = time
        state.over = (state.over << 1 | (score >= self._over)) & self._mask
        if state.since is None:
            if state.over.bit_count() < self._raise:
                return None
            state.since, state.peak, state.below = state.began, score, 0
            return Edge(row, "raised", state.since, score)
        state.peak = max(state.peak, score)
        state.below = state.below + 1 if score < self._clear else 0
        if state.below < self._within:
            return None
        edge = Edge(row, "cleared", state.since, state.peak)
        self.state = HysteresisState()
        return edge
