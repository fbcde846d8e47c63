"""The newest rows of a stream: what a window needs of the past, with holes held shut for a while."""

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class RecentState(msgspec.Struct):
    """What is kept between calls.

    Attributes:
        values: float64 [h, k] as bytes, holes already filled where they could be.
        held: float64 [k] as bytes, each sensor's last reading.
        age: rows since that reading, for each sensor.
        last: time of the newest row.
    """

    values: bytes = b""
    held: bytes = b""
    age: list[int] = []
    last: float | None = None


class Recent:
    """Gives each run of new rows the rows before it."""

    def __init__(
        self, rows: int, max_gap_s: float, hold_rows: int, state: RecentState | None = None
    ) -> None:
        state = state or RecentState()
        self._rows = rows
        self._max_gap_s = max_gap_s
        self._hold_rows = hold_rows
        self._held = np.frombuffer(state.held)
        k = len(self._held)
        self._values = np.frombuffer(state.values).reshape(-1, k) if k else np.empty((0, 0))
        self._age = np.array(state.age, np.int64)
        self._last = state.last

    def state(self) -> RecentState:
        """To be stored."""
        values = np.ascontiguousarray(self._values)
        return RecentState(values.tobytes(), self._held.tobytes(), self._age.tolist(), self._last)

    def prime(self, values: "Floats", last: float) -> None:
        """Begin with these rows [n, k]; the newest is of time `last`."""
        self._forget(values.shape[1])
        self._append(values)
        self._last = last

    def push(
        self, times: "Floats", values: "Floats", anew: bool
    ) -> "Iterator[tuple[Floats, Floats]]":
        """Add rows in order.

        Args:
            times: [m], rising.
            values: [m, k], NaN where a sensor has no reading.
            anew: nothing before these rows belongs to them.

        Yields:
            For each run without a long silence: its times [r], and its rows with those before
            them [h + r, k], h at most what `rows` says. NaN where nothing can stand in.
        """
        if anew:
            self._forget(values.shape[1])
        silent = self._last is not None and times[0] - self._last > self._max_gap_s
        gaps = np.flatnonzero(times[1:] - times[:-1] > self._max_gap_s) + 1
        starts = [0, *gaps.tolist(), len(times)]
        for start, end in pairwise(starts):
            if start or silent:
                self._forget(values.shape[1])
            yield times[start:end], self._append(values[start:end])
        self._last = float(times[-1])

    def _forget(self, k: int) -> None:
        self._values = np.empty((0, k))
        self._held = np.full(k, np.nan)
        self._age = np.zeros(k, np.int64)

    def _append(self, values: "Floats") -> "Floats":
        block = np.concatenate((self._values, self._filled(values)))
        self._values = block[max(0, len(block) - self._rows) :]
        return block

    def _filled(self, values: "Floats") -> "Floats":
        """Missing values replaced by the sensor's last one, as long as it may stand in."""
        missing = np.isnan(values)
        if not missing.any():
            self._held, self._age = values[-1].copy(), np.zeros(values.shape[1], np.int64)
            return values
        rows = np.arange(len(values))[:, None]
        newest = np.maximum.accumulate(np.where(missing, -1, rows), axis=0)
        before = newest < 0
        age = np.where(before, self._age + rows + 1, rows - newest)
        source = np.take_along_axis(values, np.maximum(newest, 0), axis=0)
        filled = np.where(before, self._held, source)
        self._held, self._age = filled[-1].copy(), np.minimum(age[-1], self._hold_rows + 1)
        return np.where(age <= self._hold_rows, filled, np.nan)
