"""The network as a family of models: judged by the detector that runs on the device."""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from card import IDENTITY, description
from evaluate import WARNED, evaluate
from numpy.typing import NDArray
from quantize import EDGES, SCALE, quantized

from agent.tasks.anomaly.windows import Shape
from tools.quantize.family import (
    Artifact,
    Description,
    GoldenInput,
    LayerError,
    Probe,
    Progress,
    Recipe,
    Score,
)
from tools.quantize.onnx import graph
from tools.quantize.onnx.compare import layer_errors
from tools.quantize.onnx.edges import float_inside
from tools.quantize.onnx.slim import NAMED, slim
from tools.quantize.package import Draft, write_package
from tools.quantize.tensors.samples import Samples
from tools.quantize.tensors.session import opened, probe

SHAPE = Shape(smooth=16, points=32, step=2)
GOLDEN_WINDOWS = 16
TOLERANCE = 2.0  # steps of the quantized output
MODEL = "model.onnx"
NEEDED = 600 * 2**20  # bytes: torch and the runtime, beside which the model is nothing


@dataclass(frozen=True, slots=True)
class Throughout:
    """int8 from edge to edge."""

    model: onnx.ModelProto
    windows: NDArray[np.float32]
    name: str = "int8-throughout"
    summary: str = "int8 weights, activations and edges, ranges by minmax over windows"

    def build(self, original: Artifact, directory: Path, progress: Progress) -> Artifact:
        made = quantized(self.model, self.windows)
        (directory / NAMED).write_bytes(made.SerializeToString())
        return slim(Artifact(directory, {NAMED: "model"}, "onnx"), samples(self.windows))

    def sparing(self, layers: Sequence[LayerError]) -> Recipe | None:
        return None


@dataclass(frozen=True, slots=True)
class PumpFamily:
    """The float graph, and windows to calibrate on.

    Attributes:
        model: float ONNX.
        windows: float32 [n, 3, points], compressed views.
    """

    model: onnx.ModelProto
    windows: NDArray[np.float32]
    comparable: bool = True

    @property
    def key(self) -> str:
        return f"pump-{hashlib.sha256(self.model.SerializeToString()).hexdigest()[:24]}"

    def needs_bytes(self) -> int:
        return NEEDED

    def original(self, directory: Path, progress: Progress) -> Artifact:
        """The float graph behind int8 edges: the detector cannot tell it from the quantized one."""
        (directory / MODEL).write_bytes(float_inside(self.model, EDGES).SerializeToString())
        return Artifact(directory, {MODEL: "model"}, "onnx")

    def recipes(self) -> Sequence[Recipe]:
        return [Throughout(self.model, self.windows)]

    def evaluate(
        self, original: Artifact, artifact: Artifact, progress: Progress
    ) -> Sequence[Score]:
        """The card's figures, measured with a package."""
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder, "package")
            write_package(package, Draft(IDENTITY, artifact, self.describe(artifact)))
            found = evaluate(package)
        return [Score(name, value, part, 0, name == WARNED) for name, part, value in found]

    def parameters(self, original: Artifact) -> int:
        return graph.parameters(onnx.load_model(str(original.model)))

    def worst_layers(self, original: Artifact, made: Artifact) -> Sequence[LayerError]:
        files = (original.model, made.directory / NAMED)
        return layer_errors(*(onnx.load_model(str(file)) for file in files), self._samples())

    def probe(self, artifact: Artifact) -> Probe:
        return probe(artifact, self._samples())

    def describe(self, artifact: Artifact) -> Description:
        return description(SHAPE, EDGES, self._golden(artifact))

    def _samples(self) -> Samples:
        return samples(self.windows)

    def _golden(self, artifact: Artifact) -> list[GoldenInput]:
        """The windows that the model finds least and most faulty."""
        session, windows = opened(artifact), stored(self.windows)
        order = np.argsort(session.run({"window": windows})["evidence"][:, 0], kind="stable")
        session.close()
        rows = {"healthy": order[:GOLDEN_WINDOWS], "faulty": order[-GOLDEN_WINDOWS:]}
        return [GoldenInput(name, {"window": windows[at]}, TOLERANCE) for name, at in rows.items()]


def stored(windows: NDArray[np.float32]) -> NDArray[np.int8]:
    """Windows as the model takes them."""
    return np.rint(windows / SCALE).clip(-128, 127).astype(np.int8)


def samples(windows: NDArray[np.float32]) -> Samples:
    """Some of them, from all over."""
    return Samples({"window": stored(windows)[:: len(windows) // 64]})
