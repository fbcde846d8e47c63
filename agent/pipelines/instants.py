"""Instants as people and machines write them, to seconds since the Unix epoch. Pure.

Numbers are told apart by size: seconds until the year 5138, then milliseconds, microseconds and
nanoseconds, as devices write today. Text is RFC 3339 or ISO 8601, or one of a few unambiguous local
forms; without an offset it is taken as UTC, since an edge device's zone says nothing about its data.
"""

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.errors import BadReading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Keys and column names that hold a row's instant, in the order of preference.
TIME_NAMES = ("time", "timestamp", "datetime", "ts")

#: Upper edge of each unit of the scale, and how many of that unit make a second.
_UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9))

#: Text forms beside ISO 8601. Day/month/year with slashes is left out: it cannot be told from
#: month/day/year.
_FORMATS = (
    "%d.%m.%Y %H:%M:%S.%f",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%Y/%m/%d %H:%M:%S.%f",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
)

_HINT = "Write epoch seconds, epoch milliseconds or RFC 3339, for example 2026-05-04T10:14:33Z"


def from_number(value: float, *, where: str = "time") -> float:
    """Seconds since the epoch from a number of s, ms, µs or ns.

    Raises:
        BadReading: negative, not finite or beyond every unit.
    """
    for edge, per_second in _UNITS:
        if 0.0 <= value < edge:
            return value / per_second
    raise BadReading(f"{value:g} is not a time", where=where, hint=_HINT)


def from_numbers(values: "NDArray[np.float64]", *, where: str = "time") -> "NDArray[np.float64]":
    """`from_number` of each element.

    Raises:
        BadReading: naming the first element that is not a time.
    """
    import numpy as np

    in_seconds = (values >= 0.0) & (values < _UNITS[0][0])
    if in_seconds.all():
        return values
    return np.array([from_number(float(value), where=where) for value in values])


def from_text(text: str, *, where: str = "time") -> float:
    """Seconds since the epoch from text.

    Raises:
        BadReading: the text is no instant that can be understood.
    """
    try:
        return from_number(float(text), where=where)
    except ValueError:
        pass
    moment = _moment(text.strip())
    if moment is None:
        raise BadReading(f"{text[:40]!r} is not a time", where=where, hint=_HINT)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def from_any(value: object, *, where: str = "time") -> float:
    """Seconds since the epoch from a decoded JSON value.

    Raises:
        BadReading: neither a number nor text, or not a time.
    """
    if isinstance(value, str):
        return from_text(value, where=where)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return from_number(as_float(value), where=where)
    raise BadReading("a time is a number or text", where=where, hint=_HINT)


def as_float(value: float) -> float:
    """A JSON number as a float; an integer too large for one becomes infinity."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    for form in _FORMATS:
        try:
            return datetime.strptime(text, form)  # noqa: DTZ007 (the caller adds the zone)
        except ValueError:
            continue
    return None
