"""Evaluation and calibration sets: arrays with labels and slices, from npz, csv or a folder.

npz
    One array for each input, by its name (a single input may be called ``inputs``), first axis
    samples; optionally ``labels`` (integers) or ``targets`` (real values), and ``slices`` (text).
csv
    A header and one sample a row, for a model with one input: a column ``label`` or ``target`` and a
    column ``slice`` if there are any, all others are the values in order.
folder
    ``<slice>/<file>`` with a folder for each class (the class is its place in alphabetical order), or
    files beside one ``labels.csv`` (``*_labels.csv``) whose rows are ``file,class`` or
    ``file,classes,class``. Files are ``.npy``, or ``.bin`` with the raw bytes of one input.
"""

import csv
import hashlib
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.engines.base import NUMPY_DTYPES, dtype_name
from agent.errors import BadPayload, NotFound
from agent.types import Array, TensorSpec
from tools.quantize.tensors import tables

MAX_SAMPLES = 1_000_000
MAX_SET_BYTES = 4 * 2**30  # of all samples together
GENERATED = 64  # samples, where no set is given

#: What made-up inputs show, beside a float model and without one.
SAMENESS = "they show that the quantized model computes what the float one computes, not how good either is"
SOUNDNESS = "they show that the model runs, not how good it is"

_RESERVED = ("labels", "targets", "slices")


@dataclass(frozen=True, slots=True)
class Samples:
    """A set of samples.

    Attributes:
        inputs: array [n, ...] for each input of the model.
        labels: integers [n], the right class; None where it is not known.
        targets: real values [n, ...]; None where there are none.
        slices: text [n], the group that a sample belongs to; empty where there are none.
        about: one sentence for the report and the evaluation card.
        origin: the file or folder that errors name; empty where there is none.
    """

    inputs: Mapping[str, Array]
    labels: NDArray[np.int64] | None = None
    targets: NDArray[np.float64] | None = None
    slices: Sequence[str] = field(default_factory=tuple)
    about: str = ""
    origin: str = ""

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    @property
    def nbytes(self) -> int:
        """Memory that the inputs take."""
        return sum(array.nbytes for array in self.inputs.values())

    def digest(self) -> bytes:
        """SHA-256 of everything in it."""
        found = hashlib.sha256(repr((list(self.inputs), tuple(self.slices))).encode())
        for array in (*self.inputs.values(), self.labels, self.targets):
            head = None if array is None else (array.dtype.str, array.shape)
            found.update(repr(head).encode())
            if array is not None:
                found.update(np.ascontiguousarray(array).tobytes())
        return found.digest()

    def first(self, count: int) -> "Samples":
        """A part from the beginning."""
        return self.take(np.arange(min(count, len(self))))

    def about_part(self, which: str) -> "Samples":
        """The same samples, said to be a part of their set."""
        return replace(self, about=f"{self.about}, of these {len(self)} {which}")

    def take(self, rows: NDArray[np.int64]) -> "Samples":
        """Some samples, in the given order."""
        return replace(
            self,
            inputs={name: array[rows] for name, array in self.inputs.items()},
            labels=None if self.labels is None else self.labels[rows],
            targets=None if self.targets is None else self.targets[rows],
            slices=[self.slices[i] for i in rows] if self.slices else (),
        )


def read_samples(path: Path, specs: Sequence[TensorSpec]) -> Samples:
    """A set from any of the forms above, checked against the model's inputs.

    Args:
        path: npz, csv or folder.
        specs: the inputs of the model that stores what the set stores.

    Raises:
        NotFound: it is not there.
        BadPayload: it cannot be read, or a shape or dtype is not the model's; `where` names it.
    """
    if not path.exists():
        raise NotFound("no such file or folder", where=str(path))
    _refuse_larger(path)
    if path.is_dir():
        found = _read_folder(path, _single(specs, path))
    elif path.suffix == ".npz":
        found = _read_npz(path, specs)
    elif path.suffix == ".csv":
        found = _read_csv(path, _single(specs, path))
    else:
        raise BadPayload(
            "no set of samples", where=str(path), hint="Give an npz or csv file, or a folder"
        )
    return _checked(found, specs, path)


def _refuse_larger(path: Path) -> None:
    files = path.rglob("*") if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files if file.is_file())
    if size > MAX_SET_BYTES:
        raise BadPayload(f"{size} bytes, {MAX_SET_BYTES} are allowed", where=str(path))


