"""Recordings of readings, as fast as possible or in step with their own time."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from agent.clock import Clock
from agent.errors import BadRecording, NotFound
from agent.pipelines.names import check_stream
from agent.pipelines.tables import Choices, Layout, TableReader
from agent.types import Rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Rows that are handed on together when nothing else limits them.
BATCH_ROWS = 500
#: Longest pause between two batches, seconds; a recording may have a gap of a year.
MAX_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows of a recording, and what its labels say of each.

    Attributes:
        rows: the readings.
        labels: column name -> float64 [n]; never part of `rows`.
    """

    rows: Rows
    labels: "Mapping[str, NDArray[np.float64]]"


class Recording:
    """A recording that is open.

    Attributes:
        stream: the name its rows bear.
        layout: what its columns were taken for.
    """

    def __init__(self, lines: Iterable[str], stream: str, choices: Choices, start: float) -> None:
        self.stream = check_stream(stream)
        self._reader = TableReader(lines, choices, start=start)

    @property
    def layout(self) -> Layout:
        return self._reader.layout

    @property
    def sensors(self) -> tuple[str, ...]:
        """Columns that are readings."""
        return tuple(name for _, name in self.layout.sensors)

    @property
    def labels(self) -> tuple[str, ...]:
        """Columns that are labels."""
        return tuple(name for _, name in self.layout.labels)

    def parts(self, size: int = BATCH_ROWS) -> Iterator[Part]:
        """The recording from its first row, `size` rows at a time; once.

        Raises:
            BadRecording: a row cannot be read; `where` names its line and column.
        """
        for piece in self._reader.slices(size):
            yield Part(Rows(self.stream, piece.sensors, piece.time, piece.values), piece.labels)


@contextmanager
def open_recording(
    path: Path, *, stream: str = "", choices: Choices | None = None, start: float = 0.0
) -> Iterator[Recording]:
    """Open a file of delimited text.

    Args:
        path: the file.
        stream: the name its rows bear; the file's own, without its ending, when empty.
        choices: what the user says about its columns; what is not said is guessed.
        start: time of the first row where rows come at an interval.

    Raises:
        NotFound: no such file.
        BadRecording: it cannot be read, or is no table of readings.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield Recording(_text(file), stream or _stream_name(path), choices or Choices(), start)
    except FileNotFoundError as error:
        raise NotFound("no such file", where=str(path)) from error
    except OSError as error:
        raise BadRecording(f"cannot be read: {error.strerror}", where=str(path)) from error
    except BadRecording as error:
        where = f"{path}, {error.where}" if error.where else str(path)
        raise BadRecording(error.message, where=where, hint=error.hint) from error


async def paced(parts: Iterable[Part], *, speed: float, clock: Clock) -> AsyncIterator[Part]:
    """The parts in step with their own time.

    Each part is handed on when its last row has come to pass. Pauses count from the start, so that
    slow hand-overs are made up for.

    Args:
        parts: of a recording; small ones give a smooth replay.
        speed: how many times the recording's own speed; 0 for as fast as possible.
        clock: for the pauses.
    """
    due = clock.monotonic()
    previous: float | None = None
    for part in parts:
        if speed > 0:
            last = float(part.rows.time[-1])
            step = 0.0 if previous is None else (last - previous) / speed
            due += min(max(step, 0.0), MAX_PAUSE_S)
            previous = last
            await clock.sleep(max(0.0, due - clock.monotonic()))
        yield part


def _text(file: TextIO) -> Iterator[str]:
    try:
        yield from file
    except UnicodeDecodeError as error:
        raise BadRecording("the file is not UTF-8 text", hint="Convert it with iconv") from error


def _stream_name(path: Path) -> str:
    return path.stem.replace("+", "-").replace("#", "-").strip() or "recording"
