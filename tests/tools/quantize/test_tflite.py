"""Quantized TensorFlow Lite files against their float ones: MLPerf Tiny's models."""

import json
from pathlib import Path

import numpy as np
import pytest

from agent.registry.trial import try_model
from agent.trust.manifest import parse_manifest
from tests.tools.quantize.conftest import Run


@pytest.mark.parametrize(
    ("quantized", "original"),
    [
        ("ad01_int8", "ad01_fp32"),
        ("vww_96_int8", "vww_96_float"),
        ("pretrainedResnet_quant", "pretrainedResnet"),
    ],
)
def test_a_quantized_file_is_compared_with_its_float_one_and_packaged(
    edge_quantize: Run, shared_data: Path, tmp_path: Path, quantized: str, original: str
) -> None:
    folder, package = shared_data / "mlperf-tiny", tmp_path / "package"
    edge_quantize(
        "tflite", folder / f"{quantized}.tflite", "--float", folder / f"{original}.tflite",
        "--out", package, "--report", tmp_path,
    )  # fmt: skip
    manifest = parse_manifest((package / "model.toml").read_bytes())
    try_model(manifest, {f.path: (package / f.path).read_bytes() for f in manifest.files})
    found = json.loads((tmp_path / "report.json").read_bytes())
    assert found["original"]["figures"]["runs"] > 0
    assert found["tried"][0]["figures"]["runs"] > 0
    assert found["tried"][0]["layers"]
    assert "generated inputs, no recordings" in found["data"]


def test_the_keyword_model_loses_nothing_on_its_labelled_words(
    edge_quantize: Run, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "mlperf-tiny"
    edge_quantize(
        "tflite", folder / "kws_ref_model.tflite", "--evaluate", folder / "kws",
        "--float", folder / "kws_ref_model_float32.tflite", "--max-drop", "1%",
        "--out", tmp_path / "package", "--report", tmp_path,
    )  # fmt: skip
    scores = json.loads((tmp_path / "report.json").read_bytes())["tried"][0]["scores"]
    assert scores[0]["metric"] == "accuracy"
    assert scores[0]["value"] > 0.9
    assert len([s for s in scores if s["slice"].startswith("class ")]) == 12


def test_a_quantized_file_alone_is_packaged_and_nothing_is_said_to_be_compared(
    edge_quantize: Run, shared_data: Path, tmp_path: Path
) -> None:
    source = shared_data / "mlperf-tiny" / "str_ww_ref_model.tflite"
    edge_quantize("tflite", source, "--out", tmp_path / "package", "--report", tmp_path)
    assert (tmp_path / "package" / "model.toml").exists()
    found = json.loads((tmp_path / "report.json").read_bytes())
    assert found["original"] is None
    assert found["tried"][0]["scores"] == []
    assert found["data"].endswith("they show that the model runs, not how good it is")


def test_a_float_file_is_not_taken_for_a_quantized_one(
    edge_quantize: Run, shared_data: Path, tmp_path: Path
) -> None:
    source = shared_data / "mlperf-tiny" / "ad01_fp32.tflite"
    done = edge_quantize("tflite", source, "--out", tmp_path / "package", status=2)
    assert "most of its weights are not quantized" in done.stderr
    assert not (tmp_path / "package").exists()


def test_a_loss_cannot_be_limited_without_the_float_file(
    edge_quantize: Run, shared_data: Path
) -> None:
    source = shared_data / "mlperf-tiny" / "ad01_int8.tflite"
    done = edge_quantize("tflite", source, "--max-drop", "1%", status=2)
    assert "--float" in done.stderr


@pytest.mark.parametrize(
    "content", [b"", b"TFL3", b"\x00" * 64, b"\x1c\x00\x00\x00TFL3" + b"\xff" * 64]
)
def test_a_file_that_is_no_model(edge_quantize: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.tflite").write_bytes(content)
    done = edge_quantize("tflite", tmp_path / "broken.tflite", status=2)
    assert "[model.invalid]" in done.stderr
    assert str(tmp_path / "broken.tflite") in done.stderr


def test_the_float_file_of_another_model_is_not_compared_with(
    edge_quantize: Run, shared_data: Path
) -> None:
    folder = shared_data / "mlperf-tiny"
    done = edge_quantize(
        "tflite", folder / "ad01_int8.tflite", "--float", folder / "vww_96_float.tflite", status=2
    )
    assert "not the same model in float" in done.stderr
    assert "[-1, 96, 96, 3]" in done.stderr


@pytest.mark.parametrize(("custom", "version"), [(b"FooBar", 1), (None, 99)])
def test_an_operator_that_the_runtime_lacks_is_named_with_its_node(
    edge_quantize: Run, tmp_path: Path, custom: bytes | None, version: int
) -> None:
    path = tmp_path / "odd.tflite"
    path.write_bytes(of_one_operator(custom, version))
    done = edge_quantize("tflite", path, status=2)
    place = f"{path}: subgraph main, node 0 (y)"
    assert (
        f"{place}: the runtime lacks the operator {'FooBar' if custom else 'RELU'}" in done.stderr
    )


def of_one_operator(custom: bytes | None, version: int) -> bytes:
    """A custom operator, or a RELU of a version."""
    from tools.quantize.tflite.flatbuffer import packed, schema

    code, node = schema.OperatorCodeT(), schema.OperatorT()
    kind = schema.BuiltinOperator.CUSTOM if custom else schema.BuiltinOperator.RELU
    code.builtinCode = code.deprecatedBuiltinCode = kind
    code.customCode, code.version = custom, version
    graph = schema.SubGraphT()
    graph.name, graph.tensors, graph.operators = b"main", [], [node]
    for name in (b"x", b"y"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape = name, np.array([1, 4], np.int32)
        graph.tensors.append(tensor)
    graph.inputs = node.inputs = np.array([0], np.int32)
    graph.outputs = node.outputs = np.array([1], np.int32)
    node.opcodeIndex = 0
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT()]
    return packed(model)