def generated(
    specs: Sequence[TensorSpec], count: int = GENERATED, seed: int = 0, shows: str = SAMENESS
) -> Samples:
    """Samples made up from a seed, and what they show.

    Smooth pictures for inputs with two long axes, else normal for real inputs and uniform over the
    type for integers: on plain noise a picture classifier says one class for ever.
    """
    random = np.random.default_rng(seed)
    inputs = {spec.name: _generate(random, spec, count) for spec in specs}
    return Samples(inputs, about=f"{count} generated inputs, no recordings: {shows}")


def sample_shape(spec: TensorSpec) -> tuple[int, ...]:
    """Shape of one sample: without the batch axis, other free sizes taken as 1."""
    return tuple(max(size, 1) for size in spec.shape[1:])


def _generate(random: np.random.Generator, spec: TensorSpec, count: int) -> Array:
    shape, dtype = (count, *sample_shape(spec)), NUMPY_DTYPES[spec.dtype]
    if dtype.kind == "f":
        real = _pictures(random, shape) if _is_picture(shape) else random.standard_normal(shape)
        return real.astype(dtype)
    if dtype.kind == "b":
        return random.random(shape) < 0.5
    if dtype.kind not in "iu":
        raise BadPayload(f"no samples of {spec.dtype} can be made up", where=spec.name)
    if dtype.itemsize > 1:  # indices: small ones are valid everywhere
        return random.integers(0, 2, shape).astype(dtype)
    limits = np.iinfo(dtype)
    if _is_picture(shape):
        return (limits.min + 255 * _pictures(random, shape)).astype(dtype)
    return random.integers(limits.min, limits.max + 1, shape).astype(dtype)


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and min(shape[1:3]) >= 16


