"""Real models that crash, loop for ever or eat memory, and behave while they are asked gently."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from agent.engines.worker.program import Answer, Program
from agent.types import Tensors

INT64 = TensorProto.INT64


def _model(graph: onnx.GraphProto) -> bytes:
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return data


def looping_model() -> bytes:
    """Counts to `x`; for 2**62 that takes for ever."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["sum", "one"], ["sum_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", INT64, [1]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_out", INT64, [1]),
        ],
        [helper.make_tensor("one", INT64, [1], [1])],
    )
    loop = helper.make_node("Loop", ["times", "true", "zero"], ["y"], body=body)
    return _model(
        helper.make_graph(
            [helper.make_node("Squeeze", ["x", "axes"], ["times"]), loop],
            "loop",
            [helper.make_tensor_value_info("x", INT64, [1])],
            [helper.make_tensor_value_info("y", INT64, [1])],
            [
                helper.make_tensor("axes", INT64, [1], [0]),
                helper.make_tensor("true", TensorProto.BOOL, [], [True]),
                helper.make_tensor("zero", INT64, [1], [0]),
            ],
        )
    )


def greedy_model() -> bytes:
    """Adds up `x` ones, all of which it puts into memory first."""
    return _model(
        helper.make_graph(
            [
                helper.make_node(
                    "ConstantOfShape",
                    ["x"],
                    ["ones"],
                    value=helper.make_tensor("value", INT64, [1], [1]),
                ),
                helper.make_node("ReduceSum", ["ones"], ["y"], keepdims=1),
            ],
            "greedy",
            [helper.make_tensor_value_info("x", INT64, [1])],
            [helper.make_tensor_value_info("y", INT64, [1])],
        )
    )


class CustomOperator(Program):
    """Runs a model of one custom operator, whose library the options name."""

    def __init__(self, files: Mapping[str, bytes], options: Any) -> None:
        import onnxruntime

        chosen = onnxruntime.SessionOptions()
        chosen.register_custom_ops_library(options)
        self._session = onnxruntime.InferenceSession(
            files["model.onnx"], chosen, providers=["CPUExecutionProvider"]
        )

    def call(self, method: str, payload: Any, tensors: Tensors) -> Answer:
        if method == "echo":
            return payload, {}
        return None, {"y": self._session.run(["y"], dict(tensors))[0]}


def count_to(number: int) -> dict[str, np.ndarray[Any, Any]]:
    """What both models are asked."""
    return {"x": np.array([number], np.int64)}
