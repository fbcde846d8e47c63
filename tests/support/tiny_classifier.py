"""A classifier of a few kilobytes over the tiny encoder's words: the mean of what its words say."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.support.tiny_encoder import WORDS

LABELS = ("greeting", "leak", "reading", "other")
SAID = {"hello": 0, "world": 0, "pump": 1, "leaks": 1, "gauge": 2, "[UNK]": 3}
TABLE = np.zeros((len(WORDS), len(LABELS)), np.float32)
for _word, _label in SAID.items():
    TABLE[WORDS.index(_word), _label] = 12.0

PARAMETERS = {
    "labels": LABELS,
    "out_of_scope": "other",
    "threshold": 0.5,
    "temperature": 2.0,
    "max_tokens": 64,
}


def model() -> bytes:
    """input_ids and attention_mask to logits, [texts, 4]; padding counts for nothing."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["texts", len(LABELS)])
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["there"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["there", "last"], ["weights"]),
        helper.make_node("Mul", ["rows", "weights"], ["said"]),
        helper.make_node("ReduceSum", ["said", "middle"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "middle"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["logits"]),
    ]
    constants = [
        numpy_helper.from_array(TABLE, "table"),
        numpy_helper.from_array(np.array([2]), "last"),
        numpy_helper.from_array(np.array([1]), "middle"),
    ]
    graph = helper.make_graph(nodes, "classifier", inputs, [output], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())
