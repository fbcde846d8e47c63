"""Standard input: lines as they come, those that have come together in one batch."""

import os
from collections.abc import Callable, Iterator
from itertools import groupby

from agent.errors import BadReading
from agent.pipelines.entries import join
from agent.pipelines.sources.lines import MAX_LINE, LineDecoder
from agent.types import Rows

_CHUNK = 64 * 1024  # bytes of one read
_TOO_LONG = 4 * MAX_LINE + 1  # bytes; more than MAX_LINE characters, whatever they are


def read_rows(
    descriptor: int,
    stream: str,
    *,
    wall: Callable[[], float],
    refused: Callable[[BadReading], None],
) -> Iterator[Rows]:
    """Rows as they come, those of one read joined, until the input ends. Blocks while nothing comes.

    A line that is not understood is handed to `refused`, and the ones after it go on: a sensor that
    stammers once must not end the day.

    Args:
        descriptor: an open file descriptor.
        stream: the stream of rows that name none.
        wall: the time of rows that bear none.
        refused: told of each line that is not understood.
    """
    decoder = LineDecoder(stream)
    for lines in _lines(descriptor):
        tables: list[Rows] = []
        for line in lines:
            try:
                tables += decoder.feed(line.decode(errors="replace"), wall())
            except BadReading as error:
                refused(error)
        for _, group in groupby(tables, key=lambda rows: (rows.stream, rows.sensors)):
            yield join(list(group))


def _lines(descriptor: int) -> Iterator[list[bytes]]:
    """Whole lines of each read; of a line beyond its bound only the beginning, to be refused."""
    rest = b""
    while chunk := os.read(descriptor, _CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[:_TOO_LONG]
        if lines:
            yield lines
    if rest:
        yield [rest]
