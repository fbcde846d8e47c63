"""What `edge-quantize` makes of models of over a million weights: size and time beside the float ones.

A convolutional network and a perceptron, written from a seed and never trained: what they compute does
not matter here, the arithmetic is that of real ones. The two files take turns, each in a process of
its own, on one thread. Where MLPerf Tiny's pairs of float and int8 files are at hand, they are shown
without a limit: they have fewer than a million weights.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.report import Row, Table
from tools.quantize.family import Artifact, Recipe
from tools.quantize.measure import measure
from tools.quantize.onnx.family import OnnxFamily, OnnxSource
from tools.quantize.report import Figures
from tools.quantize.tensors.samples import generated
from tools.quantize.tensors.session import opened, probe

SEED = 7
LARGEST = 0.28  # of the float file
FASTER = 1.5  # times
PAIRS = {
    "ad01": ("ad01_fp32", "ad01_int8"),
    "vww_96": ("vww_96_float", "vww_96_int8"),
    "pretrainedResnet": ("pretrainedResnet", "pretrainedResnet_quant"),
}


def run(quick: bool) -> Table:
    """Quantize and time; `quick` with fewer turns."""
    rounds = 8 if quick else 41
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-quantization-") as folder:
        for name, model in (("convolutional", convolutional()), ("perceptron", perceptron())):
            rows += _of_graph(name, model, Path(folder, name), rounds)
        rows += _of_pairs(Path(folder), rounds)
    return Table(
        "Quantization",
        rows,
        [
            "The ratio of times is how many times faster; that of files is the share that is left.",
            f"Medians of {rounds - 1} turns, one thread; both forms in processes of their own.",
            "int8: QDQ, per channel, ranges by min-max; dynamic int8 and int4 weights for comparison.",
        ],
    )


def _of_graph(name: str, model: Any, folder: Path, rounds: int) -> Iterator[Row]:
    folder.mkdir()
    onnx.save_model(model, str(folder / f"{name}.onnx"))
    given = OnnxSource(folder / f"{name}.onnx", *_sets(folder / f"{name}.onnx"))
    family = OnnxFamily(given)
    (folder / "original").mkdir()
    original = family.original(folder / "original", _quiet)
    weights = family.parameters(original)
    wanted = {"int8-static-minmax": True}
    if name == "perceptron":
        wanted |= {"int8-dynamic": False, "int4-weights": False}
    for recipe in family.recipes():
        if recipe.name in wanted:
            before, after = _timed(family, original, recipe, folder, rounds)
            title = f"{name}, {weights / 1e6:.1f} M weights, {recipe.name}"
            yield from _compared(title, before, after, held=wanted[recipe.name])


def _sets(path: Path) -> tuple[Any, Any]:
    session = opened(Artifact(path.parent, {path.name: "model"}, "onnx"))
    try:
        return generated(session.inputs, 16), generated(session.inputs, 16, seed=1)
    finally:
        session.close()


def _timed(
    family: OnnxFamily, original: Artifact, recipe: Recipe, folder: Path, rounds: int
) -> tuple[Figures, Figures]:
    place = folder / recipe.name
    place.mkdir()
    made = recipe.build(original, place, _quiet)
    models = {"before": original, "after": made}
    found = measure(
        {key: (a, family.probe(a), family.parameters(original)) for key, a in models.items()},
        _quiet,
        rounds=rounds,
    )
    return found["before"], found["after"]


def _compared(title: str, before: Figures, after: Figures, *, held: bool) -> Iterator[Row]:
    share, times = after.size / before.size, before.p50_ms / after.p50_ms
    yield Row(
        f"{title}: file",
        after.size / 1024,
        "KiB",
        "float",
        before.size / 1024,
        share,
        f"≤ {LARGEST}" if held else "",
        share <= LARGEST if held else None,
    )
    yield Row(
        f"{title}: p50",
        after.p50_ms,
        "ms",
        "float",
        before.p50_ms,
        times,
        f"{FASTER} times faster" if held else "",
        times >= FASTER if held else None,
    )


def _of_pairs(folder: Path, rounds: int) -> Iterator[Row]:
    root = Path(__file__).resolve().parent.parent
    shared = Path(os.environ.get("EDGE_AGENT_SHARED") or root.parent / "shared" / "data")
    for name, files in PAIRS.items():
        paths = [shared / "mlperf-tiny" / f"{file}.tflite" for file in files]
        if all(path.exists() for path in paths):
            before, after = _pair(folder / name, paths, rounds)
            yield from _compared(f"{name}, TensorFlow Lite", before, after, held=False)


def _pair(folder: Path, paths: list[Path], rounds: int) -> tuple[Figures, Figures]:
    models = {}
    for key, path in zip(("before", "after"), paths, strict=True):
        place = folder / key
        place.mkdir(parents=True)
        (place / "model.tflite").write_bytes(path.read_bytes())
        artifact = Artifact(place, {"model.tflite": "model"}, "tflite")
        session = opened(artifact)
        models[key] = (artifact, probe(artifact, generated(session.inputs, 1)), 0)
        session.close()
    found = measure(models, _quiet, rounds=rounds)
    return found["before"], found["after"]


def _quiet(_text: str, _share: float) -> None:
    pass


# The models


def convolutional() -> Any:
    """Five convolutions and a matrix, 1.6 M weights, on pictures of 32 by 32."""
    random = np.random.default_rng(SEED)
    channels = (3, 64, 128, 256, 256, 256)
    nodes, weights, current = [], [], "picture"
    for index in range(len(channels) - 1):
        shape = (channels[index + 1], channels[index], 3, 3)
        weights.append(_weight(random, f"w{index}", shape))
        stride = 2 if index in (1, 2, 3) else 1
        nodes.append(
            helper.make_node(
                "Conv", [current, f"w{index}"], [f"c{index}"], pads=[1] * 4, strides=[stride] * 2
            )
        )
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        current = f"r{index}"
    weights.append(_weight(random, "w", (channels[-1], 10)))
    nodes.append(helper.make_node("GlobalAveragePool", [current], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "w"], ["classes"]))
    return _model(nodes, weights, ("picture", [1, 3, 32, 32]), ("classes", [1, 10]))


def perceptron() -> Any:
    """Four matrices, 2.5 M weights."""
    random = np.random.default_rng(SEED)
    sizes = (256, 1024, 1024, 1024, 128)
    nodes, weights, current = [], [], "values"
    for index in range(len(sizes) - 1):
        last = index == len(sizes) - 2
        weights.append(_weight(random, f"w{index}", sizes[index : index + 2]))
        out = "result" if last else f"m{index}"
        nodes.append(helper.make_node("MatMul", [current, f"w{index}"], [out]))
        if not last:
            nodes.append(helper.make_node("Relu", [out], [f"r{index}"]))
            current = f"r{index}"
    return _model(nodes, weights, ("values", [1, sizes[0]]), ("result", [1, sizes[-1]]))


def _weight(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> Any:
    spread = np.sqrt(2 / np.prod(shape[1:] if len(shape) == 4 else shape[:1]))
    values = random.standard_normal(shape).astype(np.float32) * np.float32(spread)
    return numpy_helper.from_array(values, name)


def _model(nodes: list[Any], weights: list[Any], given: Any, made: Any) -> Any:
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in (given, made)
    )
    graph = helper.make_graph(nodes, "bench", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
