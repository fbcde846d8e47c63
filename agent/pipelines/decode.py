"""Payloads of readings to rows. Pure.

What is understood, as JSON:

    {"time": 1716800000.5, "flow": 3.1, "pressure": 0.4}      one row
    {"time": …, "values": {"flow": 3.1}}                       the same, nested
    [{…}, {…}]                                                 rows
    {"time": […], "flow": […]}                                 columns
    {"stream": "pump-1", …}                                    any of these, naming its stream

and the same rows one per line (NDJSON), as delimited text with a header, or as one plain number.
Times are what `instants` reads; one row without a time gets `now`, several are refused, since their
order and distance would be invented. `null` and NaN mean "no reading". Everything else that is not
a number is refused with the field's name.

Each form has a typed decoder, which takes the common case at the speed of the JSON parser; whatever
it does not take goes to a slower reader that either understands it or says which field is wrong.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from agent.errors import BadReading, BadRecording
from agent.pipelines import typed
from agent.pipelines.instants import TIME_NAMES, as_float, from_any
from agent.pipelines.names import check_rows, check_sensors, check_size
from agent.pipelines.tables import read_table
from agent.types import Rows

_ANY = msgspec.json.Decoder()

#: What the JSON parser raises on bytes that are not JSON; deep nesting ends in RecursionError.
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode_json(payload: bytes, *, stream: str | None, now: float) -> list[Rows]:
    """Rows of one JSON payload, one table per stream that it names.

    Args:
        payload: a JSON object or array.
        stream: the stream of rows that name none.
        now: the time of a single row without one, seconds since the epoch.

    Raises:
        BadReading: not JSON, or a field that is no reading; `where` names it.
        TooLarge: more bytes or rows than one payload may hold.
    """
    check_size(payload)
    start = payload[:64].lstrip()[:1]
    try:
        if start == b"[":
            rows = typed.rows(payload, stream, now)
        else:
            rows = typed.row_or_columns(payload, stream, now)
    except msgspec.ValidationError:
        rows = None
    except _MALFORMED as error:
        raise _not_json(error) from error
    return [rows] if rows is not None else _from_any(_parse(payload), stream, now)


def decode_ndjson(payload: bytes, *, stream: str | None, now: float) -> list[Rows]:
    """Rows of a payload with one JSON row per line; empty lines are skipped.

    Raises:
        BadReading: a line is not a row; `where` names line and field.
        TooLarge: more bytes or rows than one payload may hold.
    """
    check_size(payload)
    try:
        rows = typed.lines(payload, stream, now)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        rows = None
    if rows is not None:
        return [rows]
    lines = [line for line in payload.splitlines() if line.strip()]
    check_rows(len(lines))
    items = [_parse(line, f"line {n}") for n, line in enumerate(lines, 1)]
    return _from_rows(items, stream, now, "line", 1)


def decode_csv(payload: bytes, *, stream: str | None, now: float) -> list[Rows]:
    """Rows of delimited text with a header; columns of labels are left out.

    Raises:
        BadReading: not such a table, or a cell that is no reading; `where` names line and column.
        TooLarge: more bytes or rows than one payload may hold.
    """
    check_size(payload)
    try:
        table = read_table(payload, now=now)
    except BadRecording as error:
        raise BadReading(error.message, where=error.where, hint=error.hint) from error
    return [Rows(typed.named(stream), check_sensors(table.sensors), table.time, table.values)]


def decode_number(payload: bytes, *, where: str = "value") -> float:
    """One plain number; "nan" means that the sensor has no reading now.

    Raises:
        BadReading: the payload is not a finite number.
    """
    try:
        value = float(payload) if len(payload) <= 64 else math.inf
    except ValueError as error:
        raise BadReading("the payload is neither JSON nor a number", where=where) from error
    if math.isinf(value):
        raise BadReading("the number is not finite", where=where)
    return value


def decode_single(payload: bytes, *, sensor: str, now: float) -> tuple[float, float] | None:
    """Time and value of a message about one sensor: a number or {"value": …, "time": …}.

    Returns:
        None when the payload is JSON of another form, for `decode_json` to read.

    Raises:
        BadReading: it is such a message, and its value or time is not understood.
    """
    start = payload[:64].lstrip()[:1]
    if not start or start not in b"{[":
        return now, decode_number(payload, where=sensor)
    if start == b"[" or len(payload) > 4096:
        return None
    item = _parse(payload)
    if not isinstance(item, dict) or "value" not in item:
        return None
    return _time_of(item, now, sensor), _number(item["value"], sensor)


# The general path: any JSON value, examined field by field.


def _from_any(item: object, stream: str | None, now: float) -> list[Rows]:
    if isinstance(item, list):
        return _from_rows(item, stream, now, "row", 0)
    if isinstance(item, dict):
        flat = _flat(item, "")
        if any(isinstance(value, list) for key, value in flat.items() if key != "stream"):
            return _from_rows(_transposed(flat), stream, now, "row", 0)
        return _from_rows([item], stream, now, "", 0)
    raise BadReading(
        f"expected a JSON object or array, got {_kind(item)}",
        hint='Send {"time": …, "flow": 1.5}, an array of such rows, or columns',
    )


def _from_rows(
    items: Sequence[object], stream: str | None, now: float, word: str, first: int
) -> list[Rows]:
    check_rows(len(items))
    if not items:
        raise BadReading("there are no rows")
    builders: dict[str, _Builder] = {}
    for number, item in enumerate(items, first):
        where = f"{word} {number}" if word else ""
        row = _flat(item, where)
        name = _stream_of(row, stream, where)
        builders.setdefault(name, _Builder()).add(row, None if len(items) > 1 else now, where)
    return [builder.rows(name) for name, builder in builders.items()]


class _Builder:
    """Collects rows with whatever sensors they have; a row that lacks one has no reading of it."""

    def __init__(self) -> None:
        self._sensors: dict[str, int] = {}
        self._times: list[float] = []
        self._rows: list[dict[int, float]] = []

    def add(self, row: Mapping[str, object], now: float | None, where: str) -> None:
        self._times.append(_time_of(row, now, where))
        values = {
            self._sensors.setdefault(key, len(self._sensors)): _number(value, _at(where, key))
            for key, value in row.items()
            if key not in TIME_NAMES and key != "stream"
        }
        if not values:
            raise BadReading("the row holds no sensor", where=where)
        self._rows.append(values)

    def rows(self, stream: str) -> Rows:
        sensors = check_sensors(tuple(self._sensors))
        values = np.full((len(self._rows), len(sensors)), np.nan)
        for row, found in zip(values, self._rows, strict=True):
            row[list(found)] = list(found.values())
        return Rows(stream, sensors, np.array(self._times), values)


def _flat(item: object, where: str) -> dict[str, object]:
    """The row with its nested `values` lifted."""
    if not isinstance(item, dict):
        raise BadReading(f"expected a row as an object, got {_kind(item)}", where=where)
    nested = item.get("values")
    if nested is None:
        return {key: value for key, value in item.items() if key != "values"}
    if not isinstance(nested, dict):
        raise BadReading(f"expected an object, got {_kind(nested)}", where=_at(where, "values"))
    return {**{key: value for key, value in item.items() if key != "values"}, **nested}


def _transposed(columns: Mapping[str, object]) -> list[dict[str, object]]:
    shared = columns.get("stream")
    lists = {key: value for key, value in columns.items() if key != "stream"}
    lengths = {key: len(value) for key, value in lists.items() if isinstance(value, list)}
    length = next(iter(lengths.values()))
    for key, value in lists.items():
        if lengths.get(key) != length:
            got = lengths.get(key, _kind(value))
            raise BadReading(f"expected a column of {length} values, got {got}", where=key)
    check_rows(length)
    rows = [dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True)]
    return rows if shared is None else [{**row, "stream": shared} for row in rows]


def _time_of(row: Mapping[str, object], now: float | None, where: str) -> float:
    for name in TIME_NAMES:
        if (value := row.get(name)) is not None:
            return from_any(value, where=_at(where, name))
    if now is None:
        typed.refuse_untimed(where)
    return now


def _stream_of(row: Mapping[str, object], default: str | None, where: str) -> str:
    name = row.get("stream", default)
    if name is not None and not isinstance(name, str):
        raise BadReading(f"expected a name, got {_kind(name)}", where=_at(where, "stream"))
    return typed.named(name)


def _number(value: object, where: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = as_float(value)
        if not math.isinf(number):
            return number
        raise BadReading("the number is out of range", where=where)
    raise BadReading(f"expected a number, got {_kind(value)}", where=where)


# Small things that both paths share.


def _parse(payload: bytes, where: str = "") -> object:
    try:
        return _ANY.decode(payload)
    except (msgspec.MsgspecError, *_MALFORMED) as error:
        raise _not_json(error, where) from error


def _not_json(error: Exception, where: str = "") -> BadReading:
    text = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    return BadReading(text[:120].removeprefix("JSON is malformed: ") + " (not JSON)", where=where)


def _at(where: str, field: str) -> str:
    return f"{where}, {field}" if where else field


def _kind(value: object) -> str:
    names: dict[type, str] = {bool: "a boolean", str: "text", list: "an array", dict: "an object"}
    return "null" if value is None else names.get(type(value), "a number")
