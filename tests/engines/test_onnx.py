"""ONNX Runtime over model files written by hand."""

from pathlib import Path

import numpy as np
import pytest

from agent.engines.base import EngineOptions
from agent.engines.catalog import load_session
from agent.errors import BadModel, BadTensor, NotReady
from agent.types import TensorSpec
from tests.support.onnx_model import DOUBLE, external_weights, onnx_model, weights

OPTIONS = EngineOptions(threads=1)


def test_describes_tensors_and_runs() -> None:
    session = load_session("onnx", onnx_model("Neg"), OPTIONS)
    assert session.inputs == (TensorSpec("x", "FP32", (-1, 4)),)
    assert session.outputs == (TensorSpec("y", "FP32", (-1, 4)),)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(session.run({"x": x})["y"], -x)


def test_strided_input_is_taken_as_its_values() -> None:
    session = load_session("onnx", onnx_model("Neg"), OPTIONS)
    x = np.arange(16, dtype=np.float32).reshape(2, 8)[:, ::2]
    np.testing.assert_array_equal(session.run({"x": x})["y"], -x)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((1, 5), np.float32),
        np.zeros(4, np.float32),
        np.zeros((1, 4), np.float64),
        np.zeros((1, 4, 1), np.float32),
    ],
    ids=["size", "rank too low", "dtype", "rank too high"],
)
def test_a_tensor_that_does_not_fit_is_refused_by_name(x: np.ndarray) -> None:  # type: ignore[type-arg]
    session = load_session("onnx", onnx_model("Neg"), OPTIONS)
    with pytest.raises(BadTensor, match="x: expected"):
        session.run({"x": x})


def test_a_closed_session_says_so() -> None:
    session = load_session("onnx", onnx_model("Neg"), OPTIONS)
    session.close()
    session.close()
    with pytest.raises(NotReady):
        session.run({"x": np.zeros((1, 4), np.float32)})


def test_a_missing_operator_of_the_standard_domain_is_named() -> None:
    with pytest.raises(BadModel, match="lacks the operator NoSuchOperator"):
        load_session("onnx", onnx_model("NoSuchOperator"), OPTIONS)


def test_a_missing_operator_of_another_domain_is_named() -> None:
    with pytest.raises(BadModel, match=r"lacks the operator com\.example:Magic"):
        load_session("onnx", onnx_model("Magic", domain="com.example"), OPTIONS)


def test_an_operator_without_a_kernel_for_the_type_is_named() -> None:
    with pytest.raises(BadModel, match="lacks the operator Cos"):
        load_session("onnx", onnx_model("Cos", dtype=DOUBLE), OPTIONS)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(share: float) -> None:
    model = onnx_model("Neg")
    with pytest.raises(BadModel):
        load_session("onnx", model[: int(len(model) * share)], OPTIONS)


def test_weights_inside_the_file_are_used() -> None:
    ones = weights("w", (4,), np.ones(4, np.float32).tobytes())
    model = onnx_model("Add", inputs=("x", "w"), initializers=ones)
    out = load_session("onnx", model, OPTIONS).run({"x": np.zeros((1, 4), np.float32)})["y"]
    np.testing.assert_array_equal(out, np.ones((1, 4), np.float32))


def test_weights_in_another_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those bytes nobody has verified, wherever the process happens to stand."""
    (tmp_path / "w.bin").write_bytes(np.ones(4, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    for location in ("w.bin", str(tmp_path / "w.bin"), "../w.bin"):
        part = external_weights("w", (4,), location)
        model = onnx_model("Add", inputs=("x", "w"), initializers=part)
        with pytest.raises(BadModel):
            load_session("onnx", model, OPTIONS)


def test_strings_are_text_to_the_runtime_and_come_back_as_they_were() -> None:
    session = load_session("onnx", onnx_model("Identity", dtype=8), EngineOptions())
    given = np.array([["a", "", "ü", "b"]], np.object_)
    as_bytes = np.array([[v.encode() for v in given[0]]], np.object_)
    assert session.run({"x": as_bytes})["y"].tolist() == given.tolist()


def test_strings_that_are_no_text_are_refused() -> None:
    session = load_session("onnx", onnx_model("Identity", dtype=8), EngineOptions())
    with pytest.raises(BadTensor, match="UTF-8"):
        session.run({"x": np.array([[b"\xff", b"", b"", b""]], np.object_)})
