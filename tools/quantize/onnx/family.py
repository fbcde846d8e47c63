"""An ONNX graph, with what is needed to judge what is made of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tools.quantize import memory
from tools.quantize.family import (
    Artifact,
    Description,
    LayerError,
    Probe,
    Progress,
    Recipe,
    Score,
)
from tools.quantize.onnx import graph, recipes, source
from tools.quantize.onnx.compare import layer_errors
from tools.quantize.onnx.recipes import CALIBRATION_BATCH, PREPARED, prepare
from tools.quantize.onnx.slim import NAMED
from tools.quantize.tensors import metrics, session
from tools.quantize.tensors.describe import described
from tools.quantize.tensors.samples import Samples
from tools.quantize.work import work_key

COPIES = 6  # of a model in memory at the peak: read, prepared, quantized, two sessions, activations
RUNTIME = 300 * 2**20  # bytes that the libraries take
MORE = 200 * 2**20  # bytes of those that are not loaded yet when it is asked what is needed
RECIPES = 2  # raised when what they make of one source changes: what is kept is then made anew


@dataclass(frozen=True, slots=True)
class OnnxSource:
    """A float graph and the sets it is judged by.

    Attributes:
        path: the ONNX file.
        evaluation: what it is judged on.
        calibration: what ranges are taken from.
        metric: asked for by name; empty takes what the set allows.
        output: the output that decides; empty takes the first.
        per_channel: weights have a scale for each channel.
        task: of the manifest.
    """

    path: Path
    evaluation: Samples
    calibration: Samples
    metric: str = ""
    output: str = ""
    per_channel: bool = True
    task: str = "tensor"


@dataclass(slots=True)
class OnnxFamily:
    """The family of one source."""

    given: OnnxSource
    _reference: NDArray[np.float64] | None = field(default=None, init=False)

    comparable = True

    @property
    def key(self) -> str:
        """Digest of the source, the sets and the options."""
        given = self.given
        sets = [samples.digest() for samples in (given.evaluation, given.calibration)]
        options = (given.metric, given.output, given.per_channel, RECIPES)
        return work_key("onnx", source.digests(given.path), sets, options)

    def needs_bytes(self) -> int:
        """A few copies of the weights, the sets, and the activations of the step that has most.

        Calibration looks at all activations of a batch at once, and the runtime's arena doubles when
        it grows; a run needs only some at a time, but of a larger batch.
        """
        evaluation, calibration = self.given.evaluation, self.given.calibration
        one = source.activations(self.given.path, evaluation)
        calibrating = CALIBRATION_BATCH * 2 * one.all
        running = session.BATCH * one.alive
        held = evaluation.nbytes + calibration.nbytes
        weights = COPIES * source.size(self.given.path)
        libraries = max(RUNTIME, memory.resident() + MORE)  # torch too, where it exported
        return weights + 2 * held + max(calibrating, running) + libraries

    def original(self, directory: Path, progress: Progress) -> Artifact:
        """The graph as one file, and prepared for the quantizer beside it."""
        progress("Reading", 0.0)
        artifact = source.bring(self.given.path, directory)
        prepare(artifact.model, directory / PREPARED)
        return artifact

    def recipes(self) -> Sequence[Recipe]:
        return recipes.recipes(self.given.calibration, per_channel=self.given.per_channel)

    def evaluate(
        self, original: Artifact, artifact: Artifact, progress: Progress
    ) -> Sequence[Score]:
        """Metrics of the deciding output."""
        if self._reference is None:
            self._reference = self._outputs(original, progress)
        outputs = self._outputs(artifact, progress)
        samples = self.given.evaluation
        names = metrics.chosen(samples, outputs.shape[1:], self.given.metric)
        return metrics.scores(names, outputs, self._reference, samples)

    def _outputs(self, artifact: Artifact, progress: Progress) -> NDArray[np.float64]:
        loaded = session.opened(artifact)
        try:
            return session.outputs(loaded, self.given.evaluation, progress, self.given.output)
        finally:
            loaded.close()

    def parameters(self, original: Artifact) -> int:
        """Number of weights."""
        import onnx

        return graph.parameters(onnx.load_model(str(original.model)))

    def worst_layers(self, original: Artifact, made: Artifact) -> Sequence[LayerError]:
        """Layers by the noise they add."""
        import onnx

        prepared = onnx.load_model(str(original.directory / PREPARED))
        named = onnx.load_model(str(made.directory / NAMED))
        return layer_errors(prepared, named, self.given.evaluation)

    def probe(self, artifact: Artifact) -> Probe:
        """One inference of the first sample."""
        return session.probe(artifact, self.given.evaluation)

    def describe(self, artifact: Artifact) -> Description:
        """The graph's own tensors, and golden cases from the evaluation set."""
        return described(artifact, self.given.evaluation, self.given.task)
