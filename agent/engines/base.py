"""The contract of a loaded model.

The base class keeps the promises that every engine makes, whatever the runtime: inputs are checked
against the declared tensors before the runtime sees them, outputs come back as NumPy arrays in the
declared order, a closed session says so, and a runtime's own exceptions never leave. An engine
fills two holes, `_run` and `_close`.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from agent.errors import AgentError, BadModel, BadTensor, EngineFailed, NotReady
from agent.processors import usable
from agent.types import Array, DType, Tensors, TensorSpec

NUMPY_DTYPES: Mapping[DType, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}

DTYPE_NAMES: Mapping[np.dtype[Any], DType] = {dtype: name for name, dtype in NUMPY_DTYPES.items()}


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How a model is to be executed, from its manifest.

    Attributes:
        threads: processor threads for one run, as the manifest asks for.
        files: every verified file of the package, by its path; for engines of several files.
        parameters: the manifest's, for engines that have some of their own.
    """

    threads: int = 1
    files: Mapping[str, bytes] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def usable_threads(self) -> int:
        """As many of them as there are processors that this process may use."""
        return min(self.threads, usable())


class Session(ABC):
    """A loaded model.

    Attributes:
        parallel: it is safe to run from several threads at once, not only from one at a time.
        inputs: what `run` takes, as the model file declares it.
        outputs: what `run` returns, as the model file declares it.
    """

    parallel: ClassVar[bool] = False

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self._checks = [(s.name, NUMPY_DTYPES[s.dtype], s.shape) for s in self.inputs]
        self._output_names = tuple(s.name for s in self.outputs)
        self._closed = False

    def run(self, tensors: Tensors) -> dict[str, Array]:
        """Execute the model once.

        Args:
            tensors: every input by name, with the declared dtype and a shape that fits.

        Returns:
            Every output by name; the arrays belong to the caller.

        Raises:
            BadTensor: an input is missing, unknown, or of the wrong dtype or shape.
            EngineFailed: the runtime failed.
            NotReady: the session is closed.
        """
        arrays = self._admitted(tensors)
        try:
            results = self._run(arrays)
        except AgentError:
            raise
        except Exception as error:  # a runtime may raise anything; this is the seam
            raise EngineFailed(f"the runtime failed: {first_line(error)}") from error
        return dict(zip(self._output_names, results, strict=True))

    def close(self) -> None:
        """Give the model's resources back. Idempotent."""
        if not self._closed:
            self._closed = True
            self._close()

    def _admitted(self, tensors: Tensors) -> list[Array]:
        """The inputs in their order, if they fit."""
        if self._closed:
            raise NotReady("the model is being unloaded")
        arrays = [checked(tensors, *check) for check in self._checks]
        if len(tensors) != len(arrays):
            raise self._unknown_input(tensors)
        return arrays

    @abstractmethod
    def _run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        """Execute with inputs that fit, in the order of `inputs`; outputs in that of `outputs`."""

    @abstractmethod
    def _close(self) -> None:
        """Release the runtime's objects."""

    def _unknown_input(self, tensors: Tensors) -> BadTensor:
        unknown = sorted(set(tensors) - {spec.name for spec in self.inputs})
        known = ", ".join(spec.name for spec in self.inputs)
        return BadTensor("no such input", where=unknown[0], hint=f"The inputs are: {known}")


def checked(tensors: Tensors, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """The tensor of a name, if its dtype and shape are these; -1 fits every size. Raises BadTensor."""
    array = tensors.get(name)
    if array is None:
        raise BadTensor("the tensor is missing", where=name)
    if array.dtype != dtype:
        raise BadTensor(f"expected {dtype_name(dtype)}, got {dtype_name(array.dtype)}", where=name)
    actual = array.shape
    if actual != shape and not _fits(actual, shape):
        raise BadTensor(f"expected shape {list(shape)}, got {list(actual)}", where=name)
    return array


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The Open Inference Protocol name of a NumPy dtype, or NumPy's own when there is none."""
    return DTYPE_NAMES.get(dtype, str(dtype))


#: Where in its own source a runtime was: file, line and the signature of the function.
_SOURCE_PLACE = re.compile(r"/onnxruntime_src/\S+ .*?\) (?=[A-Z])")


def load_error(
    error: Exception, runtime: str, missing_operator: Iterable[re.Pattern[str]], hint: str
) -> BadModel:
    """A runtime's refusal to load a file, in our words.

    Args:
        error: what the runtime raised.
        runtime: its name, for a refusal that is none of the known ones.
        missing_operator: how it says that it lacks an operator; the first group names it.
        hint: what to do about a lacking operator.
    """
    text = str(error)
    for pattern in missing_operator:
        if found := pattern.search(text):
            return BadModel(f"the runtime lacks the operator {found[1].strip()}", hint=hint)
    return BadModel(f"{runtime} cannot load the file: {first_line(error)}")


@contextmanager
def translated() -> Iterator[None]:
    """A runtime's own exceptions leave as EngineFailed; ours, and a generator's end, as they are."""
    try:
        yield
    except (AgentError, GeneratorExit):
        raise
    except Exception as error:  # a runtime may raise anything; this is the seam
        raise EngineFailed(f"the runtime failed: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of a foreign error's text, shortened: enough to search for."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return _SOURCE_PLACE.sub("", lines[0])[:300]


def _fits(actual: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    if len(actual) != len(shape):
        return False
    if actual[1:] == shape[1:]:  # the usual case, a free batch, without a loop
        return shape[0] in {-1, actual[0]}
    return all(want in {-1, have} for have, want in zip(actual, shape, strict=True))
