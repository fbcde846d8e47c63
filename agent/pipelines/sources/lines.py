"""Lines of text as they arrive, to rows. Pure.

The first line that is not empty decides: one that begins with { or [ is JSON, a row or rows a line;
a plain number is one reading a line; anything else is the header of delimited text.
"""

from collections.abc import Callable

import numpy as np

from agent.errors import BadReading
from agent.pipelines.decode import decode_csv, decode_json, decode_number
from agent.types import Rows

#: Characters of one line.
MAX_LINE = 64 * 1024


class LineDecoder:
    """Decodes the lines of one source."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._decode: Callable[[str, float], list[Rows]] | None = None
        self._line = 0

    def feed(self, line: str, now: float) -> list[Rows]:
        """Rows of the next line; none for an empty line or a header.

        Raises:
            BadReading: the line is not understood; the next one may be.
        """
        self._line += 1
        if not line.strip():
            return []
        if len(line) > MAX_LINE:
            raise BadReading(f"over {MAX_LINE} characters", where=f"line {self._line}")
        try:
            if self._decode is None:
                self._decode = self._choose(line)
                if self._decode == self._cells:
                    return []
            return self._decode(line, now)
        except BadReading as error:
            where = f"line {self._line}" + (f", {error.where}" if error.where else "")
            raise BadReading(error.message, where=where, hint=error.hint) from error

    def _choose(self, line: str) -> Callable[[str, float], list[Rows]]:
        if line.lstrip()[0] in "{[":
            return self._json
        try:
            decode_number(line.strip().encode())
        except BadReading:
            self._header = line.rstrip("\r\n")
            return self._cells
        return self._number

    def _json(self, line: str, now: float) -> list[Rows]:
        return decode_json(line.encode(), stream=self._stream, now=now)

    def _number(self, line: str, now: float) -> list[Rows]:
        value = decode_number(line.strip().encode())
        return [Rows(self._stream, ("value",), np.array([now]), np.array([[value]]))]

    def _cells(self, line: str, now: float) -> list[Rows]:
        table = f"{self._header}\n{line}".encode()
        return decode_csv(table, stream=self._stream, now=now)
