"""The trained network as ONNX, written node by node: the same weights give the same bytes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from scenes import SIZE
from torch import nn
from train import BINS, GaugeReader, positions

OPSET = 17
NEAR = 5  # bins whose belief counts as one opinion, 9 % of the scale

#: From the belief on, arithmetic stays in float: it costs nothing, and its range is what matters.
TAIL = ("belief", "value", "row", "sums", "opinion", "confidence")


def float_model(model: GaugeReader) -> onnx.ModelProto:
    """uint8 [n, 96, 96] -> value, float32 [n, 1], share of the scale; confidence, float32 [n], 0 to 1."""
    nodes, weights = _head()
    current = "pixels"
    blocks = list(model.features)
    for index, layer in enumerate(blocks):
        if isinstance(layer, nn.Conv2d):
            after = f"conv{index}"
            weights += _arrays(after, _fused(layer, blocks[index + 1]))
            pad, stride = int(layer.padding[0]), int(layer.stride[0])
            shape = {"pads": [pad] * 4, "strides": [stride] * 2}
            nodes.append(_node("Conv", [current, f"{after}.w", f"{after}.b"], after, **shape))
            nodes.append(_node("Relu", [after], f"{after}.relu"))
            current = f"{after}.relu"
    nodes.append(_node("Flatten", [current], "features"))
    current = "features"
    for index, layer in enumerate(model.head):
        if isinstance(layer, nn.Linear):
            after = f"linear{index}"
            weights += _arrays(after, (layer.weight, layer.bias))
            nodes.append(_node("Gemm", [current, f"{after}.w", f"{after}.b"], after, transB=1))
            current = after
        elif isinstance(layer, nn.ReLU):
            nodes.append(_node("Relu", [current], f"{current}.relu"))
            current = f"{current}.relu"
    tail_nodes, tail_weights = _tail(current)
    return _model([*nodes, *tail_nodes], [*weights, *tail_weights])


def _head() -> tuple[list[Any], list[Any]]:
    """From stored pixels to real ones, [n, 1, 96, 96], 0 to 1."""
    nodes = [
        _node("Cast", ["image"], "real", to=TensorProto.FLOAT),
        _node("Mul", ["real", "shade"], "shaded"),
        _node("Reshape", ["shaded", "channels"], "pixels"),
    ]
    shade = numpy_helper.from_array(np.array(1 / 255, np.float32), "shade")
    channels = numpy_helper.from_array(np.array([-1, 1, SIZE, SIZE], np.int64), "channels")
    return nodes, [shade, channels]


def _tail(logits: str) -> tuple[list[Any], list[Any]]:
    """The expected value, and how much of the belief lies together."""
    nodes = [
        _node("Softmax", [logits], "belief", axis=1),
        _node("MatMul", ["belief", "positions"], "value"),
        _node("Unsqueeze", ["belief", "axis"], "row"),
        _node("AveragePool", ["row"], "sums", kernel_shape=[NEAR]),
        _node("ReduceMax", ["sums"], "opinion", axes=[1, 2], keepdims=0),
        _node("Mul", ["opinion", "near"], "confidence"),
    ]
    weights = [
        numpy_helper.from_array(positions().numpy().reshape(BINS, 1), "positions"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
        numpy_helper.from_array(np.array(NEAR, np.float32), "near"),
    ]
    return nodes, weights


def _fused(conv: nn.Conv2d, norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of a convolution that does its batch normalization's work too."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


def _arrays(name: str, pair: Sequence[torch.Tensor]) -> list[Any]:
    parts = zip(("w", "b"), pair, strict=True)
    return [numpy_helper.from_array(t.detach().numpy(), f"{name}.{part}") for part, t in parts]


def _node(operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
    return helper.make_node(operator, inputs, [output], name=output, **attributes)


def _model(nodes: Sequence[Any], weights: Sequence[Any]) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIZE, SIZE])
    outputs = [
        helper.make_tensor_value_info("value", TensorProto.FLOAT, ["n", 1]),
        helper.make_tensor_value_info("confidence", TensorProto.FLOAT, ["n"]),
    ]
    graph = helper.make_graph(nodes, "gauge-reader", [image], outputs, weights)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8, producer_name="edge-agent")
    onnx.checker.check_model(model, full_check=True)
    return model
