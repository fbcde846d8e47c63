"""Models that the benchmark of isolation needs, made here."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from bench.inference import model_file
from tests.support.hostile_models import looping_model
from tests.support.onnx_model import onnx_model
from tests.support.packages import write_package

WIDTH, LAYERS = 512, 8  # of the model that gains by batches: its weights are 8 MiB
HEAVY = 4096  # squared, in float32: 64 MiB of weights


def make_packages(directory: Path) -> list[Path]:
    """The same model twice, and one for each of the other questions."""
    model, engine = model_file().read_bytes(), model_file().suffix.removeprefix(".")
    three = _archive({"random/in/x": np.array([3]), "random/out/y": np.array([3])})
    return [
        write_package(directory / "plain", model, engine=engine, name="plain"),
        write_package(directory / "apart", model, engine=engine, name="apart"),
        write_package(directory / "looping", looping_model(), name="looping", golden=three),
        write_package(directory / "wide", dense_model(WIDTH, LAYERS), name="wide"),
        write_package(directory / "heavy", dense_model(HEAVY, 1), name="heavy", golden={}),
        write_package(directory / "first" / "swapped", onnx_model("Neg"), name="swapped"),
        write_package(
            directory / "second" / "swapped", onnx_model("Abs"), name="swapped", version="1.1.0"
        ),
    ]


def dense_model(width: int, layers: int) -> bytes:
    """Layers of a weight matrix and a rectifier."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(1)
    scale = np.float32(width**-0.5)
    weights = [
        numpy_helper.from_array(random.standard_normal((width, width), np.float32) * scale, f"w{n}")
        for n in range(layers)
    ]
    nodes = []
    for n in range(layers):
        last = "y" if n == layers - 1 else f"r{n}"
        nodes.append(helper.make_node("MatMul", [f"r{n - 1}" if n else "x", f"w{n}"], [f"m{n}"]))
        nodes.append(helper.make_node("Relu", [f"m{n}"], [last]))
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])] for name in "xy"
    ]
    graph = helper.make_graph(nodes, "dense", *ends, weights)
    opsets = [helper.make_opsetid("", 17)]
    found: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return found


def _archive(arrays: dict[str, Any]) -> dict[str, bytes]:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return {"golden.npz": buffer.getvalue()}
