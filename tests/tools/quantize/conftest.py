"""Small float models made from a seed, and the command as a user runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tools.quantize.cli import main

INPUTS, CLASSES = 64, 4


@dataclass
class Done:
    """How a command ended."""

    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def edge_quantize(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Run the command, with a work directory of its own and few rounds of timing."""
    monkeypatch.setenv("EDGE_QUANTIZE_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("EDGE_AGENT_DEBUG", "1")  # what is no error of ours fails the test

    def run(family: str, *arguments: object, status: int | None = 0) -> Done:
        given = [family, *map(str, arguments), "--rounds", "2"]
        monkeypatch.setattr("sys.argv", ["edge-quantize", *given])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        done = Done(*capfd.readouterr())
        assert status is None or ended.value.code == status, done.stderr
        return done

    return run


def perceptron(*, hidden: int = 256, hard: bool = False) -> onnx.ModelProto:
    """A classifier of three layers; the second's weights may be hard to quantize."""
    random = np.random.default_rng(5)
    sizes = (INPUTS, hidden, hidden, CLASSES)
    nodes, weights, current = [], [], "x"
    for index, (rows, columns) in enumerate(pairwise(sizes)):
        matrix = random.standard_normal((rows, columns)) / np.sqrt(rows)
        if hard:  # a weight that nothing ever passes takes the whole range of its layer
            matrix[:, 0] *= index > 0
            matrix[0, 0] = 2000.0 if index == 1 else matrix[0, 0]
        weights.append(numpy_helper.from_array(matrix.astype(np.float32), f"w{index}"))
        last = index == len(sizes) - 2
        out = "y" if last else f"h{index}"
        nodes.append(
            helper.make_node("MatMul", [current, f"w{index}"], [out], name=f"layer{index}")
        )
        if not last:
            current = f"r{index}"
            nodes.append(helper.make_node("Relu", [out], [current]))
    return model_of(nodes, weights, ("n", INPUTS), ("n", CLASSES))


def model_of(
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    given: tuple[str | int, ...],
    made: tuple[str | int, ...],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, made)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    path = tmp_path / "classifier.onnx"
    onnx.save_model(perceptron(), str(path))
    return path


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """An evaluation set whose labels the float classifier gets right, in two slices."""
    random = np.random.default_rng(6)
    x = random.standard_normal((400, INPUTS)).astype(np.float32)
    path = tmp_path / "evaluation.npz"
    slices = np.where(np.arange(400) % 3 == 0, "night", "day")
    np.savez(path, x=x, labels=forward(x).argmax(axis=1), slices=slices)
    return path


def forward(x: np.ndarray) -> np.ndarray:
    """What the classifier computes, by NumPy."""
    current = x
    weights = [numpy_helper.to_array(w) for w in perceptron().graph.initializer]
    for index, matrix in enumerate(weights):
        current = current @ matrix
        if index < len(weights) - 1:
            current = np.maximum(current, 0)
    return current
