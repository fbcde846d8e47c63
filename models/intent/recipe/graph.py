"""The trained network as ONNX, written node by node: the same weights give the same bytes."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from train import Intent

OPSET = 17


def float_model(model: Intent) -> onnx.ModelProto:
    """input_ids and attention_mask, INT64 [texts, tokens] -> logits, FP32 [texts, labels]."""
    free = ["texts", "tokens"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, free)
        for name in ("input_ids", "attention_mask")
    ]
    labels = model.last.out_features
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["texts", labels])
    nodes = [
        _node("Gather", ["vectors", "input_ids"], "rows"),
        _node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT),
        _node("Unsqueeze", ["mask", "axis2"], "there"),
        _node("MatMul", ["rows", "each.w"], "each"),
        _node("Add", ["each", "each.b"], "shifted"),
        _node("Relu", ["shifted"], "seen_all"),
        _node("Mul", ["seen_all", "there"], "seen"),
        _node("ReduceSum", ["seen", "axis1"], "sum", keepdims=0),
        _node("ReduceSum", ["there", "axis1"], "count", keepdims=0),
        _node("Div", ["sum", "count"], "mean"),
        _node("ReduceMax", ["seen"], "largest", axes=[1], keepdims=0),
        _node("Concat", ["mean", "largest"], "pooled", axis=1),
        _node("MatMul", ["pooled", "last.w"], "last"),
        _node("Add", ["last", "last.b"], "logits"),
    ]
    graph = helper.make_graph(nodes, "intent", inputs, [output], _weights(model))
    opset = [helper.make_opsetid("", OPSET)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=8, producer_name="edge-agent")
    onnx.checker.check_model(made, full_check=True)
    return made


def _weights(model: Intent) -> list[Any]:
    arrays = {
        "vectors": model.vectors.numpy(),
        "each.w": model.each.weight.detach().numpy().T.copy(),
        "each.b": model.each.bias.detach().numpy(),
        "last.w": model.last.weight.detach().numpy().T.copy(),
        "last.b": model.last.bias.detach().numpy(),
        "axis1": np.array([1], np.int64),
        "axis2": np.array([2], np.int64),
    }
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]


def _node(operator: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    return helper.make_node(operator, inputs, [output], name=output, **attributes)
