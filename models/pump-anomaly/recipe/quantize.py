"""From the trained network to an int8 ONNX file whose input and output are int8 themselves."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from train import SCALE

from tools.quantize.onnx.edges import int8_throughout

OPSET = 17
EDGES = {
    "window": SCALE,
    "evidence": 0.125,  # log-odds; int8 then reaches from -16 to 15.9
}


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


def quantized(model: onnx.ModelProto, windows: NDArray[np.float32]) -> onnx.ModelProto:
    """Static int8, per channel, calibrated on `windows`; the edges become int8."""
    return int8_throughout(model, {"window": windows}, EDGES)
