"""The Sparkplug B payload, a Protocol Buffers message, as far as a device writes and reads it. Pure.

Written here and not by the protobuf runtime, which costs more memory than the rest of the sync: the
message has five fields and a metric nine (sparkplug_b.proto, Sparkplug 3.0.0, section 6.4).
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from agent.errors import BadPayload
from agent.varints import read_varint, varint

MAX_BYTES = 64 * 1024  # of a payload that is read
MAX_METRICS = 1024  # of a payload that is read

Value = bool | int | float | str | None


class DataType(IntEnum):
    """Types of metrics, by their numbers on the wire (section 6.4.16)."""

    INT64 = 4
    UINT64 = 8
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13


@dataclass(frozen=True, slots=True)
class Metric:
    """One named value.

    Attributes:
        name: with `/` between its levels.
        type: of the value.
        value: None is sent as null; DATETIME is milliseconds since 1970, UTC.
        timestamp: when it held, milliseconds since 1970, UTC.
        historical: whether it was stored before it was sent.
    """

    name: str
    type: DataType
    value: Value
    timestamp: int
    historical: bool = False


def encode(metrics: Sequence[Metric], *, timestamp: int, seq: int | None, uuid: str = "") -> bytes:
    """A payload.

    Args:
        metrics: in order.
        timestamp: of sending, milliseconds since 1970, UTC.
        seq: 0 to 255; None for a death certificate, which has none.
        uuid: by which a receiver drops repeats; empty for none.
    """
    parts = [_varint(1, timestamp)]
    parts += [_bytes(2, _metric(metric)) for metric in metrics]
    if seq is not None:
        parts.append(_varint(3, seq))
    if uuid:
        parts.append(_bytes(4, uuid.encode()))
    return b"".join(parts)


def _metric(metric: Metric) -> bytes:
    parts = [
        _bytes(1, metric.name.encode()),
        _varint(3, metric.timestamp),
        _varint(4, metric.type),
    ]
    if metric.historical:
        parts.append(_varint(5, 1))
    parts.append(_varint(7, 1) if metric.value is None else _value(metric.type, metric.value))
    return b"".join(parts)


def _value(kind: DataType, value: Value) -> bytes:
    if kind is DataType.DOUBLE:
        return bytes([13 << 3 | 1]) + struct.pack("<d", value)
    if kind is DataType.STRING:
        return _bytes(15, str(value).encode())
    if kind is DataType.BOOLEAN:
        return _varint(14, int(bool(value)))
    assert isinstance(value, int)
    return _varint(11, value & 0xFFFF_FFFF_FFFF_FFFF)


def _varint(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def _bytes(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def booleans(payload: bytes) -> dict[str, bool]:
    """The boolean metrics of a command: all that a device is told by Sparkplug.

    Raises:
        BadPayload: it is not a Sparkplug payload, or larger than the bounds.
    """
    if len(payload) > MAX_BYTES:
        raise BadPayload(f"{len(payload)} bytes, {MAX_BYTES} are allowed", where="payload")
    found: dict[str, bool] = {}
    for count, data in enumerate(_embedded(payload, 2)):
        if count >= MAX_METRICS:
            raise BadPayload(f"more than {MAX_METRICS} metrics", where="payload")
        name, value = "", None
        for field, part in _fields(data):
            if field == 1 and isinstance(part, bytes):
                name = part.decode(errors="replace")
            elif field == 14 and isinstance(part, int):
                value = bool(part)
        if value is not None:
            found[name] = value
    return found


def _embedded(payload: bytes, wanted: int) -> Iterator[bytes]:
    for field, part in _fields(payload):
        if field == wanted and isinstance(part, bytes):
            yield part


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field; fixed-size ones as their bytes."""
    at = 0
    while at < len(data):
        key, at = read_varint(data, at, "payload")
        kind = key & 7
        if kind == 0:
            value, at = read_varint(data, at, "payload")
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = read_varint(data, at, "payload")
        elif kind in {1, 5}:
            size = 8 if kind == 1 else 4
        else:
            raise BadPayload(f"wire type {kind} is not of Protocol Buffers 3", where="payload")
        if at + size > len(data):
            raise BadPayload("it is cut short", where="payload")
        yield key >> 3, data[at : at + size]
        at += size