def _pictures(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Blotches of several sizes, from 0 to 1, [n, h, w, c]."""
    count, height, width, channels = shape
    total = np.zeros(shape)
    for cells in (2, 4, 8):
        coarse = random.random((count, cells, cells, channels)) / cells
        rows, columns = np.arange(height) * cells // height, np.arange(width) * cells // width
        total += coarse[:, rows][:, :, columns]
    total -= total.min(axis=(1, 2, 3), keepdims=True)
    return np.asarray(total / total.max(axis=(1, 2, 3), keepdims=True))


def _single(specs: Sequence[TensorSpec], path: Path) -> TensorSpec:
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise BadPayload(
            f"the model has {len(specs)} inputs: {names}",
            where=str(path),
            hint="Give an npz with an array for each",
        )
    return specs[0]


def _read_npz(path: Path, specs: Sequence[TensorSpec]) -> Samples:
    try:
        with np.load(path, allow_pickle=False) as archive:
            size = sum(item.file_size for item in archive.zip.infolist())
            if size > MAX_SET_BYTES:
                raise BadPayload(f"{size} bytes, {MAX_SET_BYTES} are allowed", where=str(path))
            arrays = dict(archive)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise BadPayload(f"cannot be read: {error}", where=str(path)) from error
    if len(specs) == 1 and "inputs" in arrays:
        arrays[specs[0].name] = arrays.pop("inputs")
    return _of_arrays(arrays, specs, path)


def _of_arrays(arrays: dict[str, Array], specs: Sequence[TensorSpec], path: Path) -> Samples:
    known = {*_RESERVED, *(spec.name for spec in specs)}
    missing = [spec.name for spec in specs if spec.name not in arrays]
    unknown = sorted(set(arrays) - known)
    if missing or unknown:
        what = f'no array "{missing[0]}"' if missing else f'unknown array "{unknown[0]}"'
        names = ", ".join(spec.name for spec in specs)
        raise BadPayload(what, where=str(path), hint=f"The inputs are: {names}")
    _check_each_sample(arrays, path)
    labels, targets = arrays.get("labels"), arrays.get("targets")
    return Samples(
        {spec.name: arrays[spec.name] for spec in specs},
        None if labels is None else labels.astype(np.int64),
        None if targets is None else targets.astype(np.float64),
        [str(text) for text in arrays.get("slices", ())],
    )


#: What arrays beside the inputs hold: kinds of dtype, most axes, and in words.
_BESIDE: Mapping[str, tuple[str, int, str]] = {
    "labels": ("iub", 1, "an integer"),
    "targets": ("fiub", 64, "real values"),
    "slices": ("USiub", 1, "a text"),
}


def _check_each_sample(arrays: Mapping[str, Array], path: Path) -> None:
    for name, array in arrays.items():
        kinds, axes, what = _BESIDE.get(name, (array.dtype.kind, 64, "values"))
        if array.dtype.kind not in kinds or not 1 <= array.ndim <= axes:
            found = f"{array.dtype} of shape {list(array.shape)}"
            message = f"expected {what} for each sample, found {found}"
            raise BadPayload(message, where=f"{path}: {name}")


def _read_csv(path: Path, spec: TensorSpec) -> Samples:
    table = tables.read(path)
    count, found = table.values.shape
    wanted = math.prod(sample_shape(spec))
    if found != wanted:
        raise BadPayload(f"{found} columns of values, {wanted} are needed", where=str(path))
    inputs = table.values.reshape(count, *sample_shape(spec)).astype(NUMPY_DTYPES[spec.dtype])
    return Samples({spec.name: inputs}, table.labels, table.targets, table.slices)


def _read_folder(path: Path, spec: TensorSpec) -> Samples:
    lists = sorted(path.glob("*labels.csv"))
    entries = _listed(lists[0]) if lists else _by_folder(path)
    if not entries:
        raise BadPayload(
            "neither a labels.csv nor folders with .npy or .bin files",
            where=str(path),
            hint="See docs/quantize.md for the forms",
        )
    if len(entries) > MAX_SAMPLES:
        raise BadPayload(f"{len(entries)} files, {MAX_SAMPLES} are allowed", where=str(path))
    arrays = [_one(file, spec) for file, _, _ in entries]
    labels = np.array([label for _, label, _ in entries], np.int64)
    return Samples({spec.name: np.stack(arrays)}, labels, None, [part for _, _, part in entries])


Entry = tuple[Path, int, str]  # file, class, slice


def _listed(listing: Path) -> list[Entry]:
    try:
        rows = [row for row in csv.reader(listing.read_text().splitlines()) if row]
        if rows and not rows[0][-1].strip().isdigit():  # a header
            rows = rows[1:]
        return [(listing.parent / row[0], int(row[-1]), f"class {int(row[-1])}") for row in rows]
    except (OSError, ValueError, IndexError) as error:
        raise BadPayload(f"expected rows of file,class: {error}", where=str(listing)) from error


def _by_folder(path: Path) -> list[Entry]:
    folders = sorted(item for item in path.iterdir() if item.is_dir())
    return [
        (file, label, folder.name)
        for label, folder in enumerate(folders)
        for file in sorted(folder.iterdir())
        if file.suffix in (".npy", ".bin")
    ]


def _one(file: Path, spec: TensorSpec) -> Array:
    shape, dtype = sample_shape(spec), NUMPY_DTYPES[spec.dtype]
    try:
        if file.suffix == ".npy":
            array: Array = np.load(file, allow_pickle=False)
        else:
            array = np.frombuffer(file.read_bytes(), dtype=dtype)
    except (OSError, ValueError, EOFError) as error:
        raise BadPayload(f"cannot be read: {error}", where=str(file)) from error
    if array.size != math.prod(shape):
        found = f"{array.size} elements"
        raise BadPayload(f"{found}, {math.prod(shape)} are needed", where=str(file))
    return array.reshape(shape)


def _checked(samples: Samples, specs: Sequence[TensorSpec], path: Path) -> Samples:
    about = samples.about or f"{len(samples)} samples of {path.name}"
    beside = {
        "labels": samples.labels,
        "targets": samples.targets,
        "slices": samples.slices or None,
    }
    parts = {**samples.inputs, **{n: part for n, part in beside.items() if part is not None}}
    counts = {name: len(part) for name, part in parts.items()}
    if len(set(counts.values())) != 1:
        found = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise BadPayload(f"expected as many of each, found {found}", where=str(path))
    if not len(samples):
        raise BadPayload("there are no samples", where=str(path))
    for spec in specs:
        _check_array(spec, samples.inputs[spec.name], path)
    if samples.targets is not None and not np.isfinite(samples.targets).all():
        raise BadPayload("holds values that are not finite", where=f"{path}: targets")
    return replace(samples, about=about, origin=str(path))


def _check_array(spec: TensorSpec, array: Array, path: Path) -> None:
    where = f"{path}: {spec.name}"
    if array.dtype != NUMPY_DTYPES[spec.dtype] and not _carries(array.dtype, spec):
        found = dtype_name(array.dtype)
        raise BadPayload(f"the model takes {spec.dtype}, the set holds {found}", where=where)
    shape = array.shape[1:]
    fits = len(shape) == len(spec.shape) - 1 and all(
        want in (-1, have) for have, want in zip(shape, spec.shape[1:], strict=True)
    )
    if not fits:
        wanted = list(spec.shape[1:])
        raise BadPayload(f"samples of shape {wanted} are needed, not {list(shape)}", where=where)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BadPayload("holds values that are not finite", where=where)


def _carries(dtype: np.dtype[Any], spec: TensorSpec) -> bool:
    """Real values for a quantized input are converted; wider floats are narrowed."""
    return dtype.kind == "f" and (spec.quantization is not None or spec.dtype.startswith("FP"))
