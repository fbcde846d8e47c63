"""LiteRT over the reference models of MLPerf Tiny."""

from pathlib import Path

import numpy as np
import pytest

from agent.engines.base import EngineOptions, Session
from agent.engines.catalog import load_session
from agent.errors import BadModel, BadTensor
from agent.types import Quantization
from tests.support.packages import random_tensor

OPTIONS = EngineOptions(threads=1)

NAMES = [
    "ad01_fp32", "ad01_int8", "kws_ref_model", "kws_ref_model_float32", "pretrainedResnet",
    "pretrainedResnet_quant", "str_ww_ref_model", "vww_96_float", "vww_96_int8",
]  # fmt: skip


def load(shared_data: Path, name: str) -> Session:
    path = shared_data / "mlperf-tiny" / f"{name}.tflite"
    if not path.exists():
        pytest.skip(f"no {path}")
    return load_session("tflite", path.read_bytes(), OPTIONS)


@pytest.mark.parametrize("name", NAMES)
def test_every_reference_model_runs_alone_and_in_batches(shared_data: Path, name: str) -> None:
    """A batch computes what its rows compute one by one, within a quantization step or rounding."""
    session = load(shared_data, name)
    spec = session.inputs[0]
    x = random_tensor(spec, np.random.default_rng(1), batch=3)
    (batched,) = session.run({spec.name: x}).values()
    singles = [next(iter(session.run({spec.name: x[i : i + 1]}).values())) for i in range(3)]
    assert batched.shape[0] == 3
    tolerance = 1 if batched.dtype == np.int8 else 1e-3
    np.testing.assert_allclose(
        batched.astype(float), np.concatenate(singles).astype(float), atol=tolerance, rtol=1e-3
    )


def test_quantization_is_read_from_the_file(shared_data: Path) -> None:
    session = load(shared_data, "kws_ref_model")
    assert session.inputs[0].quantization == Quantization(0.5847029089927673, 83)
    assert session.outputs[0].quantization == Quantization(0.00390625, -128)


def test_the_int8_keyword_model_is_as_right_as_its_authors_say(shared_data: Path) -> None:
    """At least 90 % of the official inputs, the benchmark's own bound."""
    session = load(shared_data, "kws_ref_model")
    folder = shared_data / "mlperf-tiny" / "kws"
    rows = [line.split(",") for line in (folder / "y_labels.csv").read_text().split()]
    rows = [row for row in rows if (folder / row[0]).exists()]
    inputs = [np.fromfile(folder / row[0], np.int8).reshape(1, 49, 10, 1) for row in rows]
    answers = [int(session.run({"input_1": x})["Identity"].argmax()) for x in inputs]
    right = sum(answer == int(row[2]) for answer, row in zip(answers, rows, strict=True))
    assert right >= 0.9 * len(rows) > 0


def test_outputs_belong_to_the_caller(shared_data: Path) -> None:
    """The next run must not write into an array that was returned."""
    session = load(shared_data, "ad01_int8")
    first = session.run({"input_1": np.zeros((1, 640), np.int8)})["Identity"]
    kept = first.copy()
    session.run({"input_1": np.full((1, 640), 99, np.int8)})
    np.testing.assert_array_equal(first, kept)


def test_an_empty_batch_is_refused_and_the_session_goes_on(shared_data: Path) -> None:
    session = load(shared_data, "vww_96_int8")
    spec = session.inputs[0]
    with pytest.raises(BadTensor, match="empty"):
        session.run({spec.name: np.zeros((0, 96, 96, 3), np.int8)})
    assert session.run({spec.name: np.zeros((1, 96, 96, 3), np.int8)})


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(shared_data: Path, share: float) -> None:
    model = (shared_data / "mlperf-tiny" / "ad01_int8.tflite").read_bytes()
    with pytest.raises(BadModel):
        load_session("tflite", model[: int(len(model) * share)], OPTIONS)


def test_a_missing_operator_is_named(shared_data: Path) -> None:
    """The keyword model with its fully connected layer turned into an operator not yet known."""
    model = bytearray((shared_data / "mlperf-tiny" / "kws_ref_model.tflite").read_bytes())
    spoil_operator_version(model)
    with pytest.raises(BadModel, match="lacks the operator FULLY_CONNECTED"):
        load_session("tflite", bytes(model), OPTIONS)


def spoil_operator_version(model: bytearray) -> None:
    """Raise the version of FULLY_CONNECTED in the file's operator codes."""
    from ai_edge_litert import schema_py_generated as schema

    parsed = schema.Model.GetRootAs(model, 0)
    for index in range(parsed.OperatorCodesLength()):
        code = parsed.OperatorCodes(index)
        if code.DeprecatedBuiltinCode() == schema.BuiltinOperator.FULLY_CONNECTED:
            field = code._tab.Offset(8)
            assert field, "the file leaves the version out"
            model[code._tab.Pos + field] = 120
