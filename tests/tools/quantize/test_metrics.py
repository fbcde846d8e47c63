"""Metrics by slice, noise by layer, and graphs with int8 edges."""

import numpy as np
import onnx
import pytest

from agent.engines.base import EngineOptions
from agent.engines.catalog import load_session
from agent.errors import BadRequest
from tests.tools.quantize.conftest import INPUTS, perceptron
from tools.quantize.onnx import graph
from tools.quantize.onnx.compare import layer_errors
from tools.quantize.onnx.edges import float_inside, int8_throughout
from tools.quantize.tensors.metrics import METRICS, chosen, scores
from tools.quantize.tensors.samples import Samples

X = np.random.default_rng(2).standard_normal((64, INPUTS)).astype(np.float32)
SCALES = {"x": 0.03, "y": 0.05}


def test_accuracy_by_slice_is_what_a_person_counts() -> None:
    samples = Samples({"x": np.zeros((4, 2))}, np.array([0, 1, 1, 0]), None, ["a", "a", "b", "b"])
    outputs = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], float)
    found = {s.slice: s.value for s in scores(["accuracy"], outputs, outputs, samples)}
    assert found == {"all": 0.75, "a": 1.0, "b": 0.5}


def test_slices_are_in_the_order_that_people_count() -> None:
    names = [f"class {i}" for i in range(12)]
    samples = Samples({"x": np.zeros((12, 2))}, np.arange(12), None, names)
    found = scores(["accuracy"], np.eye(12), np.eye(12), samples)
    assert [s.slice for s in found] == ["all", *names]


def test_a_model_agrees_with_itself() -> None:
    outputs = np.random.default_rng(1).standard_normal((9, 5))
    samples = Samples({"x": np.zeros((9, 2))})
    for name in ("agreement with the float model", "cosine similarity to the float model"):
        assert scores([name], outputs, outputs, samples)[0].value == pytest.approx(1.0)
    zeros = np.zeros((9, 5))
    (same,) = scores(["cosine similarity to the float model"], zeros, zeros, samples)
    assert same.value == 1.0


@pytest.mark.parametrize(
    ("samples", "shape", "first"),
    [
        (Samples({"x": X}, labels=np.zeros(64, int)), (4,), "accuracy"),
        (Samples({"x": X}, targets=np.zeros((64, 4))), (4,), "mean absolute error"),
        (Samples({"x": X}), (4,), "agreement with the float model"),
        (Samples({"x": X}), (INPUTS,), "cosine similarity to the float model"),
        (Samples({"x": X}), (8, 8), "cosine similarity to the float model"),
    ],
)
def test_the_metric_follows_from_the_set(
    samples: Samples, shape: tuple[int, ...], first: str
) -> None:
    assert chosen(samples, shape)[0] == first


@pytest.mark.parametrize("asked", ["accuracy", "mean absolute error", "beauty"])
def test_a_metric_that_the_set_does_not_allow(asked: str) -> None:
    with pytest.raises(BadRequest):
        chosen(Samples({"x": X}), (4,), asked)


def test_every_metric_is_known_by_its_name_on_the_command_line() -> None:
    assert all(name == name.lower() for name in METRICS)


def test_noise_put_into_one_layer_is_found_there() -> None:
    original = perceptron()
    spoilt = onnx.ModelProto()
    spoilt.CopyFrom(original)
    weight = onnx.numpy_helper.to_array(spoilt.graph.initializer[1])
    noise = 0.05 * np.random.default_rng(4).standard_normal(weight.shape) * weight.std()
    spoilt.graph.initializer[1].CopyFrom(
        onnx.numpy_helper.from_array((weight + noise).astype(np.float32), "w1")
    )
    worst, *others = layer_errors(original, spoilt, Samples({"x": X}))
    assert worst.name == "layer1"
    assert worst.own_db == pytest.approx(20 * np.log10(1 / 0.05), abs=3)
    assert all(layer.own_db is not None and layer.own_db > 40 for layer in others)


def test_a_graph_compared_with_itself_has_no_noise() -> None:
    assert {e.own_db for e in layer_errors(perceptron(), perceptron(), Samples({"x": X}))} == {
        120.0
    }


def test_weights_are_counted_without_scales() -> None:
    model = perceptron()
    whole = graph.parameters(model)
    assert whole == INPUTS * 256 + 256 * 256 + 256 * 4
    assert graph.parameters(float_inside(model, SCALES)) == whole


def test_int8_edges_compute_what_the_float_graph_computes() -> None:
    model = perceptron()
    stored = np.rint(X / SCALES["x"]).clip(-128, 127).astype(np.int8)
    results = []
    for made in (float_inside(model, SCALES), int8_throughout(model, {"x": X}, SCALES)):
        session = load_session("onnx", made.SerializeToString(), EngineOptions())
        assert (session.inputs[0].dtype, session.outputs[0].dtype) == ("INT8", "INT8")
        results.append(session.run({"x": stored})["y"].astype(int))
    assert np.abs(results[0] - results[1]).mean() < 1.0
    assert (results[0].argmax(axis=1) == results[1].argmax(axis=1)).mean() > 0.9
