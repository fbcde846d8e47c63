"""The trained network as ONNX, written node by node: the same weights give the same bytes."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from train import WINDOW, Intent

OPSET = 21  # the first with tensors of 4 bits
FAR = -1e4  # added to the attention that padding would get


class _Graph:
    """Nodes and weights as they come; each node is named as what it makes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def weight(self, name: str, array: NDArray[Any]) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def dense(self, layer: Any, given: str, output: str) -> str:
        """A matrix and a bias."""
        matrix = self.weight(f"{output}.w", _array(layer.weight).T)
        product = self.node("MatMul", [given, matrix], f"{output}.product")
        return self.node("Add", [product, self.weight(f"{output}.b", _array(layer.bias))], output)

    def norm(self, layer: Any, given: str, output: str) -> str:
        scale = self.weight(f"{output}.scale", _array(layer.weight))
        shift = self.weight(f"{output}.shift", _array(layer.bias))
        return self.node(
            "LayerNormalization", [given, scale, shift], output, axis=-1, epsilon=layer.eps
        )


def float_model(model: Intent) -> onnx.ModelProto:
    """input_ids and attention_mask, INT64 [texts, tokens] -> logits, FP32 [texts, labels]."""
    made = _Graph()
    made.node("Cast", ["attention_mask"], "there", to=TensorProto.FLOAT)
    made.node("Unsqueeze", ["there", made.weight("axes12", np.array([1, 2]))], "keys")
    made.node("Sub", ["keys", made.weight("one", np.float32(1))], "absent")
    made.node("Mul", ["absent", made.weight("far", np.float32(-FAR))], "bias")
    state = _embedded(made, model.encoder.embeddings)
    for number, layer in enumerate(model.encoder.encoder.layer):
        state = _layer(made, layer, state, f"layer{number}")
    made.node("Unsqueeze", ["there", made.weight("axis2", np.array([2]))], "each")
    made.node("Mul", [state, "each"], "seen")
    made.node("ReduceSum", ["seen", made.weight("axis1", np.array([1]))], "sum", keepdims=0)
    made.node("ReduceSum", ["each", "axis1"], "count", keepdims=0)
    made.node("Div", ["sum", "count"], "mean")
    made.dense(model.last, "mean", "logits")
    return _finished(made, model.last.out_features)


def _embedded(made: _Graph, layer: Any) -> str:
    """Words and their places; there is one kind of text only, so that its row is in the places."""
    table = made.weight("words", _array(layer.word_embeddings.weight))
    places = _array(layer.position_embeddings.weight)[:WINDOW]
    places = places + _array(layer.token_type_embeddings.weight)[0]
    made.node("Gather", [table, "input_ids"], "rows")
    made.node("Shape", ["input_ids"], "tokens", start=1, end=2)
    none = made.weight("none", np.array([0]))
    made.node("Slice", [made.weight("places", places), none, "tokens"], "placed")
    made.node("Add", ["rows", "placed"], "words_there")
    return made.norm(layer.LayerNorm, "words_there", "embedded")


def _layer(made: _Graph, layer: Any, state: str, name: str) -> str:
    """One layer of BERT (Devlin and others 2019): attention, then two dense ones."""
    heard = _attention(made, layer.attention, state, name)
    wide = made.dense(layer.intermediate.dense, heard, f"{name}.wide")
    made.node("Gelu", [wide], f"{name}.gelu")
    narrow = made.dense(layer.output.dense, f"{name}.gelu", f"{name}.narrow")
    made.node("Add", [narrow, heard], f"{name}.both")
    return made.norm(layer.output.LayerNorm, f"{name}.both", f"{name}.out")


def _attention(made: _Graph, layer: Any, state: str, name: str) -> str:
    own, size = layer.self, layer.self.attention_head_size
    heads = own.num_attention_heads
    split = made.weight(f"{name}.split", np.array([0, 0, heads, size]))
    parts = {
        part: _heads(made, getattr(own, part), state, f"{name}.{part}", split, order)
        for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3]))
    }
    made.node("MatMul", [parts["query"], parts["key"]], f"{name}.scores")
    scale = made.weight(f"{name}.scale", np.float32(size**-0.5))
    made.node("Mul", [f"{name}.scores", scale], f"{name}.scaled")
    made.node("Add", [f"{name}.scaled", "bias"], f"{name}.masked")
    made.node("Softmax", [f"{name}.masked"], f"{name}.shares", axis=-1)
    made.node("MatMul", [f"{name}.shares", parts["value"]], f"{name}.context")
    made.node("Transpose", [f"{name}.context"], f"{name}.turned", perm=[0, 2, 1, 3])
    whole = made.weight(f"{name}.whole", np.array([0, 0, heads * size]))
    made.node("Reshape", [f"{name}.turned", whole], f"{name}.joined")
    said = made.dense(layer.output.dense, f"{name}.joined", f"{name}.said")
    made.node("Add", [said, state], f"{name}.heard_and_was")
    return made.norm(layer.output.LayerNorm, f"{name}.heard_and_was", f"{name}.heard")


def _heads(made: _Graph, layer: Any, state: str, name: str, split: str, order: list[int]) -> str:
    dense = made.dense(layer, state, name)
    made.node("Reshape", [dense, split], f"{name}.split")
    return made.node("Transpose", [f"{name}.split"], f"{name}.heads", perm=order)


def _finished(made: _Graph, labels: int) -> onnx.ModelProto:
    free = ["texts", "tokens"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, free)
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["texts", labels])
    graph = helper.make_graph(made.nodes, "intent", inputs, [output], made.weights)
    opset = [helper.make_opsetid("", OPSET)]
    whole = helper.make_model(graph, opset_imports=opset, ir_version=10, producer_name="edge-agent")
    onnx.checker.check_model(whole, full_check=True)
    return whole


def _array(tensor: Any) -> NDArray[np.float32]:
    found: NDArray[np.float32] = tensor.detach().numpy()
    return found
