"""What the demo replays: a user's own CSV file, or a simulated pump."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent.cli.demo.scene import Span
from agent.errors import BadRecording
from agent.pipelines.tables import Choices, Slice, TableReader
from agent.types import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ROWS = 1_000_000  # a recording is held in memory
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
        BadRecording: the file cannot be read as a table of readings, or holds too many rows.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            table = _whole(TableReader(file, choices))
    except OSError as error:
        raise BadRecording(f"cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise BadRecording("the file is not text in UTF-8", where=str(path)) from error
    except BadRecording as error:
        where = f"{path}, {error.where}" if error.where else str(path)
        raise BadRecording(error.message, where=where, hint=error.hint) from error
    rows = Rows(_stream_name(path), table.sensors, table.time, table.values)
    return Recording(rows, tuple(_labelled(table)), str(path))


def _whole(reader: TableReader) -> Slice:
    table = next(reader.slices(MAX_ROWS + 1), None)
    if table is None or len(table.time) < 2:
        raise BadRecording("there are not enough rows under the header")
    if len(table.time) > MAX_ROWS:
        raise BadRecording(f"more than {MAX_ROWS:,} rows", hint="Replay a part of it.")
    return table


def _stream_name(path: Path) -> str:
    kept = "".join(c if c.isalnum() or c in "-_" else "-" for c in path.stem)
    return kept.strip("-_")[:64] or "recording"


def _labelled(table: Slice) -> Iterable[Span]:
    columns = {n: v for n, v in table.labels.items() if CHANGE_POINTS not in n.lower()}
    spans = [
        Span(name if len(columns) > 1 else "", float(table.time[a]), float(table.time[b - 1]))
        for name, values in columns.items()
        for a, b in _runs(np.nan_to_num(values) != 0)
    ]
    return sorted(spans, key=lambda span: span.start)


def _runs(marked: "NDArray[np.bool_]") -> Iterator[tuple[int, int]]:
    """Start and end of each run of marked rows."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], marked, [False]))))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
