"""Golden cases: the model computes on this device what its author saw it compute.

Run before activation, on the runtime and the processor that will be used. A case names arrays in a
NumPy archive, ``<case>/in/<tensor>`` and ``<case>/out/<tensor>``; the largest absolute difference
is compared in stored units, which for an int8 tensor are quantization steps.
"""

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.engines.base import Session
from agent.errors import AgentError, GoldenFailed
from agent.trust.manifest import GoldenCase, Manifest
from agent.types import Array

MAX_ARCHIVE_BYTES = 256 * 2**20  # unpacked


def check_golden(manifest: Manifest, files: Mapping[str, bytes], session: Session) -> None:
    """Run every golden case.

    Raises:
        GoldenFailed: an output differs by more than the case's tolerance, or a case cannot be run.
    """
    archives = {path: _arrays(path, files[path]) for path in {c.file for c in manifest.golden}}
    for case in manifest.golden:
        _run_case(case, archives[case.file], session)


def golden_inputs(manifest: Manifest, files: Mapping[str, bytes]) -> dict[str, Array] | None:
    """The inputs of the first golden case; None when the package has none."""
    if not manifest.golden:
        return None
    case = manifest.golden[0]
    return _part(case.name, "in", _arrays(case.file, files[case.file]))


def _run_case(case: GoldenCase, arrays: Mapping[str, Array], session: Session) -> None:
    inputs, expected = _part(case.name, "in", arrays), _part(case.name, "out", arrays)
    if not expected:
        raise GoldenFailed("the case expects nothing", where=f"golden case {case.name}")
    try:
        actual = session.run(inputs)
    except AgentError as error:
        message = f"the case cannot be run: {error.message}"
        raise GoldenFailed(message, where=f"golden case {case.name}") from error
    for tensor, values in expected.items():
        _compare(f"golden case {case.name}, {tensor}", values, actual.get(tensor), case.tolerance)


def _compare(where: str, expected: Array, actual: Array | None, tolerance: float) -> None:
    if actual is None:
        raise GoldenFailed("the model has no such output", where=where)
    if (expected.dtype, expected.shape) != (actual.dtype, actual.shape):
        message = f"expected {expected.dtype} {list(expected.shape)}, "
        raise GoldenFailed(f"{message}got {actual.dtype} {list(actual.shape)}", where=where)
    difference = largest_difference(expected, actual)
    if not difference <= tolerance:  # so written, NaN fails too
        message = f"differs by {difference:g}, {tolerance:g} is allowed"
        hint = "The model would not compute on this device what was evaluated"
        raise GoldenFailed(message, where=where, hint=hint)


def largest_difference(expected: Array, actual: Array) -> float:
    """The largest absolute difference, in stored units; two equal infinities or NaN differ by 0."""
    if expected.dtype == np.object_ or not expected.size:
        return 0.0 if np.array_equal(expected, actual) else np.inf
    one, two = expected.astype(np.float64), actual.astype(np.float64)
    same = (one == two) | (np.isnan(one) & np.isnan(two))
    with np.errstate(invalid="ignore"):
        return float(np.max(np.where(same, 0.0, np.abs(one - two))))


def _arrays(path: str, data: bytes) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > MAX_ARCHIVE_BYTES:
            message = f"unpacks to {size} bytes, {MAX_ARCHIVE_BYTES} are allowed"
            raise GoldenFailed(message, where=path)
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, RuntimeError) as error:
        message = f"the golden cases cannot be read: {error}"
        raise GoldenFailed(message, where=path) from error


def _part(case: str, way: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    prefix = f"{case}/{way}/"
    return {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}
