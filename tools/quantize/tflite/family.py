"""A TensorFlow Lite file, judged against the float file of the same model."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.types import Array
from tools.quantize.family import Artifact, Description, LayerError, Probe, Progress, Recipe, Score
from tools.quantize.package import digest
from tools.quantize.tensors import metrics, session
from tools.quantize.tensors.describe import described
from tools.quantize.tensors.sameness import NOT_SLIMMED, same_bits
from tools.quantize.tensors.samples import Samples
from tools.quantize.tflite import model
from tools.quantize.tflite.slim import slimmed, with_float_weights
from tools.quantize.work import work_key

MODEL = "model.tflite"
COPIES = 4
RUNTIME = 200 * 2**20  # bytes that the libraries take
COMPARED = 16  # samples
SUMMARIES = {
    "slim": "quantized by its converter, without what no runtime reads",
    "as-given": "quantized by its converter",
}
SLIM, AS_GIVEN = SUMMARIES
RECIPES = 2  # raised when what they make of one source changes: what is kept is then made anew


@dataclass(frozen=True, slots=True)
class AsGiven:
    """The file as its converter made it."""

    quantized: Path
    notes: tuple[str, ...] = ()
    name: str = AS_GIVEN
    summary: str = SUMMARIES[AS_GIVEN]

    def build(self, original: Artifact, directory: Path, progress: Progress) -> Artifact:  # noqa: ARG002
        """Take the file."""
        shutil.copyfile(self.quantized, directory / MODEL)
        return Artifact(directory, {MODEL: "model"}, "tflite", notes=self.notes)

    def sparing(self, layers: Sequence[LayerError]) -> Recipe | None:  # noqa: ARG002
        """Nothing here can be changed."""
        return None


@dataclass(frozen=True, slots=True)
class Slim:
    """The file without what no runtime reads, if it gives the same outputs, bit for bit.

    Attributes:
        quantized: the file as its converter made it.
        samples: what the two are compared on.
        notes: for the report.
    """

    quantized: Path
    samples: Samples
    notes: tuple[str, ...] = ()
    name: str = SLIM
    summary: str = SUMMARIES[SLIM]

    def build(self, original: Artifact, directory: Path, progress: Progress) -> Artifact:  # noqa: ARG002
        """Rewrite the file."""
        progress("Slimming", 0.0)
        whole = Artifact(self.quantized.parent, {self.quantized.name: "model"}, "tflite")
        thin = Artifact(directory, {MODEL: "model"}, "tflite", notes=self.notes)
        thin.model.write_bytes(slimmed(self.quantized.read_bytes()))
        if same_bits(whole, thin, self.samples):
            return thin
        shutil.copyfile(self.quantized, thin.model)
        return replace(thin, notes=(*self.notes, NOT_SLIMMED))

    def sparing(self, layers: Sequence[LayerError]) -> Recipe | None:  # noqa: ARG002
        """Nothing here can be changed."""
        return None


@dataclass(slots=True)
class TfliteFamily:
    """A quantized file, and its float one where there is one.

    Attributes:
        quantized: the file that is packaged.
        reference: the float file.
        evaluation: real values, not stored ones.
        metric: asked for by name; empty takes what the set allows.
        task: of the manifest.
    """

    quantized: Path
    reference: Path | None
    evaluation: Samples
    metric: str = ""
    task: str = "tensor"
    _wanted: NDArray[np.float64] | None = field(default=None, init=False)

    @property
    def comparable(self) -> bool:
        """Whether there is a float file."""
        return self.reference is not None

    @property
    def key(self) -> str:
        """Digest of the files, the set and the metric."""
        files = [digest(self.quantized), digest(self.reference) if self.reference else ""]
        return work_key("tflite", files, self.evaluation.digest(), self.metric, RECIPES)

    def needs_bytes(self) -> int:
        """A few copies of the files, and the set."""
        files = [path for path in (self.quantized, self.reference) if path]
        return COPIES * sum(path.stat().st_size for path in files) + (
            2 * self.evaluation.nbytes + RUNTIME
        )

    def original(self, directory: Path, progress: Progress) -> Artifact:
        """The float file, or the quantized one where there is none."""
        progress("Reading", 0.0)
        artifact = Artifact(directory, {MODEL: "model"}, "tflite")
        shutil.copyfile(self.reference or self.quantized, artifact.model)
        if self.reference and model.quantized_share(artifact.model) > 0:
            artifact.model.write_bytes(with_float_weights(self.reference.read_bytes()))
        session.opened(artifact).close()
        return artifact

    def recipes(self) -> Sequence[Recipe]:
        """Without what no runtime reads, and as it is."""
        notes = tuple(self._notes())
        return [Slim(self.quantized, self.evaluation, notes), AsGiven(self.quantized, notes)]

    def _notes(self) -> Iterator[str]:
        share = model.quantized_share(self.reference) if self.reference else 0.0
        if share > 0 and self.reference:
            yield (
                f"{share:.0%} of the weights in {self.reference.name} are stored in 8 bits "
                f"themselves ({self.reference.stat().st_size:,} bytes): they were written out in "
                "float to be compared with"
            )

    def evaluate(
        self, original: Artifact, artifact: Artifact, progress: Progress
    ) -> Sequence[Score]:
        """Metrics of the first output; without a float file only those that need none."""
        if self._wanted is None:
            self._wanted = self._outputs(original, progress)
        outputs = self._outputs(artifact, progress)
        names = metrics.chosen(self.evaluation, outputs.shape[1:], self.metric)
        if not self.comparable:
            names = [name for name in names if "float model" not in name]
        return metrics.scores(names, outputs, self._wanted, self.evaluation)

    def _outputs(self, artifact: Artifact, progress: Progress) -> NDArray[np.float64]:
        loaded = session.opened(artifact)
        try:  # one at a time: a converter may have fixed the batch inside the graph
            return session.outputs(loaded, self.evaluation, progress, batch=1)
        finally:
            loaded.close()

    def parameters(self, original: Artifact) -> int:
        """Number of weights."""
        return sum(model.Tensors(original.model).weights().values())

    def worst_layers(self, original: Artifact, made: Artifact) -> Sequence[LayerError]:
        """Layers by the noise they add."""
        some = self.evaluation.first(COMPARED)
        before, after = _feeds(original, some), _feeds(made, some)
        feeds = list(zip(before, after, strict=True))
        return model.layer_errors(original.model, self.quantized, feeds)  # which has the names

    def probe(self, artifact: Artifact) -> Probe:
        """One inference of the first sample."""
        return session.probe(artifact, self.evaluation)

    def describe(self, artifact: Artifact) -> Description:
        """The file's own tensors, and golden cases from the evaluation set."""
        return described(artifact, self.evaluation, self.task)


def _feeds(artifact: Artifact, samples: Samples) -> list[list[Array]]:
    loaded = session.opened(artifact)
    try:
        return [list(tensors.values()) for tensors in session.batches(loaded, samples, 1)]
    finally:
        loaded.close()
