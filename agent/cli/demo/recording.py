"""What the demo replays: a user's own CSV file, or a simulated pump."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent.cli.demo.scene import Span
from agent.errors import BadRecording
from agent.pipelines.sources.replay import Part, open_recording
from agent.pipelines.sources.simulator import showcase
from agent.pipelines.tables import Choices
from agent.types import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ROWS = 1_000_000  # a recording is held in memory
SIMULATION_START = 1767600000.0  # 2026-01-05 08:00 UTC: any moment would do, if always the same
CHANGE_POINTS = "change"  # a column with this in its name marks moments, not stretches


@dataclass(frozen=True, slots=True)
class Recording:
    """A table of readings and what its author says about it.

    Attributes:
        rows: the readings; columns of labels are not among them.
        spans: labelled stretches, in order of time.
        source: where it comes from, for the summary.
    """

    rows: Rows
    spans: tuple[Span, ...]
    source: str

    @property
    def duration_s(self) -> float:
        """From the first row to the last, seconds of the recording's own time."""
        return float(self.rows.time[-1] - self.rows.time[0])


def from_csv(path: Path, choices: Choices) -> Recording:
    """Read a recording from delimited text.

    Raises:
        NotFound: there is no such file.
        BadRecording: it cannot be read as a table of readings, or holds too many rows.
    """
    with open_recording(path, choices=choices, start=time.time()) as opened:
        part = next(opened.parts(MAX_ROWS + 1), None)
        if part is None or len(part.rows) < 2:
            raise BadRecording("there are not enough rows under the header")
        if len(part.rows) > MAX_ROWS:
            raise BadRecording(f"more than {MAX_ROWS:,} rows", hint="Replay a part of it")
        return Recording(part.rows, tuple(_labelled(part)), str(path))


def simulated(seed: int) -> Recording:
    """An hour and a half of the project's own pump, which fails three times."""
    made = showcase(seed, start=SIMULATION_START)
    spans = (
        Span(e.fault, float(made.rows.time[e.start]), float(made.rows.time[e.end - 1]))
        for e in made.episodes
    )
    return Recording(made.rows, tuple(spans), "the simulated pump")


def _labelled(part: Part) -> Iterable[Span]:
    columns = {n: v for n, v in part.labels.items() if CHANGE_POINTS not in n.lower()}
    instants = part.rows.time
    spans = [
        Span(name if len(columns) > 1 else "", float(instants[a]), float(instants[b - 1]))
        for name, values in columns.items()
        for a, b in _runs(np.nan_to_num(values) != 0)
    ]
    return sorted(spans, key=lambda span: span.start)


def _runs(marked: "NDArray[np.bool_]") -> Iterator[tuple[int, int]]:
    """Start and end of each run of marked rows."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], marked, [False]))))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
