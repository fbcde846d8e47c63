"""From the trained network to an int8 ONNX file whose input and output are int8 themselves."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from torch import nn

OPSET = 17
OUTPUT_SCALE = 0.125  # log-odds; int8 then reaches from -16 to 15.9
BATCH = 256


class Batches(CalibrationDataReader):
    """Calibration windows, a batch at a time."""

    def __init__(self, windows: NDArray[np.float32]) -> None:
        self._batches: Iterator[NDArray[np.float32]] = iter(
            np.array_split(windows, max(1, len(windows) // BATCH))
        )

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"window": batch}


def float_model(network: nn.Sequential, points: int) -> onnx.ModelProto:
    """The network as ONNX, written node by node: the same weights give the same bytes."""
    nodes, weights, current = [], [], "window"
    for index, layer in enumerate(network):
        after = f"t{index}" if index < len(network) - 1 else "evidence"
        inputs, operator, attributes = [current], "Relu", {}
        if isinstance(layer, nn.Conv1d | nn.Linear):
            inputs += [f"w{index}", f"b{index}"]
            parameters = zip(inputs[1:], (layer.weight, layer.bias), strict=True)
            weights += [numpy_helper.from_array(p.detach().numpy(), n) for n, p in parameters]
        if isinstance(layer, nn.Conv1d):
            pad, stride = int(layer.padding[0]), int(layer.stride[0])
            operator, attributes = "Conv", {"pads": [pad, pad], "strides": [stride]}
        elif isinstance(layer, nn.Linear):
            operator, attributes = "Gemm", {"transB": 1}
        elif isinstance(layer, nn.Flatten):
            operator = "Flatten"
        nodes.append(helper.make_node(operator, inputs, [after], name=f"n{index}", **attributes))
        current = after
    graph = helper.make_graph(
        nodes,
        "pump-anomaly",
        [helper.make_tensor_value_info("window", TensorProto.FLOAT, ["n", 3, points])],
        [helper.make_tensor_value_info("evidence", TensorProto.FLOAT, ["n", 2])],
        weights,
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8, producer_name="edge-agent")


def quantized(
    model: onnx.ModelProto, windows: NDArray[np.float32], scale: float
) -> onnx.ModelProto:
    """Static int8, per channel, calibrated on `windows`; the edges become int8."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, before)
        quantize_static(
            before,
            after,
            Batches(windows),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "TensorQuantOverrides": {
                    "window": [_fixed(scale)],
                    "evidence": [_fixed(OUTPUT_SCALE)],
                }
            },
        )
        return _int8_edges(onnx.load(after))


def _fixed(scale: float) -> dict[str, Any]:
    return {
        "quant_type": QuantType.QInt8,
        "scale": np.array(scale, np.float32),
        "zero_point": np.array(0, np.int8),
    }


def _int8_edges(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take the first QuantizeLinear and the last DequantizeLinear away."""
    graph = model.graph
    first = next(n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "window")
    last = next(
        n for n in graph.node if n.op_type == "DequantizeLinear" and n.output[0] == "evidence"
    )
    _rename(graph.node, first.output[0], "window")
    _rename(graph.node, last.input[0], "evidence")
    graph.node.remove(first)
    graph.node.remove(last)
    for edge in (graph.input[0], graph.output[0]):
        edge.type.tensor_type.elem_type = TensorProto.INT8
    del graph.value_info[:]
    onnx.checker.check_model(model)
    return model


def _rename(nodes: Sequence[onnx.NodeProto], old: str, new: str) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
