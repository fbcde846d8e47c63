"""The manifest of a model package, `model.toml`: what its author promises about the model.

Pure: bytes in, a checked value out. The bytes may come from anywhere and be anything; whatever is
wrong with them is a BadManifest that names the field. What is deliberately not checked here: that
the listed files exist and have these digests (`registry`), that the tensors are those of the model
file (`policy`), and what `parameters` mean (the task).
"""

import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from agent.errors import BadManifest
from agent.trust.versions import SEMANTIC_VERSION
from agent.types import DType, ModelRef, Quantization, TensorSpec, Values

MAX_BYTES = 256 * 1024  # of a manifest
MAX_FILES = 64  # in a package
MAX_TENSORS = 256  # inputs, and outputs
MAX_DIMENSIONS = 8  # of a tensor
MAX_ELEMENTS = 2**31  # of a tensor, free sizes counted as 1
MAX_GOLDEN = 256  # cases
MAX_METRICS = 1024  # rows of the evaluation card
MAX_DEPTH = 16  # of tables and lists in `parameters`

NEWEST_FORMAT = 1

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}\Z")]
Text = Annotated[str, Meta(max_length=4096)]
Line = Annotated[str, Meta(max_length=200, pattern=r"^[^\r\n]*\Z")]
FilePath = Annotated[str, Meta(max_length=200, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/-]*\Z")]
Label = Annotated[str, Meta(min_length=1, max_length=200)]


class File(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the package.

    Attributes:
        path: relative, with `/` between its parts.
        role: what it is for; exactly one file is the model.
        sha256: digest, 64 hexadecimal digits.
        size: bytes.
    """

    path: FilePath
    role: Literal["model", "golden", "data", "doc"]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    size: Annotated[int, Meta(ge=1, le=2**40)]


class Resources(Struct, frozen=True, forbid_unknown_fields=True):
    """What the model needs.

    Attributes:
        memory_mib: memory of a loaded session, MiB.
        threads: processor threads for one run.
    """

    memory_mib: Annotated[int, Meta(ge=1, le=2**20)] = 64
    threads: Annotated[int, Meta(ge=1, le=64)] = 1


class Metric(Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the evaluation card."""

    name: Label
    value: float
    slice: Label = "all"


class Evaluation(Struct, frozen=True, forbid_unknown_fields=True):
    """The evaluation card: on which data, how good, and where the model must not be used."""

    data: Text = ""
    limits: Text = ""
    metrics: Annotated[tuple[Metric, ...], Meta(max_length=MAX_METRICS)] = ()


class GoldenCase(Struct, frozen=True, forbid_unknown_fields=True):
    """An input with its expected output, run on the device before activation.

    Attributes:
        name: prefix of its arrays, ``<name>/in/<tensor>`` and ``<name>/out/<tensor>``.
        file: path of the listed ``.npz`` file that holds them.
        tolerance: largest absolute difference allowed, in stored units.
    """

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
    file: FilePath
    tolerance: Annotated[float, Meta(ge=0)]


class Manifest(Struct, frozen=True):
    """A checked manifest."""

    name: str
    version: str
    task: str
    engine: str
    summary: str
    license: str
    files: tuple[File, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    resources: Resources
    parameters: Mapping[str, Any]
    evaluation: Evaluation
    golden: tuple[GoldenCase, ...]

    @property
    def ref(self) -> ModelRef:
        """Name and version."""
        return ModelRef(self.name, self.version)

    @property
    def model_file(self) -> File:
        """The one file with the role "model"."""
        return next(file for file in self.files if file.role == "model")


class _Quantization(Struct, frozen=True, forbid_unknown_fields=True):
    scale: Annotated[float, Meta(gt=0)]
    zero_point: Annotated[int, Meta(ge=-(2**31), le=2**32 - 1)] = 0


class _Tensor(Struct, frozen=True, forbid_unknown_fields=True):
    name: Label
    dtype: DType
    shape: Annotated[
        tuple[Annotated[int, Meta(ge=-1, le=2**31)], ...], Meta(max_length=MAX_DIMENSIONS)
    ]
    unit: Line = ""
    quantization: _Quantization | None = None
    values: Values | None = None


_Tensors = Annotated[tuple[_Tensor, ...], Meta(min_length=1, max_length=MAX_TENSORS)]


class _Document(Struct, frozen=True, forbid_unknown_fields=True):
    """The TOML document as it is written."""

    format: int
    name: Name
    version: Annotated[str, Meta(max_length=100)]
    task: Name
    engine: Name
    license: Line
    files: Annotated[tuple[File, ...], Meta(min_length=1, max_length=MAX_FILES)]
    inputs: _Tensors
    outputs: _Tensors
    summary: Line = ""
    resources: Resources = Resources()
    parameters: dict[str, Any] = {}
    evaluation: Evaluation = Evaluation()
    golden: Annotated[tuple[GoldenCase, ...], Meta(max_length=MAX_GOLDEN)] = ()


def parse_manifest(data: bytes, *, where: str = "model.toml") -> Manifest:
    """A manifest from the bytes of a `model.toml`.

    Args:
        data: the file's bytes.
        where: what to call the file in errors.

    Raises:
        BadManifest: anything that is not a manifest of a known format; `where` names the field.
    """
    table = _read_toml(data, where)
    _refuse_newer_format(table, where)
    try:
        document = msgspec.convert(table, _Document, strict=True)
        _check(document)
    except _Wrong as error:
        raise BadManifest(error.message, where=f"{where}: {error.field}") from error
    except msgspec.ValidationError as error:
        raise _validation_error(error, where) from error
    return _manifest(document)


class _Wrong(Exception):
    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def _read_toml(data: bytes, where: str) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise BadManifest(f"the file has {len(data)} bytes, {MAX_BYTES} are allowed", where=where)
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise BadManifest("the file is not UTF-8 text", where=where) from error
    except (ValueError, RecursionError) as error:
        raise BadManifest(f"the file is not TOML: {error}", where=where) from error


def _refuse_newer_format(table: dict[str, Any], where: str) -> None:
    found = table.get("format")
    if type(found) is int and found > NEWEST_FORMAT:
        raise BadManifest(
            f"format {found} is newer than this agent, which reads up to {NEWEST_FORMAT}",
            where=f"{where}: format",
            hint="Update the agent first",
        )
    if found != NEWEST_FORMAT or type(found) is not int:
        raise BadManifest("expected format = 1", where=f"{where}: format")


_AT = re.compile(r"^(?P<message>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>.*)`$", re.DOTALL)


def _validation_error(error: msgspec.ValidationError, where: str) -> BadManifest:
    """The library's text, "… - at `$.files[0]`", as a message and a path of our own form."""
    found = _AT.match(str(error))
    message, path = (found["message"], found["path"] or "$") if found else (str(error), "$")
    path = path.removeprefix("$").removeprefix(".")
    if unknown := _UNKNOWN.match(message):
        field = unknown["field"][:60]
        path = f"{path}.{field}" if path else field
        return BadManifest("unknown key", where=f"{where}: {path}")
    return BadManifest(message[:300], where=f"{where}: {path}" if path else where)


def _check(document: _Document) -> None:
    if not SEMANTIC_VERSION.fullmatch(document.version):
        raise _Wrong("version", 'expected a semantic version such as "1.0.0"')
    _check_files(document.files)
    _check_golden(document.golden, document.files)
    for way, tensors in (("inputs", document.inputs), ("outputs", document.outputs)):
        _refuse_repeats(way, [tensor.name for tensor in tensors])
        for index, tensor in enumerate(tensors):
            _check_tensor(f"{way}[{index}]", tensor)
            _check_values(f"{way}[{index}].values", tensor, way)
    for index, metric in enumerate(document.evaluation.metrics):
        _refuse_not_finite(f"evaluation.metrics[{index}].value", metric.value)
    _check_plain("parameters", document.parameters, MAX_DEPTH)


def _check_files(files: tuple[File, ...]) -> None:
    for index, file in enumerate(files):
        if not is_safe_path(file.path):
            raise _Wrong(f"files[{index}].path", "expected a path inside the package")
        if file.path == "model.toml":
            raise _Wrong(f"files[{index}].path", "the manifest cannot list itself")
    _refuse_repeats("files", [file.path for file in files])
    models = sum(file.role == "model" for file in files)
    if models != 1:
        raise _Wrong("files", f'expected exactly one file with the role "model", found {models}')


def is_safe_path(path: str) -> bool:
    """Whether a relative path stays inside its directory, on every file system."""
    parts = path.split("/")
    return "\0" not in path and all(part and not part.startswith(".") for part in parts)


def _check_golden(golden: tuple[GoldenCase, ...], files: tuple[File, ...]) -> None:
    _refuse_repeats("golden", [case.name for case in golden])
    listed = {file.path for file in files if file.role == "golden"}
    for index, case in enumerate(golden):
        if case.file not in listed:
            raise _Wrong(f"golden[{index}].file", 'expected a listed file with the role "golden"')
        _refuse_not_finite(f"golden[{index}].tolerance", case.tolerance)


def _check_tensor(field: str, tensor: _Tensor) -> None:
    if 0 in tensor.shape:
        raise _Wrong(f"{field}.shape", "a size must be positive, or -1 where it is free")
    if math.prod(abs(size) for size in tensor.shape) > MAX_ELEMENTS:
        raise _Wrong(f"{field}.shape", f"more than {MAX_ELEMENTS} elements")
    if tensor.quantization:
        _refuse_not_finite(f"{field}.quantization.scale", tensor.quantization.scale)


def _check_values(field: str, tensor: _Tensor, way: str) -> None:
    if tensor.values is None:
        return
    if way == "outputs":
        raise _Wrong(field, "only an input says which values it takes")
    if tensor.quantization and tensor.values == "any":
        raise _Wrong(field, "a quantized input has no integer that stands for NaN")
    if not tensor.dtype.startswith("FP") and not tensor.quantization:
        raise _Wrong(field, f"{tensor.dtype} has neither NaN nor infinities")


def _refuse_repeats(field: str, names: list[str]) -> None:
    if len(set(names)) != len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise _Wrong(field, f'"{repeated[:60]}" is listed twice')


def _refuse_not_finite(field: str, value: float) -> None:
    if not math.isfinite(value):
        raise _Wrong(field, "expected a finite number")


def _check_plain(field: str, value: Any, depth: int) -> None:
    """Parameters are strings, finite numbers, booleans, lists and tables: what JSON can say."""
    if depth == 0:
        raise _Wrong(field[:60], f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        _check_items(((f"{field}.{key[:60]}", item) for key, item in value.items()), depth)
    elif isinstance(value, list):
        _check_items(((f"{field}[{index}]", item) for index, item in enumerate(value)), depth)
    elif isinstance(value, float):
        _refuse_not_finite(field, value)
    elif not isinstance(value, str | int | bool):
        raise _Wrong(field, f"a {type(value).__name__} cannot be a parameter")


def _check_items(items: Iterable[tuple[str, Any]], depth: int) -> None:
    for field, item in items:
        _check_plain(field, item, depth - 1)


def _manifest(document: _Document) -> Manifest:
    return Manifest(
        name=document.name,
        version=document.version,
        task=document.task,
        engine=document.engine,
        summary=document.summary,
        license=document.license,
        files=document.files,
        inputs=tuple(_spec(tensor) for tensor in document.inputs),
        outputs=tuple(_spec(tensor) for tensor in document.outputs),
        resources=document.resources,
        parameters=document.parameters,
        evaluation=document.evaluation,
        golden=document.golden,
    )


def _spec(tensor: _Tensor) -> TensorSpec:
    q = tensor.quantization
    quantization = Quantization(q.scale, q.zero_point) if q else None
    return TensorSpec(
        tensor.name, tensor.dtype, tensor.shape, tensor.unit, quantization, tensor.values
    )
