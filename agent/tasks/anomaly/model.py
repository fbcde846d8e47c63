"""What the manifest of an anomaly model says, and its windows through int8 and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from agent.engines.quantization import dequantize
from agent.errors import BadManifest
from agent.tasks.anomaly.baseline import CHANNELS
from agent.tasks.anomaly.windows import Shape, compress, cut
from agent.types import Array, Quantization, Tensors, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BATCH_WINDOWS = 2048  # windows of one sensor given to the model at once: bounds memory


class Runnable(Protocol):
    """A loaded model."""

    def run(self, tensors: Tensors, /) -> dict[str, Array]:
        """Execute it once."""


class Described(Protocol):
    """What is needed of a manifest."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Scale:
    """Log-odds of the machine to a score: 0 is certainly healthy, 1 the threshold.

    Attributes:
        zero: log-odds at which the score is 0.
        threshold: log-odds at which it is 1.
        margin: least distance of the threshold from what the healthy past itself scored.
    """

    zero: float
    threshold: float
    margin: float


class AnomalyModel:
    """A model of the task "anomaly": windows of single sensors in, evidence out.

    Attributes:
        shape: how windows are cut.
        scale: how log-odds become scores.
    """

    def __init__(self, runnable: Runnable, manifest: Described) -> None:
        """Check what the manifest says.

        Raises:
            BadManifest: a parameter or a tensor is not what this task needs.
        """
        self._runnable = runnable
        get = _Parameters(manifest.parameters)
        self.shape = Shape(get.whole("smooth"), get.whole("points"), get.whole("step"))
        self.scale = Scale(get.number("zero"), get.number("threshold"), get.number("margin"))
        if self.scale.threshold <= self.scale.zero:
            raise BadManifest("must be above zero's", where="parameters.threshold")
        self._input, self._in = _tensor(
            manifest.inputs, (-1, CHANNELS, self.shape.points), "inputs"
        )
        self._output, self._out = _tensor(manifest.outputs, (-1, 2), "outputs")

    def evidence(self, views: "Floats") -> "NDArray[np.float32]":
        """Log-odds that the machine, and that the sensor, is faulty.

        Args:
            views: [m, k, 3] of consecutive rows, m at least `shape.span`.

        Returns:
            float32 [m - span + 1, k, 2].

        Raises:
            EngineFailed: the runtime failed.
        """
        windows = cut(self._stored(views), self.shape)
        n, k = windows.shape[:2]
        flat = windows.reshape(n * k, CHANNELS, self.shape.points)
        parts = [
            self._runnable.run({self._input.name: flat[at : at + BATCH_WINDOWS]})[self._output.name]
            for at in range(0, n * k, BATCH_WINDOWS)
        ]
        found = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return dequantize(found, self._out).reshape(n, k, 2)

    def _stored(self, views: "Floats") -> "NDArray[np.int8]":
        """`quantize` for views, which are finite: at a third of its cost for a single row."""
        steps = compress(views)
        steps /= self._in.scale
        np.rint(steps, out=steps)
        steps += self._in.zero_point
        return np.clip(steps, -128, 127, out=steps).astype(np.int8)


class _Parameters:
    """Numbers of the manifest's free table."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = table

    def number(self, key: str) -> float:
        value = self._table.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadManifest("must be a number", where=f"parameters.{key}")
        return float(value)

    def whole(self, key: str) -> int:
        value = self._table.get(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadManifest("must be a whole number", where=f"parameters.{key}")
        return value


def _tensor(
    specs: tuple[TensorSpec, ...], shape: tuple[int, ...], where: str
) -> tuple[TensorSpec, Quantization]:
    fits = len(specs) == 1 and (specs[0].dtype, specs[0].shape) == ("INT8", shape)
    if not fits or specs[0].quantization is None:
        raise BadManifest(f"must be one quantized INT8 tensor of shape {list(shape)}", where=where)
    return specs[0], specs[0].quantization
