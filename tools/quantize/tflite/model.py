"""What a TensorFlow Lite file holds, tensor by tensor."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.engines.quantization import dequantize
from agent.errors import BadModel, NotFound
from agent.types import Array, Quantization
from tools.quantize import pickles
from tools.quantize.family import CLEAN_DB, LayerError

IDENTIFIER = b"TFL3"  # bytes 4 to 8 of a file
LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL")


def check_file(path: Path) -> Path:
    """A file that says it is TensorFlow Lite.

    Raises:
        NotFound: there is no such file.
        BadModel: it is something else.
    """
    if not path.exists():
        raise NotFound("no such file", where=str(path))
    if path.is_dir():
        raise BadModel("a folder", where=str(path), hint="Name the TensorFlow Lite file in it")
    pickles.refuse(path)
    with path.open("rb") as file:
        if file.read(8)[4:] != IDENTIFIER:
            raise BadModel("no TensorFlow Lite file", where=str(path))
    return path


class Tensors:
    """A file's tensors, all of them kept after a run.

    Without XNNPACK, which keeps no tensors: its results differ from these by rounding.
    """

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter = Interpreter(
            model_path=str(path),
            num_threads=1,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self._interpreter.allocate_tensors()
        self._details = {int(d["index"]): d for d in self._interpreter.get_tensor_details()}
        # The only listing of operators that the library has.
        self._operators: Sequence[Mapping[str, Any]] = self._interpreter._get_ops_details()  # noqa: SLF001

    def weights(self) -> dict[str, int]:
        """Number of constant elements by dtype, tensors of one element and shapes left out."""
        made = {int(i) for op in self._operators for i in op["outputs"]}
        given = {int(d["index"]) for d in self._interpreter.get_input_details()}
        counts: dict[str, int] = {}
        for index in {int(i) for op in self._operators for i in op["inputs"]} - made - given:
            detail = self._details.get(index)
            if detail is not None and math.prod(detail["shape"]) > 8:
                kind = np.dtype(detail["dtype"]).name
                counts[kind] = counts.get(kind, 0) + int(math.prod(detail["shape"]))
        return counts

    def run(self, arrays: Sequence[Array]) -> dict[str, Array]:
        """What every operator makes of the inputs, real values by tensor name."""
        for detail, array in zip(self._interpreter.get_input_details(), arrays, strict=True):
            self._interpreter.set_tensor(detail["index"], array)
        self._interpreter.invoke()
        indices = [int(op["outputs"][0]) for op in self._operators]
        return {self._details[i]["name"]: self._real(i) for i in indices if i in self._details}

    def layers(self) -> Iterator[tuple[str, str, list[str]]]:
        """Operators with weights: name of the output, kind, names of the inputs."""
        for op in self._operators:
            if op["op_name"] in LAYERS:
                inputs = [self._details[int(i)]["name"] for i in op["inputs"] if int(i) >= 0]
                yield self._details[int(op["outputs"][0])]["name"], op["op_name"], inputs

    def _real(self, index: int) -> Array:
        array: Array = self._interpreter.get_tensor(index)
        q = self._details[index]["quantization_parameters"]
        if len(q["scales"]) != 1 or array.dtype.kind == "f":
            return array
        return dequantize(array, Quantization(float(q["scales"][0]), int(q["zero_points"][0])))


def quantized_share(path: Path) -> float:
    """How much of the weights is stored in 8 bits or fewer, 0 to 1."""
    counts = Tensors(path).weights()
    total = sum(counts.values())
    small = sum(n for kind, n in counts.items() if np.dtype(kind).itemsize == 1)
    return small / total if total else 0.0


def layer_errors(
    original: Path, made: Path, feeds: Sequence[tuple[Sequence[Array], Sequence[Array]]]
) -> list[LayerError]:
    """Layers by the noise that they add, worst first; tensors are matched by name.

    Args:
        original: the float file.
        made: the quantized file.
        feeds: the same samples as each of the two takes them.
    """
    one, two = Tensors(original), Tensors(made)
    signal: dict[str, float] = {}
    error: dict[str, float] = {}
    for before, after in feeds:
        wanted, found = one.run(before), two.run(after)
        for name in wanted.keys() & found.keys():
            x, y = wanted[name].astype(np.float64), found[name]
            if x.shape == y.shape:
                signal[name] = signal.get(name, 0.0) + float(np.square(x).sum())
                error[name] = error.get(name, 0.0) + float(np.square(x - y).sum())
    noise = {name: error[name] / signal[name] for name in signal if signal[name] > 0}
    layers = [
        LayerError(
            _short(name), kind, _decibels(noise[name]), _decibels(_added(noise, name, inputs))
        )
        for name, kind, inputs in two.layers()
        if name in noise
    ]
    return sorted(layers, key=lambda layer: layer.own_db or 0.0)


def _added(noise: Mapping[str, float], output: str, inputs: Sequence[str]) -> float:
    return max(0.0, noise[output] - max((noise.get(name, 0.0) for name in inputs), default=0.0))


def _decibels(share: float) -> float:
    return min(CLEAN_DB, -10 * math.log10(share)) if share > 0 else CLEAN_DB


def _short(name: str) -> str:
    """The converter joins the names of all that it fused; the first one is enough to find it."""
    return name.split(";", maxsplit=1)[0]
