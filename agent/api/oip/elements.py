"""Element types on the wire: little-endian bytes and JSON numbers to arrays and back. Pure."""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from agent.errors import BadTensor
from agent.types import Array

#: What the wire carries. BF16 has no NumPy type: it is read as FP32, which holds each of its values.
WIRE_DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}

MAX_ELEMENTS = 1 << 40  # of one tensor, long before its byte count could overflow anything

#: How the struct module calls the types.
_CODES: Mapping[np.dtype[Any], str] = {
    dtype: dtype.char.replace("l", "q").replace("L", "Q") for dtype in WIRE_DTYPES.values()
}

_BYTE = np.dtype("u1")
_LENGTH = struct.Struct("<I")


def element_count(shape: Sequence[int], name: str) -> int:
    """The product of the dimensions.

    Raises:
        BadTensor: a dimension is negative, or the product is beyond reason.
    """
    if min(shape, default=0) < 0:
        raise BadTensor(f"the shape {list(shape)} has a negative size", where=name)
    count = math.prod(shape)
    if count > MAX_ELEMENTS:
        raise BadTensor("the product of the shape's sizes is too large", where=name)
    return count


def from_bf16(array: Array) -> Array:
    """BF16 bit patterns as FP32: the upper half of the bits is the number."""
    return (array.astype(np.uint32) << 16).view(np.float32)


def refuse_nan(array: Array, name: str) -> Array:
    """The array, unless an element is not a number.

    Raises:
        BadTensor: one is.
    """
    if np.isnan(array).any():
        where = np.argwhere(np.isnan(array))[0].tolist()
        raise BadTensor(f"the element at {where} is not a number (NaN)", where=name)
    return array


def refuse_not_finite(array: Array, name: str) -> Array:
    """The array, unless an element is not a number or infinite.

    Raises:
        BadTensor: one is.
    """
    finite = np.isfinite(array)
    if not finite.all():
        where = np.argwhere(~finite)[0]
        what = "infinite" if np.isinf(array[tuple(where)]) else "not a number (NaN)"
        raise BadTensor(f"the element at {where.tolist()} is {what}", where=name)
    return array


def refuse_other_bools(array: Array, name: str) -> Array:
    """The array, unless a byte of it is neither 0 nor 1.

    Raises:
        BadTensor: one is.
    """
    if (array.view(np.uint8) > 1).any():
        raise BadTensor("a BOOL is a byte that is 0 or 1", where=name)
    return array


# Strings


def read_strings(data: bytes | memoryview, shape: Sequence[int], name: str) -> Array:
    """BYTES elements: each is a length of four bytes, little-endian, and so many bytes.

    Raises:
        BadTensor: a length reaches over the end, or there are more or fewer elements than declared.
    """
    count = element_count(shape, name)
    if count * 4 > len(data):
        raise BadTensor(f"{count} strings do not fit into {len(data)} bytes", where=name)
    array = np.empty(count, dtype=np.object_)
    array[:] = list(_strings(data, count, name))
    return array.reshape(tuple(shape))


def _strings(data: bytes | memoryview, count: int, name: str) -> Iterator[bytes]:
    start = 0
    for index in range(count):
        end = start + 4
        if end > len(data):
            raise BadTensor(f"the bytes end before element {index} of {count}", where=name)
        start, end = end, end + _LENGTH.unpack_from(data, start)[0]
        if end > len(data):
            raise BadTensor(f"element {index} is longer than the bytes that are there", where=name)
        yield bytes(data[start:end])
        start = end
    if start != len(data):
        raise BadTensor(f"{len(data) - start} bytes follow the last element", where=name)


def write_strings(array: Array) -> bytes:
    """BYTES elements, each with its length before it."""
    parts = []
    for item in array.ravel().tolist():
        data = item.encode() if isinstance(item, str) else bytes(item)
        parts += [_LENGTH.pack(len(data)), data]
    return b"".join(parts)


# JSON

