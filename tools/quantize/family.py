"""What a kind of model must be able to do to be quantized, judged and packaged.

A family owns one: `onnx`, `tflite`, `language`, `encoder`, `whisper`. It reads the source, names
its recipes, evaluates whatever they make and describes the result for the manifest. It neither
measures time and memory, nor chooses, nor writes packages: those are the same for every family.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from agent.types import Tensors, TensorSpec

Role = Literal["model", "data", "doc"]

#: Called with what is being done and how far it is, 0 to 1.
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model as files, before it is a package.

    Attributes:
        directory: where the files are.
        files: path inside the directory -> role; exactly one is the model.
        engine: of the manifest, for example ``onnx``.
        parameters: of the manifest; what an engine or a task needs to know.
        notes: what a recipe decided by itself, for the report: a layer left in float, and why.
    """

    directory: Path
    files: Mapping[str, Role]
    engine: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def model(self) -> Path:
        """The file with the role "model"."""
        return self.directory / next(p for p, role in self.files.items() if role == "model")

    @property
    def size(self) -> int:
        """Bytes of all files that a device needs."""
        return sum((self.directory / p).stat().st_size for p, r in self.files.items() if r != "doc")


@dataclass(frozen=True, slots=True)
class Score:
    """How good a model is on one slice of the evaluation set.

    Attributes:
        metric: its name, for example ``accuracy``.
        slice: the part of the set; ``all`` is the whole.
        value: in the metric's own unit.
        count: samples of the slice.
        higher_is_better: the direction.
    """

    metric: str
    value: float
    slice: str = "all"
    count: int = 0
    higher_is_better: bool = True


CLEAN_DB = 120.0  # signal to noise where there is no noise to measure


@dataclass(frozen=True, slots=True)
class LayerError:
    """How far a quantized layer's output is from the float one's.

    Attributes:
        name: of the tensor or node.
        operator: its kind, for example ``Conv``.
        sqnr_db: signal to quantization noise at its output, decibels; lower is worse. Noise of the
            layers before it is in it.
        own_db: the same with only the noise that this layer adds to its input's; by it a layer is
            blamed. None where it cannot be told apart.
    """

    name: str
    operator: str
    sqnr_db: float
    own_db: float | None = None


@dataclass(frozen=True, slots=True)
class GoldenInput:
    """An input whose output the package keeps.

    Attributes:
        name: of the golden case.
        tensors: by input name.
        tolerance: largest absolute difference allowed on a device, in stored units.
        outputs: the outputs to keep; all of them when empty.
    """

    name: str
    tensors: Tensors
    tolerance: float
    outputs: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Description:
    """What the manifest says of a model beside its files and its evaluation.

    Attributes:
        task: for example ``tensor`` or ``embedding``.
        inputs: as the packaged model declares them.
        outputs: likewise.
        parameters: for the task and the engine.
        golden: cases that are run through the packaged model and kept.
        memory_mib: of a loaded session; 0 takes what was measured.
        threads: for one run.
        data: what the evaluation set was, for the evaluation card.
        limits: where the model must not be used.
    """

    task: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    golden: Sequence[GoldenInput] = ()
    memory_mib: int = 0
    threads: int = 1
    data: str = ""
    limits: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """How a model is timed, in a process of its own.

    Attributes:
        target: ``module:function``; the function takes an Artifact and the arguments, loads the
            model, and returns a callable that does one unit of work.
        arguments: plain values (JSON) for it.
        unit: of the work, for example ``inference`` or ``token``.
    """

    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    unit: str = "inference"


class Recipe(Protocol):
    """One way to make the model smaller."""

    @property
    def name(self) -> str:
        """Unique in its family, a file name: ``int8-static-minmax``."""

    @property
    def summary(self) -> str:
        """One line for the report."""

    def build(self, original: Artifact, directory: Path, progress: Progress) -> Artifact:
        """Make the model into an empty directory.

        Raises:
            BadModel: the recipe cannot be applied to this model; the message says why.
        """

    def sparing(self, layers: Sequence[LayerError]) -> "Recipe | None":
        """The same recipe with the layers that hurt most left in higher precision.

        Args:
            layers: those of what this recipe built, worst first.

        Returns:
            None when the recipe has no such form, or nothing more to spare.
        """


class Family(Protocol):
    """One source, with all that its kind of model needs."""

    @property
    def key(self) -> str:
        """Digest of the source and of every option that changes what is built: names the work."""

    @property
    def comparable(self) -> bool:
        """Whether the original is a float model; without one there is no "before"."""

    def needs_bytes(self) -> int:
        """Estimated peak memory of the whole run, bytes; stated before anything is loaded."""

    def original(self, directory: Path, progress: Progress) -> Artifact:
        """The float model in a form that its engine runs, made in an empty directory.

        Raises:
            BadModel: the source is not a model of this family.
        """

    def recipes(self) -> Sequence[Recipe]:
        """Those to be tried; any order."""

    def evaluate(
        self, original: Artifact, artifact: Artifact, progress: Progress
    ) -> Sequence[Score]:
        """The task's metrics, by slice; the first one decides. Slice ``all`` comes first.

        Args:
            original: the float model, for metrics of agreement with it.
            artifact: the one to judge; the original itself is judged too.
            progress: told how far it is.
        """

    def parameters(self, original: Artifact) -> int:
        """Number of weights of the original, which is that of all that is made of it.

        Scales, zero points and sums that recipes add are none. 0 when it cannot be told.
        """

    def worst_layers(self, original: Artifact, made: Artifact) -> Sequence[LayerError]:
        """Layers by quantization error, worst first; empty when the graphs cannot be compared."""

    def probe(self, artifact: Artifact) -> Probe:
        """How it is timed."""

    def describe(self, artifact: Artifact) -> Description:
        """What goes into the manifest."""
