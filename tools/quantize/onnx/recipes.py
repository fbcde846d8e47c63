"""Ways to make an ONNX graph smaller, all through onnxruntime's quantizer."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from agent.errors import BadModel, BadPayload
from tools.quantize.family import Artifact, LayerError, Progress, Recipe
from tools.quantize.libraries import quiet
from tools.quantize.onnx import graph
from tools.quantize.onnx.slim import NAMED, slim
from tools.quantize.tensors.samples import Samples
from tools.quantize.tensors.session import batches, opened

PREPARED = "prepared.onnx"  # shapes inferred, constants folded, batch normalization fused

LEAST_CALIBRATION = 8  # samples
MOST_CALIBRATION = 512  # samples; ranges do not change much after that

CALIBRATION_BATCH = 4  # samples whose activations are all in memory at once

LEAST_INT4 = 1 << 14  # elements of a matrix that is worth packing
BLOCK = 32  # weights with a scale of their own in int4

METHODS: Mapping[str, str] = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}


@dataclass(frozen=True, slots=True)
class OnnxRecipe(ABC):
    """What the recipes share.

    Attributes:
        spared: nodes left in higher precision.
        per_channel: weights have a scale for each output channel.
        calibration: typical inputs: what ranges are taken from, and what shows that a slim file
            gives the same.
    """

    spared: tuple[str, ...] = ()
    per_channel: bool = True
    calibration: Samples | None = None

    @property
    @abstractmethod
    def base(self) -> str:
        """The name without what is spared."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """One line for the report."""

    @property
    def name(self) -> str:
        """Unique in the family."""
        return f"{self.base}-sparing-{len(self.spared)}" if self.spared else self.base

    def sparing(self, layers: Sequence[LayerError]) -> Recipe | None:
        """Leave another tenth of the layers in float, at most half of them in all."""
        left = [layer.name for layer in layers if layer.name not in self.spared]
        more = max(1, math.ceil(len(layers) / 10))
        if not left or len(self.spared) + more > len(layers) / 2:
            return None
        milder: Recipe = replace(self, spared=(*self.spared, *left[:more]))
        return milder

    def build(self, original: Artifact, directory: Path, progress: Progress) -> Artifact:
        """Quantize the prepared graph into the directory. Raises BadModel."""
        progress("Quantizing", 0.0)
        with quiet():
            self.quantize(original.directory / PREPARED, directory / NAMED, original)
        notes = [f"left in float: {', '.join(self.spared)}"] if self.spared else []
        notes += [] if self.per_channel else ["one scale a tensor"]
        progress("Slimming", 0.9)
        return slim(Artifact(directory, {NAMED: "model"}, "onnx", notes=notes), self.calibration)

    @abstractmethod
    def quantize(self, prepared: Path, out: Path, original: Artifact) -> None:
        """Write the quantized graph."""


@dataclass(frozen=True, slots=True)
class StaticInt8(OnnxRecipe):
    """Weights and activations in int8 as QuantizeLinear/DequantizeLinear pairs, ranges by calibration.

    Attributes:
        method: of `METHODS`.
    """

    method: str = "minmax"

    @property
    def base(self) -> str:
        return f"int8-static-{self.method}"

    @property
    def summary(self) -> str:
        return f"int8 weights and activations, ranges by {self.method} over a calibration set"

    def quantize(self, prepared: Path, out: Path, original: Artifact) -> None:
        from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

        assert self.calibration is not None
        # Unsigned activations with signed weights are what x86 has instructions for; Arm takes both.
        quantize_static(
            str(prepared),
            str(out),
            _reader(original, self.calibration),
            per_channel=self.per_channel,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,
            nodes_to_exclude=list(self.spared),
            calibrate_method=CalibrationMethod[METHODS[self.method]],
            # Else the histograms are made when the activations of the whole set are in memory.
            extra_options={"CalibStridedMinMax": 1} if self.method != "minmax" else {},
        )


@dataclass(frozen=True, slots=True)
class DynamicInt8(OnnxRecipe):
    """Weights of matrix products in int8; ranges of activations are taken anew at each run."""

    @property
    def base(self) -> str:
        return "int8-dynamic"

    @property
    def summary(self) -> str:
        return "int8 weights of matrix products, activations quantized at each run"

    def quantize(self, prepared: Path, out: Path, original: Artifact) -> None:  # noqa: ARG002
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        model = onnx.load_model(str(prepared))
        kinds = [k for k in ("MatMul", "Gemm", "LSTM", "Gather") if _has_weights(model, k)]
        if not {"MatMul", "Gemm", "LSTM"} & set(kinds):
            raise BadModel("no matrix product with constant weights: dynamic int8 changes nothing")
        quantize_dynamic(
            str(prepared),
            str(out),
            op_types_to_quantize=kinds,
            per_channel=self.per_channel,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # as in `StaticInt8`
            nodes_to_exclude=list(self.spared),
        )


@dataclass(frozen=True, slots=True)
class Int4Weights(OnnxRecipe):
    """Large matrices and tables in int4, each block of 32 with a scale of its own; activations stay float."""

    @property
    def base(self) -> str:
        return "int4-weights"

    @property
    def summary(self) -> str:
        return (
            f"int4 weights of large matrices and tables in blocks of {BLOCK}, activations in float"
        )

    def quantize(self, prepared: Path, out: Path, original: Artifact) -> None:  # noqa: ARG002
        import onnx
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
        from onnxruntime.quantization.onnx_model import ONNXModel

        wrapped = ONNXModel(onnx.load_model(str(prepared)))
        wrapped.replace_gemm_with_matmul()
        graph.name_nodes(wrapped.model)
        large = set(graph.large_matrices(wrapped.model, LEAST_INT4)) - set(self._spared_matmuls())
        if not large:
            raise BadModel(f"no matrix of {LEAST_INT4} constant weights: int4 is not worth it")
        quantizer_ = MatMulNBitsQuantizer(
            wrapped.model,
            block_size=BLOCK,
            is_symmetric=True,
            accuracy_level=4,  # products in int8
            nodes_to_exclude=[n.name for n in wrapped.model.graph.node if n.name not in large],
            op_types_to_quantize=tuple(graph.packable(wrapped.model)),
        )
        quantizer_.process()
        quantizer_.model.save_model_to_file(str(out), use_external_data_format=False)

    def _spared_matmuls(self) -> list[str]:
        """With the names that Gemm nodes have as matrix products."""
        return [*self.spared, *(f"{name}_MatMul" for name in self.spared)]


def recipes(calibration: Samples | None = None, *, per_channel: bool = True) -> list[OnnxRecipe]:
    """All of them. Static first: where sizes are equal, the faster one is tried first."""
    static = [
        StaticInt8(per_channel=per_channel, calibration=calibration, method=method)
        for method in METHODS
    ]
    dynamic = DynamicInt8(per_channel=per_channel, calibration=calibration)
    return [*static, dynamic, Int4Weights(calibration=calibration)]


SUMMARIES = {recipe.name: recipe.summary for recipe in recipes()}


def prepare(original: Path, out: Path) -> None:
    """Bring a float graph into the form that quantizes best, with a name for each node."""
    import onnx

    with quiet():
        from onnxruntime.quantization import quant_pre_process

        quant_pre_process(str(original), str(out), skip_symbolic_shape=True)
    model = onnx.load_model(str(out))
    graph.name_nodes(model)
    onnx.save_model(model, str(out))


def check_calibration(samples: Samples, where: str) -> Samples:
    """A set that ranges may be taken from.

    Raises:
        BadPayload: it has too few samples.
    """
    if len(samples) < LEAST_CALIBRATION:
        raise BadPayload(
            f"{len(samples)} sample(s) do not show the ranges of a model, at least "
            f"{LEAST_CALIBRATION} are needed",
            where=where,
            hint="Some hundred typical ones are best",
        )
    return samples.first(MOST_CALIBRATION)


def _has_weights(model: Any, kind: str) -> bool:
    return any(node.op_type == kind for node in graph.layers(model))


def _reader(original: Artifact, samples: Samples) -> Any:
    """The samples as onnxruntime's calibration asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    session = opened(original)
    # Histograms are made of arrays of one shape: no smaller batch may come last.
    size = max(n for n in range(1, CALIBRATION_BATCH + 1) if len(samples) % n == 0)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._all: Iterator[dict[str, Any]] = batches(session, samples, size)
            self._batches = self._all

        def get_next(self) -> dict[str, Any] | None:
            return next(self._batches, None)

        def __len__(self) -> int:  # of the range's unit
            return sum(1 for _ in batches(session, samples, size))

        def set_range(self, start_index: int, end_index: int) -> None:
            """The next ones, which are never asked for twice."""
            self._batches = islice(self._all, end_index - start_index)

    return Reader()
