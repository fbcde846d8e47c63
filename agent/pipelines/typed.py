"""The common forms of readings at the speed of the JSON parser. Pure.

Each form has a decoder with one type for every value, so that the parser itself refuses all else by
raising msgspec.ValidationError. What is well-formed and yet not plain (keys that differ between rows,
a name of a stream, two times) gives None. Both leave the payload to the slower reader of `decode`,
which understands it or says which field is wrong.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, NoReturn

import msgspec
import numpy as np

from agent.errors import BadReading
from agent.pipelines.instants import TIME_NAMES, from_number, from_numbers
from agent.pipelines.names import check_rows, check_sensors, check_stream
from agent.types import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Row = dict[str, float | None]
_Column = list[float | None]


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    """Columns as `encode` writes them."""

    time: _Column
    values: dict[str, _Column]
    stream: str | None = None


_ROW = msgspec.json.Decoder(_Row)
_ROWS = msgspec.json.Decoder(list[_Row])
_COLUMNS = msgspec.json.Decoder(dict[str, _Column])
_TABLE = msgspec.json.Decoder(_Table)

_RESERVED = frozenset({"stream", "values"})


def rows(payload: bytes, stream: str | None, now: float) -> Rows | None:
    """An array of rows."""
    return _uniform(_ROWS.decode(payload), stream, now)


def lines(payload: bytes, stream: str | None, now: float) -> Rows | None:
    """A row a line."""
    return _uniform(_ROW.decode_lines(payload), stream, now)


def row_or_columns(payload: bytes, stream: str | None, now: float) -> Rows | None:
    """An object: one row, columns, or columns as `encode` writes them."""
    try:
        return _single(_ROW.decode(payload), stream, now)
    except msgspec.ValidationError:
        pass
    try:
        return _columns(_COLUMNS.decode(payload), stream)
    except msgspec.ValidationError:
        table = _TABLE.decode(payload)
        return _columns({**table.values, "time": table.time}, table.stream or stream)


def named(stream: str | None) -> str:
    """The stream's name, checked.

    Raises:
        BadReading: there is none, or it cannot be one.
    """
    if stream is None:
        raise BadReading("the readings name no stream", hint='Add "stream" to the row or the call')
    return check_stream(stream)


def refuse_untimed(where: str = "") -> NoReturn:
    """Raises BadReading: order and distance of rows without a time would be invented."""
    raise BadReading(
        "several rows, and no time", where=where, hint="Only a single row may leave its time out"
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the keys of a row mean.

    Attributes:
        time: position of the row's time; None when it has none.
        sensors: names of the others.
        columns: positions of the others.
    """

    time: int | None
    sensors: tuple[str, ...]
    columns: "NDArray[np.intp]"


@lru_cache(maxsize=64)
def _plan(keys: tuple[str, ...]) -> _Plan | None:
    """A source sends the same keys again and again; None when they are not plainly sensors."""
    if not _RESERVED.isdisjoint(keys) or sum(name in keys for name in TIME_NAMES) > 1:
        return None
    time = next((i for i, key in enumerate(keys) if key in TIME_NAMES), None)
    columns = [i for i in range(len(keys)) if i != time]
    return _Plan(time, check_sensors([keys[i] for i in columns]), np.array(columns))


def _single(row: _Row, stream: str | None, now: float) -> Rows | None:
    """One row alone: what most sensors send, so without a detour through a table."""
    plan = _plan(tuple(row))
    cells = list(row.values())
    time = cells.pop(plan.time) if plan is not None and plan.time is not None else now
    if plan is None or time is None:
        return None
    values = np.array([cells], dtype=np.float64)
    return Rows(named(stream), plan.sensors, np.array([from_number(time)]), values)


def _uniform(rows: Sequence[_Row], stream: str | None, now: float) -> Rows | None:
    """The table of rows that all have the first row's keys; None when they are not so regular."""
    check_rows(len(rows))
    keys = tuple(rows[0]) if rows else ()
    if not keys or not all(map(keys.__eq__, map(tuple, rows))):
        return None
    if len(rows) == 1:
        return _single(rows[0], stream, now)
    plan = _plan(keys)
    if plan is None:
        return None
    if plan.time is None:
        refuse_untimed()
    return _planned(plan, plan.time, _matrix(rows, len(keys)), stream)


def _columns(columns: Mapping[str, _Column], stream: str | None) -> Rows | None:
    lengths = {len(column) for column in columns.values()}
    plan = _plan(tuple(columns))
    if plan is None or plan.time is None or len(lengths) != 1 or lengths == {0}:
        return None
    check_rows(lengths.pop())
    table = np.array(list(columns.values()), dtype=np.float64).T
    return _planned(plan, plan.time, table, stream)


def _planned(plan: _Plan, at: int, table: "NDArray[np.float64]", stream: str | None) -> Rows | None:
    """The table of all keys, split into times and readings; None when a time is missing."""
    time = table[:, at].copy()
    if math.isnan(time.sum()):
        return None
    return Rows(named(stream), plan.sensors, from_numbers(time), table[:, plan.columns])


def _matrix(rows: Sequence[_Row], width: int) -> "NDArray[np.float64]":
    values = chain.from_iterable(map(dict.values, rows))
    try:
        return np.fromiter(values, np.float64, len(rows) * width).reshape(-1, width)
    except TypeError:  # a null among them
        return np.array([list(row.values()) for row in rows], dtype=np.float64)
