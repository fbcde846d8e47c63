"""Rows as they arrive, into rows in order: late, repeated, empty and foreign ones are counted.

The newest time seen, less the allowed lateness, is the watermark: rows up to it are released in
order, later ones wait for what may still come between. A source whose clock was set back would be
late for ever; after `STEP_BACK_ROWS` late rows in a row the new time is believed and a new window
begins.
"""

from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from agent.types import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MAX_SENSORS = 256
MAX_WAITING = 1 << 16  # readings held for earlier ones; more than that are released
STEP_BACK_ROWS = 30


class IntakeState(msgspec.Struct):
    """What the intake keeps between calls.

    Attributes:
        sensors: columns, in the order in which they were first seen.
        fixed: no sensor is added any more.
        last: time of the last row released; minus infinity before the first.
        late_run: late rows since the last one in time.
        times: of the rows that wait, in order.
        values: of the rows that wait, row-major; shorter rows end before sensors that came later.
    """

    sensors: list[str] = []
    fixed: bool = False
    last: float | None = None
    late_run: int = 0
    times: list[float] = []
    values: list[list[float | None]] = []


class Intake:
    """Orders rows and settles their columns."""

    def __init__(self, lateness_s: float, state: IntakeState | None = None) -> None:
        self._lateness_s = lateness_s
        self._state = state or IntakeState()
        self._columns: dict[tuple[str, ...], NDArray[np.intp]] = {}

    @property
    def sensors(self) -> tuple[str, ...]:
        """The columns of what is released."""
        return tuple(self._state.sensors)

    @property
    def state(self) -> IntakeState:
        """To be stored."""
        return self._state

    def fix(self) -> None:
        """Take no new sensors from now on."""
        self._state.fixed = True

    def push(self, rows: Rows, dropped: "Counter[str]") -> "tuple[Floats, Floats, bool]":
        """Add rows.

        Returns:
            Times [m] and values [m, k] of the rows released, in order, and whether the source's
            clock was set back before them.
        """
        if self._plain(rows):  # nearly always
            self._state.late_run, self._state.last = 0, float(rows.time[-1])
            return rows.time, rows.values, False
        times, values = self._settled(rows, dropped)
        stepped = self._notice_step_back(times, dropped)
        state = self._state
        if state.times:
            times = np.concatenate((state.times, times))
            values = np.concatenate((self._waiting(), values))
        order = np.argsort(times, kind="stable")
        times, values = times[order], values[order]
        fresh = self._fresh(times, dropped)
        times, values = times[fresh], values[fresh]
        return (*self._release(times, values), stepped)

    def _plain(self, rows: Rows) -> bool:
        """Whether the rows can be released as they are: complete, in order, nothing waits."""
        state = self._state
        if self._lateness_s > 0 or state.times or not len(rows):
            return False
        if rows.sensors != tuple(state.sensors) or not np.isfinite(rows.values).all():
            return False
        if state.last is not None and not rows.time[0] > state.last:
            return False
        return bool(np.isfinite(rows.time).all() and (rows.time[1:] > rows.time[:-1]).all())

    def _settled(self, rows: Rows, dropped: "Counter[str]") -> "tuple[Floats, Floats]":
        """The rows in this intake's columns, unusable ones left out."""
        columns = self._column_numbers(rows.sensors)
        known = columns >= 0
        if not known.all():
            dropped["unknown sensor"] += int(np.count_nonzero(~np.isnan(rows.values[:, ~known])))
        values = np.full((len(rows), len(self._state.sensors)), np.nan)
        values[:, columns[known]] = rows.values[:, known]
        values[np.isinf(values)] = np.nan
        usable = np.isfinite(rows.time)
        dropped["no time"] += int(len(rows) - np.count_nonzero(usable))
        filled = ~np.isnan(values).all(axis=1)
        dropped["empty"] += int(np.count_nonzero(usable & ~filled))
        usable &= filled
        return rows.time[usable], values[usable]

    def _column_numbers(self, sensors: tuple[str, ...]) -> "NDArray[np.intp]":
        cached = self._columns.get(sensors)
        if cached is not None:
            return cached
        state = self._state
        if not state.fixed:
            new = [name for name in sensors if name not in state.sensors]
            state.sensors += new[: MAX_SENSORS - len(state.sensors)]
        place = {name: index for index, name in enumerate(state.sensors)}
        numbers = np.array([place.get(name, -1) for name in sensors], np.intp)
        if len(self._columns) >= 64:  # sources that change their columns all the time
            self._columns.clear()
        self._columns[sensors] = numbers
        return numbers

    def _notice_step_back(self, times: "Floats", dropped: "Counter[str]") -> bool:
        state = self._state
        if state.last is None or not len(times):
            return False
        if (times > state.last).any():
            state.late_run = 0
            return False
        state.late_run += len(times)
        if state.late_run < STEP_BACK_ROWS:
            return False
        dropped["late"] += len(state.times)
        state.last, state.late_run, state.times, state.values = None, 0, [], []
        return True

    def _waiting(self) -> "Floats":
        width = len(self._state.sensors)
        table = np.full((len(self._state.values), width), np.nan)
        for row, cells in zip(table, self._state.values, strict=True):
            row[: len(cells)] = [np.nan if cell is None else cell for cell in cells]
        return table

    def _fresh(self, times: "Floats", dropped: "Counter[str]") -> "NDArray[np.bool_]":
        """Rows after the last one released, and of equal times the first."""
        last = self._state.last
        late = times <= last if last is not None else np.zeros(len(times), bool)
        again = np.zeros(len(times), bool)
        again[1:] = np.diff(times) == 0
        if last is not None:
            again |= times == last
        dropped["duplicate"] += int(np.count_nonzero(again))
        dropped["late"] += int(np.count_nonzero(late & ~again))
        return ~(late | again)

    def _release(self, times: "Floats", values: "Floats") -> "tuple[Floats, Floats]":
        state = self._state
        ready = len(times)
        if self._lateness_s > 0 and ready:
            ready = int(np.searchsorted(times, times[-1] - self._lateness_s, side="right"))
            ready = max(ready, len(times) - MAX_WAITING // max(1, values.shape[1]))
        state.times = times[ready:].tolist()
        state.values = [
            [None if np.isnan(cell) else cell for cell in row] for row in values[ready:].tolist()
        ]
        if ready:
            state.last = float(times[ready - 1])
        return times[:ready], values[:ready]
