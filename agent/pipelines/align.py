"""Messages about one sensor each to rows on a grid. Pure.

Sensors that publish alone do so at their own moments; a detector wants rows. Time is cut into cells
of one period; a row holds, for each sensor, its last value in that cell or, failing that, the last
one before it that is not too old. A cell is closed when a reading has come that is later than its
end by the time that stragglers are given, so the order of rows depends on what the messages say and
never on when they happen to arrive.

A device's clock may jump. Forward, the grid jumps along and the gap is filled no further than values
are held; back by more than they are held, the grid starts anew from there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from agent.errors import BadConfig, BadPayload, TooMany
from agent.pipelines.names import MAX_SENSORS
from agent.types import Rows

#: Rows that one gap is filled with, at most.
MAX_HELD_ROWS = 3600


@dataclass(frozen=True, slots=True)
class AlignSettings:
    """How messages about one sensor each become rows.

    Attributes:
        period_s: distance between rows, seconds.
        wait_s: how long a row waits for stragglers, seconds of the stream's own time.
        hold_s: how long a sensor's last value stands in for a missing one, seconds.
    """

    period_s: float = 1.0
    wait_s: float = 1.0
    hold_s: float = 10.0

    def __post_init__(self) -> None:
        if not 1e-3 <= self.period_s <= 86_400:
            raise BadConfig("must be 0.001 to 86400 seconds", where="period_s")
        if not 0 <= self.wait_s <= 100 * self.period_s:
            raise BadConfig("must be 0 to 100 periods", where="wait_s")
        if not 0 <= self.hold_s <= MAX_HELD_ROWS * self.period_s:
            raise BadConfig(f"must be 0 to {MAX_HELD_ROWS} periods", where="hold_s")


class _Reading(msgspec.Struct, array_like=True, frozen=True):
    time: float
    value: float


class _State(msgspec.Struct, array_like=True):
    """What an aligner holds between messages; its bytes go into the stream's state."""

    sensors: list[str] = []
    latest: dict[str, _Reading] = {}
    cells: dict[int, dict[str, _Reading]] = {}
    next_cell: int | None = None
    newest: float = -math.inf
    late: int = 0
    restarts: int = 0


class Aligner:
    """The grid of one stream."""

    def __init__(self, settings: AlignSettings) -> None:
        self._settings = settings
        self._state = _State()

    @property
    def pending(self) -> bool:
        """Whether readings wait for their row."""
        return bool(self._state.cells)

    @property
    def late(self) -> int:
        """Readings that came after their row had gone."""
        return self._state.late

    @property
    def restarts(self) -> int:
        """How often the grid started anew because the sensors' clock went back."""
        return self._state.restarts

    def push(self, sensor: str, time: float, value: float) -> None:
        """Take one reading; NaN says that the sensor has none now.

        Raises:
            TooMany: the stream has MAX_SENSORS others already.
        """
        self._admit(sensor)
        if self._is_far_behind(time):
            self._restart(time)
        state = self._state
        cell = math.floor(time / self._settings.period_s)
        if state.next_cell is not None and cell < state.next_cell:
            state.late += 1
            self._hold(sensor, _Reading(time, value))
            return
        readings = state.cells.setdefault(cell, {})
        if sensor not in readings or readings[sensor].time <= time:
            readings[sensor] = _Reading(time, value)
        state.newest = max(state.newest, time)

    def take(self, stream: str, *, everything: bool = False) -> Rows | None:
        """The rows whose cells are closed, oldest first; None when there are none.

        Args:
            stream: the name that the rows bear.
            everything: close all cells, because no more readings are to be waited for.
        """
        edge = math.inf if everything else self._state.newest - self._settings.wait_s
        period = self._settings.period_s
        due = sorted(cell for cell in self._state.cells if (cell + 1) * period <= edge)
        rows = [row for cell in due for row in self._up_to(cell)]
        if not rows:
            return None
        times = np.array([time for time, _ in rows])
        return Rows(stream, tuple(self._state.sensors), times, np.array([row for _, row in rows]))

    def state(self) -> bytes:
        """Everything that `restore` needs."""
        return msgspec.msgpack.encode(self._state)

    def restore(self, state: bytes) -> None:
        """Go on from a saved state.

        Raises:
            BadPayload: the bytes are no such state.
        """
        try:
            self._state = msgspec.msgpack.decode(state, type=_State)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadPayload("not the state of a grid") from error

    def _admit(self, sensor: str) -> None:
        sensors = self._state.sensors
        if sensor in sensors:
            return
        if len(sensors) >= MAX_SENSORS:
            raise TooMany(f"a stream has at most {MAX_SENSORS} sensors", where=sensor)
        sensors.append(sensor)

    def _is_far_behind(self, time: float) -> bool:
        settings = self._settings
        return time < self._state.newest - settings.wait_s - settings.hold_s - settings.period_s

    def _restart(self, time: float) -> None:
        """Let go of a future that was a mistake: its readings count as late, what was before stays."""
        old = self._state
        kept = {c: r for c, r in old.cells.items() if c * self._settings.period_s <= time}
        gone = sum(len(readings) for cell, readings in old.cells.items() if cell not in kept)
        self._state = _State(
            old.sensors, cells=kept, late=old.late + gone, restarts=old.restarts + 1
        )

    def _up_to(self, cell: int) -> "list[tuple[float, list[float]]]":
        """Rows of the gap before `cell`, as far as values are held, and of `cell` itself."""
        state = self._state
        reach = cell - math.ceil(self._settings.hold_s / self._settings.period_s)
        first = cell if state.next_cell is None else max(state.next_cell, reach)
        rows = [row for gap in range(first, cell) if (row := self._row(gap)) is not None]
        for sensor, reading in state.cells.pop(cell).items():
            self._hold(sensor, reading)
        state.next_cell = cell + 1
        row = self._row(cell)
        return rows if row is None else [*rows, row]

    def _row(self, cell: int) -> "tuple[float, list[float]] | None":
        start = cell * self._settings.period_s
        oldest = start - self._settings.hold_s
        row = [_value(self._state.latest, sensor, oldest) for sensor in self._state.sensors]
        return None if all(map(math.isnan, row)) else (start, row)

    def _hold(self, sensor: str, reading: _Reading) -> None:
        known = self._state.latest.get(sensor)
        if known is None or known.time <= reading.time:
            self._state.latest[sensor] = reading


def _value(latest: Mapping[str, _Reading], sensor: str, oldest: float) -> float:
    reading = latest.get(sensor)
    return reading.value if reading is not None and reading.time >= oldest else math.nan
