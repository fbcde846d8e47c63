"""What no runtime reads is left out of a package, and nothing else changes by a bit."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.engines.base import EngineOptions
from agent.engines.catalog import load_session
from tests.tools.quantize.conftest import CLASSES, INPUTS, Run, model_of, perceptron
from tools.quantize.family import Artifact
from tools.quantize.onnx.slim import NAMED, slim, slimmed
from tools.quantize.tensors.sameness import same_bits
from tools.quantize.tensors.samples import Samples

X = np.random.default_rng(3).standard_normal((16, INPUTS)).astype(np.float32)


def results(model: onnx.ModelProto, x: np.ndarray = X) -> list[bytes]:
    session = load_session("onnx", model.SerializeToString(), EngineOptions())
    try:
        return [array.tobytes() for array in session.run({"x": x}).values()]
    finally:
        session.close()


def saved(model: onnx.ModelProto, folder: Path, name: str) -> Artifact:
    folder.mkdir(exist_ok=True)
    onnx.save_model(model, str(folder / name))
    return Artifact(folder, {name: "model"}, "onnx")


def wordy() -> onnx.ModelProto:
    """A perceptron with all that is written into a graph for its readers, and a constant twice."""
    model = perceptron()
    graph = model.graph
    model.doc_string = graph.doc_string = "exported at length " * 20
    model.metadata_props.add(key="labels", value="cat,dog")
    for index, node in enumerate(graph.node):
        node.name = f"/encoder/block.{index}/{node.op_type}"
        node.doc_string = "File train.py, line 12 " * 10
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'encoder']")
    graph.value_info.append(helper.make_tensor_value_info("h0", TensorProto.FLOAT, ("n", 256)))
    for name in ("one", "other", "unread"):
        graph.initializer.append(numpy_helper.from_array(np.full(CLASSES, 2, np.float32), name))
    graph.node[-1].output[0] = "before"
    graph.node.append(helper.make_node("Add", ["before", "one"], ["shifted_by_one_constant"]))
    graph.node.append(helper.make_node("Mul", ["shifted_by_one_constant", "other"], ["y"]))
    return model


def test_what_is_written_for_readers_is_left_out_and_the_outputs_stay() -> None:
    before = wordy()
    after = slimmed(before)
    weights = sum(len(tensor.raw_data) for tensor in after.graph.initializer)
    assert after.ByteSize() - weights < 450
    assert results(after) == results(before)
    assert len(after.graph.initializer) == len(perceptron().graph.initializer) + 1
    assert [p.value for p in after.metadata_props] == ["cat,dog"]
    assert before == wordy()  # a copy was made


def test_the_branches_of_a_condition_go_on_reading_what_is_outside_of_them() -> None:
    def branch(name: str, operator: str) -> onnx.GraphProto:
        made = helper.make_tensor_value_info(f"{name}_result", TensorProto.FLOAT, None)
        inner = helper.make_node(operator, ["doubled", "two"], [f"{name}_result"], name=name)
        return helper.make_graph([inner], name, [], [made])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["positive"]),
        helper.make_node("Mul", ["x", "two"], ["doubled"]),
        helper.make_node(
            "If", ["positive"], ["y"],
            then_branch=branch("then", "Add"), else_branch=branch("else", "Sub"),
        ),
    ]  # fmt: skip
    constants = {"two": 2.0, "zero": 0.0}
    weights = [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in constants.items()]
    before = model_of(nodes, weights, ("n", INPUTS), ("n", INPUTS))
    after = slimmed(before)
    onnx.checker.check_model(after, full_check=True)
    for x in (np.abs(X), -np.abs(X)):
        assert results(after, x) == results(before, x)


def test_a_file_that_gives_other_bits_is_not_the_same(tmp_path: Path) -> None:
    model = perceptron()
    before = saved(model, tmp_path / "one", "model.onnx")
    weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[0, 0] *= np.float32(1.001)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w0"))
    after = saved(model, tmp_path / "two", "model.onnx")
    assert same_bits(before, before, Samples({"x": X}))
    assert not same_bits(before, after, Samples({"x": X}))


def test_without_samples_that_prove_it_nothing_is_left_out(tmp_path: Path) -> None:
    made = slim(saved(wordy(), tmp_path, NAMED), None)
    assert made.model.read_bytes() == (tmp_path / NAMED).read_bytes()
    assert list(made.files) == ["model.onnx"]


@pytest.mark.parametrize(
    ("quantized", "original", "share"),
    [
        ("ad01_int8", "ad01_fp32", 0.26),
        ("vww_96_int8", "vww_96_float", 0.295),
        ("pretrainedResnet_quant", "pretrainedResnet", 0.275),
        ("kws_ref_model", "kws_ref_model_float32", 0.34),
    ],
)
def test_a_tflite_file_is_packaged_without_what_no_runtime_reads(
    edge_quantize: Run, shared_data: Path, tmp_path: Path, quantized: str, original: str,
    share: float,
) -> None:  # fmt: skip
    folder, package = shared_data / "mlperf-tiny", tmp_path / "package"
    source = folder / f"{quantized}.tflite"
    edge_quantize(
        "tflite", source, "--float", folder / f"{original}.tflite", "--out", package,
        "--report", tmp_path,
    )  # fmt: skip
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert (package / "model.tflite").stat().st_size <= share * report["original"]["figures"][
        "size"
    ]
    given = Artifact(source.parent, {source.name: "model"}, "tflite")
    made = Artifact(package, {"model.tflite": "model"}, "tflite")
    random = np.random.default_rng(8)
    shape, dtype = _input(given)
    noise = random.integers(-128, 128, (20, *shape[1:])).astype(dtype)
    assert same_bits(given, made, Samples({"input": noise}))


def _input(artifact: Artifact) -> tuple[tuple[int, ...], np.dtype]:
    session = load_session("tflite", artifact.model.read_bytes(), EngineOptions())
    spec = session.inputs[0]
    session.close()
    return spec.shape, np.dtype({"INT8": "i1", "UINT8": "u1"}[spec.dtype])


def test_the_file_as_it_was_given_can_be_had_as_well(
    edge_quantize: Run, shared_data: Path, tmp_path: Path
) -> None:
    source = shared_data / "mlperf-tiny" / "ad01_int8.tflite"
    edge_quantize("tflite", source, "--recipe", "as-given", "--out", tmp_path / "package")
    assert (tmp_path / "package" / "model.tflite").read_bytes() == source.read_bytes()


def test_a_float_file_with_8_bit_weights_is_compared_as_written_out_in_float(
    edge_quantize: Run, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "mlperf-tiny"
    edge_quantize(
        "tflite", folder / "kws_ref_model.tflite", "--report", tmp_path,
        "--evaluate", folder / "kws", "--float", folder / "kws_ref_model_float32.tflite",
    )  # fmt: skip
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert report["original"]["figures"]["size"] > 4 * report["original"]["figures"]["parameters"]
    assert report["original"]["scores"][0]["value"] == pytest.approx(0.906, abs=0.005)
    assert "written out in float" in report["tried"][0]["notes"][0]
