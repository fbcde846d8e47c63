"""Delimited text to a table of readings: what separates cells, which column is what. Pure.

Nothing has to be said about a usual file: the delimiter is `,`, `;` or tab, whichever the header has
most of; the decimal comma is recognised where the delimiter leaves it free; the time is the column
(or the date and time columns) so named, or else the first that holds instants. Columns of labels
are kept apart, since a detector that sees the answers is worthless. Columns that hold text are left
out and reported.
"""

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from agent.errors import BadReading, BadRecording
from agent.pipelines.instants import from_text
from agent.pipelines.names import MAX_NAME, MAX_ROWS, MAX_SENSORS, check_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

DELIMITERS = (",", ";", "\t")

#: Columns that say what the reader should find out, compared in lower case.
LABEL_NAMES = frozenset(
    (
        *("anomaly", "anomalies", "anomalous", "is_anomaly", "anomaly_label", "outlier"),
        *("is_outlier", "changepoint", "change_point", "label", "labels", "is_label", "truth"),
        *("ground_truth", "attack", "target", "class", "fault", "failure"),
    )
)
_TIME_COLUMNS = ("datetime", "timestamp", "time", "ts", "date", "date_time", "epoch")
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-"})
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+(?:[eE][-+]?\d+)?\s*")

#: Lines from which columns are recognised.
SAMPLE_ROWS = 200
#: Characters of one line.
MAX_LINE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user says about a table; what is left empty is guessed.

    Attributes:
        time: name of the column with the instants; guessed when empty.
        labels: columns kept apart, beside those that are recognised.
        interval_s: seconds between rows of a table without a time column; 0 demands one.
    """

    time: str = ""
    labels: tuple[str, ...] = ()
    interval_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Layout:
    """What each column of a table is.

    Attributes:
        time: column numbers that together hold the instant; empty when rows come at an interval.
        time_name: the name to show for them.
        sensors: column number and name of each sensor.
        labels: column number and name of each column of labels.
        left_out: names of columns that hold text.
        decimal: the decimal sign.
    """

    time: tuple[int, ...]
    time_name: str
    sensors: tuple[tuple[int, str], ...]
    labels: tuple[tuple[int, str], ...]
    left_out: tuple[str, ...]
    decimal: str


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive rows of a table: time [n], values [n, k], each column of labels [n]."""

    sensors: tuple[str, ...]
    time: "NDArray[np.float64]"
    values: "NDArray[np.float64]"
    labels: "Mapping[str, NDArray[np.float64]]"


class TableReader:
    """Reads delimited text line by line.

    Attributes:
        layout: what the columns are, known once the reader is made.
    """

    def __init__(self, lines: Iterable[str], choices: Choices, *, start: float = 0.0) -> None:
        """Read the header and a sample.

        Args:
            lines: the text; only as much as is asked for is consumed.
            choices: what the user says about the table.
            start: time of the first row of a table without a time column.

        Raises:
            BadRecording: no table of readings can be seen in the text.
        """
        source = _bounded(lines)
        header = next((line for line in source if line.strip()), "")
        self._skipped = 1
        delimiter = max(DELIMITERS, key=header.count)
        names = _names(header, delimiter)
        self._reader = csv.reader(source, delimiter=delimiter, skipinitialspace=True)
        sample = list(islice(self._cells(), SAMPLE_ROWS))
        whole = [cells for _, cells in sample if len(cells) == len(names)]
        self.layout = _layout(names, whole, delimiter, choices)
        self._rows = chain(sample, self._cells())
        self._width = len(names)
        self._choices = choices
        self._start = start
        self._count = 0

    def slices(self, size: int) -> Iterator[Slice]:
        """The rows, `size` at a time.

        Raises:
            BadRecording: a row cannot be read; `where` names line and column.
        """
        while rows := list(islice(self._rows, size)):
            yield self._slice(rows)
            self._count += len(rows)

    def _cells(self) -> Iterator[tuple[int, list[str]]]:
        """Line number and cells of each row that is not empty."""
        try:
            for cells in self._reader:
                if any(cells):
                    yield self._reader.line_num + self._skipped, cells
        except csv.Error as error:
            raise BadRecording(str(error), where=f"line {self._reader.line_num + 1}") from error

    def _slice(self, rows: Sequence[tuple[int, list[str]]]) -> Slice:
        for line, cells in rows:
            if len(cells) != self._width:
                raise BadRecording(
                    f"{len(cells)} cells under {self._width} columns", where=f"line {line}"
                )
        layout = self.layout
        values = [self._numbers(rows, i, name) for i, name in layout.sensors]
        return Slice(
            tuple(name for _, name in layout.sensors),
            self._times(rows),
            np.ascontiguousarray(np.array(values).T),
            {name: np.array(self._numbers(rows, i, name)) for i, name in layout.labels},
        )

    def _numbers(
        self, rows: Sequence[tuple[int, list[str]]], column: int, name: str
    ) -> list[float]:
        try:  # a whole column of plain numbers is the usual case
            numbers = [float(cells[column]) for _, cells in rows]
            if not any(map(math.isinf, numbers)):
                return numbers
        except ValueError:
            pass
        return [self._number(line, cells[column], name) for line, cells in rows]

    def _number(self, line: int, text: str, name: str) -> float:
        number = _number(text, self.layout.decimal)
        if number is None or math.isinf(number):
            raise BadRecording(
                f"expected a number, got {text[:40]!r}", where=f"line {line}, column {name!r}"
            )
        return number

    def _times(self, rows: Sequence[tuple[int, list[str]]]) -> "NDArray[np.float64]":
        if not self.layout.time:
            steps = np.arange(self._count, self._count + len(rows), dtype=np.float64)
            return self._start + steps * self._choices.interval_s
        return np.array([self._time(line, cells) for line, cells in rows])

    def _time(self, line: int, cells: list[str]) -> float:
        text = " ".join(cells[i] for i in self.layout.time)
        try:
            return from_text(text)
        except BadReading as error:
            where = f"line {line}, column {self.layout.time_name!r}"
            raise BadRecording(error.message, where=where, hint=error.hint) from error


