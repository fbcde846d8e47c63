"""The account of a run: what was tried, what it costs and what it is worth. Pure values.

`terminal`, `html` and `to_json` show the same report.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from tools.quantize.family import LayerError, Score

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Figures:
    """What a model costs on this machine, in a process of its own, on one thread.

    Attributes:
        size: of all files that a device needs, bytes.
        parameters: number of weights of the original, without what recipes add; 0 when it cannot
            be told.
        p50_ms: median time of one unit of work, milliseconds.
        p99_ms: 99th percentile, milliseconds.
        peak_memory: most memory while loading and running, above the process without the model, bytes.
        runs: how many units of work were timed.
    """

    size: int
    parameters: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    peak_memory: int = 0
    runs: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One model: the original, or what a recipe made.

    Attributes:
        recipe: its name; ``original`` for the float model.
        summary: what the recipe does, one line.
        figures: what it costs.
        scores: what it is worth, by slice; empty when it was not evaluated.
        layers: by quantization error, worst first.
        notes: what the recipe decided by itself.
        rejected: why it may not be packaged; empty when it may.
    """

    recipe: str
    summary: str
    figures: Figures
    scores: Sequence[Score] = ()
    layers: Sequence[LayerError] = ()
    notes: Sequence[str] = ()
    rejected: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run.

    Attributes:
        source: what was quantized.
        family: its kind, for example ``onnx``.
        machine: processor and versions that the figures are of.
        data: what the evaluation set was.
        unit: what was timed, for example ``inference``.
        original: the float model; None where only a quantized one was given.
        tried: in the order in which they were tried.
        chosen: the recipe that was packaged; empty when none was.
        max_drop: what was allowed to be lost, as it was given; empty for no limit.
        warnings: what a reader must know, for example a slower model.
        max_slice_drop: what was allowed to be lost on any slice; empty for no limit.
        format: of this report as JSON.
    """

    source: str
    family: str
    machine: str
    data: str
    unit: str
    original: Outcome | None
    tried: Sequence[Outcome]
    chosen: str = ""
    max_drop: str = ""
    warnings: Sequence[str] = field(default_factory=tuple)
    max_slice_drop: str = ""
    format: int = FORMAT

    @property
    def result(self) -> Outcome | None:
        """What was packaged."""
        return next((o for o in self.tried if o.recipe == self.chosen), None)


def to_json(report: Report) -> bytes:
    """The report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def from_json(data: bytes) -> Report:
    """The report that `to_json` wrote. Raises msgspec.ValidationError."""
    return msgspec.json.decode(data, type=Report)
