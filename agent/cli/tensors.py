"""Tensors of the command line: from files and text to arrays that fit a model, and arrays as text."""

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.api.oip.elements import WIRE_DTYPES, read_strings, write_strings
from agent.errors import BadPayload, BadTensor, NotFound
from agent.types import Array

MAX_FILE = 64 * 1024 * 1024  # bytes, as much as the daemon takes by default
SHOWN = 100  # elements of an output that are printed whole


def read_array(text: str, name: str) -> Array:
    """An array from what stands behind an input's name: a file, ``-`` for standard input, or JSON.

    What a file holds is seen from its first bytes, not from its name: NumPy's format, JSON (lists,
    nested as the shape is), or lines of numbers separated by commas, a line of names before them
    allowed.

    Raises:
        NotFound: there is no such file.
        BadPayload: it is none of these.
    """
    if text.lstrip().startswith("["):
        return _from_json(text.encode(), name)
    data = _content(text)
    if data.startswith(b"\x93NUMPY"):
        return _from_numpy(data, text)
    if data.lstrip()[:1] in {b"[", b'"'}:
        return _from_json(data, text)
    return _from_csv(data, text)


def fitted(array: Array, spec: Mapping[str, Any]) -> tuple[str, Array]:
    """An array in the type and shape that a model takes, and the type's name on the wire.

    Real numbers stay real for a quantized input: the daemon stores them by the model's own scale.

    Args:
        array: as it was read.
        spec: the input as the daemon describes it.

    Raises:
        BadTensor: its elements or their number are not what the model takes.
    """
    name, dtype = spec["name"], spec["datatype"]
    shaped = _shaped(array, spec["shape"], name)
    if dtype == "BYTES":
        return dtype, _strings(shaped, name)
    if shaped.dtype.kind not in "biuf":
        raise BadTensor(f"the model takes {dtype}, not text", where=name)
    if spec.get("quantization") and shaped.dtype.kind == "f":
        return "FP32", shaped.astype("<f4")
    return dtype, _cast(shaped, WIRE_DTYPES[dtype], name)


def to_wire(array: Array) -> bytes:
    """Elements as they are sent, row by row."""
    return write_strings(array) if array.dtype == np.object_ else array.tobytes()


def from_wire(data: bytes, dtype: str, shape: Sequence[int], name: str) -> Array:
    """Elements as they were sent."""
    if dtype == "BYTES":
        return read_strings(data, shape, name)
    return np.frombuffer(data, WIRE_DTYPES[dtype]).reshape(tuple(shape))


def to_text(array: Array) -> str:
    """An array for a person: whole when it is small, else its edges and what it ranges over."""
    if array.dtype == np.object_:
        return "\n".join(_words(array))
    shown = np.array2string(array, precision=6, threshold=SHOWN, max_line_width=100)
    if array.size <= SHOWN:
        return shown
    low, high = np.nanmin(array), np.nanmax(array)
    return f"{shown}\nlowest {low:.6g}, mean {np.nanmean(array):.6g}, highest {high:.6g}"


def to_plain(array: Array) -> Any:
    """An array as nested lists for JSON."""
    if array.dtype == np.object_:
        return _words(array)
    return array.tolist()


def save(array: Array, path: str) -> None:
    """Write an array: JSON where the name ends so, ``-`` or lines of numbers for CSV, else NumPy's.

    Raises:
        BadPayload: the place cannot be written, or the array has no rows and columns for CSV.
    """
    write = _WRITERS.get(Path(path).suffix.lower(), _write_numpy)
    if path == "-":
        sys.stdout.buffer.write(_write_json(array))
        return
    try:
        Path(path).write_bytes(write(array))
    except OSError as error:
        raise BadPayload(f"cannot be written: {error.strerror}", where=path) from error