def read_table(payload: bytes, *, now: float) -> Slice:
    """A whole table from a request's body, in which every column must be understood.

    Raises:
        BadRecording: a column holds text, or a row cannot be read.
        TooLarge: more than MAX_ROWS rows.
    """
    try:
        text = payload.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRecording("the text is not UTF-8") from error
    reader = TableReader(text.splitlines(), Choices(interval_s=1.0), start=now)
    if reader.layout.left_out:
        name = reader.layout.left_out[0]
        raise BadRecording("the column holds text, not numbers", where=f"column {name!r}")
    table = next(reader.slices(MAX_ROWS + 1), None)
    if table is None:
        raise BadRecording("there are no rows under the header")
    check_rows(len(table.time))
    if len(table.time) > 1 and not reader.layout.time:
        raise BadRecording("several rows, and no column looks like a time", where="line 1")
    return table


def _bounded(lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE:
            raise BadRecording(f"over {MAX_LINE} characters", where=f"line {number}")
        if "\0" in line:
            raise BadRecording("the file is not text", where=f"line {number}")
        yield line


def _names(header: str, delimiter: str) -> list[str]:
    try:
        cells = next(csv.reader([header.lstrip("\ufeff")], delimiter=delimiter), [])
    except csv.Error as error:
        raise BadRecording(str(error), where="line 1") from error
    names = [cell.strip() for cell in cells]
    if not names or all(_number(name, ".") is not None for name in names):
        raise BadRecording("the first line must name the columns", where="line 1")
    for name in names:
        if name and names.count(name) > 1:
            raise BadRecording("two columns have this name", where=f"line 1, column {name!r}")
    if any(len(name) > MAX_NAME for name in names):
        raise BadRecording(f"a column's name has over {MAX_NAME} characters", where="line 1")
    return [name or f"(column {number})" for number, name in enumerate(names, 1)]


def _layout(
    names: list[str], sample: Sequence[list[str]], delimiter: str, choices: Choices
) -> Layout:
    columns = list(zip(*sample, strict=True)) or [()] * len(names)
    time = _time_columns(names, columns, choices)
    known = LABEL_NAMES | {name.lower() for name in choices.labels}
    _check_named(choices.labels, names)
    decimal = "," if delimiter != "," and _has_decimal_comma(columns) else "."
    sensors, labels, left_out = [], [], []
    for i, name in enumerate(names):
        if i in time:
            continue
        if name.lower() in known:
            labels.append((i, name))
        elif name.startswith("(column") or not _is_numeric(columns[i], decimal):
            left_out.append(name)
        else:
            sensors.append((i, name))
    if not sensors:
        text = ", ".join(left_out)
        raise BadRecording("no column holds numbers only", where=f"columns {text}" if text else "")
    if len(sensors) > MAX_SENSORS:
        raise BadRecording(f"{len(sensors)} sensors, at most {MAX_SENSORS} fit one stream")
    numeric_labels = [(i, name) for i, name in labels if _is_numeric(columns[i], decimal)]
    return Layout(
        time,
        " ".join(names[i] for i in time),
        tuple(sensors),
        tuple(numeric_labels),
        (*left_out, *(name for _, name in labels if (_, name) not in numeric_labels)),
        decimal,
    )


def _time_columns(
    names: Sequence[str], columns: Sequence[Sequence[str]], choices: Choices
) -> tuple[int, ...]:
    if choices.time:
        _check_named((choices.time,), names)
        return (names.index(choices.time),)
    lower = [name.lower() for name in names]
    if "date" in lower and "time" in lower:
        return lower.index("date"), lower.index("time")
    for name in _TIME_COLUMNS:
        if name in lower:
            return (lower.index(name),)
    for i, column in enumerate(columns):
        if column and all(map(_is_instant, column)):
            return (i,)
    if choices.interval_s > 0:
        return ()
    raise BadRecording(
        "no column looks like a time",
        where="line 1",
        hint=f"Name it, or give the interval between rows. The columns are: {', '.join(names)}",
    )


def _check_named(wanted: Iterable[str], names: Sequence[str]) -> None:
    for name in wanted:
        if name not in names:
            raise BadRecording(
                "no such column", where=repr(name), hint=f"The columns are: {', '.join(names)}"
            )


def _is_instant(text: str) -> bool:
    """Whether the cell is an instant beyond doubt: text, since any number could be a reading."""
    if _number(text, ",") is not None:
        return False
    try:
        from_text(text)
    except BadReading:
        return False
    return True


def _is_numeric(column: Sequence[str], decimal: str) -> bool:
    return all(_number(text, decimal) is not None for text in column)


def _has_decimal_comma(columns: Sequence[Sequence[str]]) -> bool:
    return any(_DECIMAL_COMMA.fullmatch(text) for column in columns for text in column)


def _number(text: str, decimal: str) -> float | None:
    """The number, NaN for a cell that says it has none, or None for other text."""
    if text.strip().lower() in _MISSING:
        return math.nan
    try:
        return float(text.replace(",", ".") if decimal == "," else text)
    except ValueError:
        return None