_FLAT: Mapping[str, msgspec.json.Decoder[Any]] = {
    "b": msgspec.json.Decoder(list[bool]),
    "u": msgspec.json.Decoder(list[int]),
    "i": msgspec.json.Decoder(list[int]),
    "f": msgspec.json.Decoder(list[float]),
    "O": msgspec.json.Decoder(list[str]),
}
_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_KINDS: Mapping[str, tuple[type, ...]] = {
    "b": (bool,),
    "u": (int,),
    "i": (int,),
    "f": (int, float),
    "O": (str,),
}


def read_json(
    raw: bytes | memoryview, dtype: np.dtype[Any], shape: Sequence[int], name: str
) -> Array:
    """Elements given as JSON, flat or nested as the shape is, in row-major order.

    Raises:
        BadTensor: an element is of another type or does not fit, or their number is not the shape's.
    """
    values = _values(raw, dtype, shape, name)
    count = element_count(shape, name)
    if len(values) != count:
        raise BadTensor(
            f"the shape {list(shape)} has {count} elements, data has {len(values)}", where=name
        )
    if dtype == np.object_:
        array = np.empty(count, dtype=np.object_)
        array[:] = [value.encode() for value in values]
    else:
        array = _numbers(values, dtype, name)
    return array.reshape(tuple(shape))


def _values(
    raw: bytes | memoryview, dtype: np.dtype[Any], shape: Sequence[int], name: str
) -> list[Any]:
    try:
        flat: list[Any] = _FLAT[dtype.kind].decode(raw)
        return flat
    except msgspec.ValidationError:
        pass  # nested, or wrong
    except _NOT_JSON as error:
        raise BadTensor(f"data is not JSON: {error}", where=name) from None
    try:
        nested = _ANY.decode(raw)
    except _NOT_JSON as error:  # behind the element that was not of the type
        raise BadTensor(f"data is not JSON: {error}", where=name) from None
    values: list[Any] = []
    _flatten(nested, tuple(shape), _KINDS[dtype.kind], values, name)
    return values


def _flatten(
    value: Any, shape: tuple[int, ...], kinds: tuple[type, ...], into: list[Any], name: str
) -> None:
    """Append the elements of a nested list, whose nesting must be the shape's."""
    if not isinstance(value, list) or not shape or len(value) != shape[0]:
        raise BadTensor(
            f"data has other elements, or another nesting, than the shape {list(shape)}", where=name
        )
    if len(shape) > 1:
        for item in value:
            _flatten(item, shape[1:], kinds, into, name)
    elif all(type(item) in kinds for item in value):
        into += value
    else:
        raise BadTensor("an element of data has another type than the tensor", where=name)


def _numbers(values: Sequence[Any], dtype: np.dtype[Any], name: str) -> Array:
    # Twice as fast as NumPy's own conversion, and it refuses what does not fit.
    try:
        return np.frombuffer(struct.pack(f"<{len(values)}{_CODES[dtype]}", *values), dtype)
    except (struct.error, OverflowError):
        raise BadTensor(f"an element of data does not fit {dtype.name}", where=name) from None


#: The text of each value of one byte, with a comma, all equally wide: JSON allows the spaces.
_TEXTS: Mapping[np.dtype[Any], Array] = {
    np.dtype("i1"): np.array([b"%4d," % (n - 256 * (n > 127)) for n in range(256)]),
    np.dtype("u1"): np.array([b"%4d," % n for n in range(256)]),
}


def plain(array: Array) -> list[Any] | msgspec.Raw:
    """Elements in row-major order for JSON; strings that are not UTF-8 keep what is readable."""
    texts = _TEXTS.get(array.dtype)
    if texts is not None and array.size:
        # A third of the time that numbers would take through Python's objects.
        return msgspec.Raw(b"[%b]" % texts.take(array.ravel().view(_BYTE)).tobytes()[:-1])
    values = array.ravel().tolist()
    if array.dtype == np.object_:
        return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values]
    return values