def _content(path: str) -> bytes:
    try:
        if path == "-":
            data = sys.stdin.buffer.read(MAX_FILE + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise NotFound("there is no such file", where=path) from None
    except OSError as error:
        raise BadPayload(f"cannot be read: {error.strerror}", where=path) from error
    if len(data) > MAX_FILE:
        raise BadPayload(f"is larger than {MAX_FILE >> 20} MiB", where=path)
    if not data.strip():
        raise BadPayload("is empty", where=path)
    return data


def _from_numpy(data: bytes, where: str) -> Array:
    try:
        loaded: Array = np.load(io.BytesIO(data), allow_pickle=False)
    except ValueError as error:
        raise BadPayload(f"not a NumPy array: {error}", where=where) from None
    return loaded


def _from_json(data: bytes, where: str) -> Array:
    try:
        array = np.array(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise BadPayload(f"not JSON of even rows: {error}", where=where) from None
    if array.dtype == np.object_:
        raise BadPayload("holds more than numbers or texts", where=where)
    return array


def _from_csv(data: bytes, where: str) -> Array:
    try:
        rows = [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"))) if row]
        if not _all_numbers(rows[0]):
            del rows[0]  # names of columns
        return np.array([[float(cell) for cell in row] for row in rows])
    except (ValueError, IndexError, csv.Error) as error:
        hint = "Give a NumPy file, JSON, or lines of numbers separated by commas"
        raise BadPayload(f"not numbers: {error}", where=where, hint=hint) from None


def _all_numbers(row: Sequence[str]) -> bool:
    try:
        return bool([float(cell) for cell in row])
    except ValueError:
        return False


def _shaped(array: Array, shape: Sequence[int], name: str) -> Array:
    """The array in the model's shape, where its elements leave only one way."""
    if _fits(array.shape, shape):
        return array
    if _fits((1, *array.shape), shape):  # one case of a batch
        return array[np.newaxis]
    sizes = [1 if size < 0 and index == 0 else size for index, size in enumerate(shape)]
    fixed = int(np.prod([size for size in sizes if size > 0]))
    free = sizes.count(-1)
    if array.size == fixed if free == 0 else free == 1 and array.size % fixed == 0:
        return array.reshape(sizes)
    raise BadTensor(
        f"the model takes the shape {list(shape)} (-1 is free), this has {list(array.shape)}",
        where=name,
    )


def _fits(actual: Sequence[int], shape: Sequence[int]) -> bool:
    return len(actual) == len(shape) and all(
        want in (-1, have) for have, want in zip(actual, shape, strict=True)
    )


def _strings(array: Array, name: str) -> Array:
    if array.dtype.kind not in "US":
        raise BadTensor("the model takes texts", where=name, hint='For example ["one", "two"]')
    words = np.empty(array.shape, dtype=np.object_)
    for place, word in np.ndenumerate(array):
        words[place] = word.encode() if isinstance(word, str) else bytes(word)
    return words


def _cast(array: Array, dtype: "np.dtype[Any]", name: str) -> Array:
    """The elements in another type, unless one would change."""
    if dtype.kind == "f":
        return array.astype(dtype)
    with np.errstate(invalid="ignore"):
        cast = array.astype(dtype)
    if not np.array_equal(cast, array):
        place = np.argwhere(cast != array)[0]
        value = array[tuple(place)]
        raise BadTensor(f"{value} at {place.tolist()} does not fit {dtype.name}", where=name)
    return cast


def _words(array: Array) -> list[str]:
    return [word.decode("utf-8", "replace") for word in array.ravel().tolist()]


def _write_numpy(array: Array) -> bytes:
    if array.dtype == np.object_:
        array = np.array(_words(array)).reshape(array.shape)
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _write_json(array: Array) -> bytes:
    return json.dumps(to_plain(array)).encode() + b"\n"


def _write_csv(array: Array) -> bytes:
    rows = array.reshape(array.shape[0] if array.ndim > 1 else 1, -1)
    return "".join(",".join(map(repr, row)) + "\n" for row in rows.tolist()).encode()


_WRITERS: Mapping[str, Callable[[Array], bytes]] = {".json": _write_json, ".csv": _write_csv}
