"""Scores of a stretch of a stream, small enough to send. Pure.

Stretches are cut at whole multiples of their length in the stream's own time, so that a recording
replayed at a thousand times its speed gives the summaries that it gave at first.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from agent.pipelines.detector import Outcome
from agent.types import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Summary(msgspec.Struct):
    """One stretch of a stream.

    Attributes:
        stretch: number of the stretch since the epoch; None before the first row.
        start: time of the first row.
        end: time of the last row.
        rows: rows that came.
        readings: single values in those rows.
        windows: scored windows.
        lowest: smallest score, infinity without windows.
        highest: largest score, minus infinity without windows.
        total: sum of scores.
        dropped: rows that the detector did not take, by reason.
    """

    stretch: int | None = None
    start: float = math.inf
    end: float = -math.inf
    rows: int = 0
    readings: int = 0
    windows: int = 0
    lowest: float = math.inf
    highest: float = -math.inf
    total: float = 0.0
    dropped: dict[str, int] = {}

    @property
    def mean(self) -> float:
        """Mean score; only meaningful with windows."""
        return self.total / max(self.windows, 1)

    def add_rows(self, times: "NDArray[np.float64]", readings: int) -> None:
        """Count rows of this stretch."""
        self.start = min(self.start, float(times.min()))
        self.end = max(self.end, float(times.max()))
        self.rows += len(times)
        self.readings += readings

    def add_scores(self, scores: "NDArray[np.float64]") -> None:
        """Take the scores of windows of this stretch."""
        if len(scores):
            self.windows += len(scores)
            self.lowest = min(self.lowest, float(scores.min()))
            self.highest = max(self.highest, float(scores.max()))
            self.total += float(scores.sum())

    def add_dropped(self, dropped: Mapping[str, int]) -> None:
        """Count rows that the detector did not take."""
        for reason, number in dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + number


def advance(
    current: Summary, every_s: float, rows: Rows, outcome: Outcome
) -> tuple[Summary, list[Summary]]:
    """Take a batch and what the detector made of it.

    Args:
        current: the stretch so far; it is added to.
        every_s: length of a stretch, seconds of the stream's own time.
        rows: at least one row.
        outcome: of pushing `rows`; its times are in order.

    Returns:
        The stretch that is open now, and those that have ended, oldest first.
    """
    ended = []
    present = np.count_nonzero(~np.isnan(rows.values), axis=1)
    taken = 0
    for stretch, first, last in _runs(np.floor(rows.time / every_s)):
        if current.stretch not in (None, stretch):
            ended.append(current)
            current = Summary()
        current.stretch = stretch
        current.add_rows(rows.time[first:last], int(present[first:last].sum()))
        until = int(np.searchsorted(outcome.times, (stretch + 1) * every_s))
        current.add_scores(outcome.scores[taken:until])
        taken = max(taken, until)
    current.add_scores(outcome.scores[taken:])
    current.add_dropped(outcome.dropped)
    return current, ended


def _runs(numbers: "NDArray[np.float64]") -> Iterator[tuple[int, int, int]]:
    """Value, start and end of each run of equal numbers."""
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    for first, last in pairwise(edges):
        yield int(numbers[first]), first, last
